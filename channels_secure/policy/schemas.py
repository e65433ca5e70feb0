"""Schemas: what the payload of each message type looks like, prepared once per consumer class.

A message is an envelope (`type`, `id`) around a payload. For a msgspec Struct the envelope is added to a derived
class, so that one decode reads both; the user's class never sees the envelope.
"""

from collections.abc import Callable
from dataclasses import dataclass
from keyword import iskeyword
from typing import Annotated, Any, Protocol

import msgspec

from channels_secure.policy.decisions import FieldError
from channels_secure.policy.wellformed import MAX_INTEGER

Ref = str | int | None
# An id comes back in an error frame, so its size is the client's to choose only up to here.
MAX_ID_LENGTH = 64
_Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Id = Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)] | _Integer
_ID_FIELD = "envelope_id"
TYPE_IS_OURS = "`type` belongs to the envelope: name the field otherwise, or give a union's Structs another `tag_field`"


class PayloadError(ValueError):
    """A payload does not fit its schema; `errors` never repeat client input."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        self.errors = errors
        super().__init__("the payload does not fit the schema")


class PayloadDecoder(Protocol):
    """Decodes a payload (JSON bytes without the envelope); raises msgspec.ValidationError or PayloadError."""

    def decode(self, payload: bytes, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message type whose payload and envelope are read in one decode.

    Args:
        name: the message's `type`.
        struct: the derived Struct that the decoder knows.
        build: turns an instance of it into the user's own Struct.
        reads_id: the name of the attribute that holds the message's `id`.
        derives_id: whether that attribute is ours; False where the schema declares `id` itself.
        keys: how many members the smallest valid message has, an `id` of ours not counted. A text with exactly as many
            colons holds each required key once and nothing else, so it has neither duplicates nor unknown members.
        plain: whether such a text can hold no number out of range and no deep nesting.
    """

    name: str
    struct: type[msgspec.Struct]
    build: Callable[[Any], Any]
    reads_id: str
    derives_id: bool
    keys: int
    plain: bool


def envelop(name: str, schema: type[msgspec.Struct]) -> Envelope:
    """Derive the Struct that reads the message type `name`.

    Raises:
        TypeError: the schema cannot be read from a JSON object with a `type`.
    """
    info = msgspec.inspect.type_info(schema)
    if not isinstance(info, msgspec.inspect.StructType) or info.array_like:
        raise TypeError("array_like Structs cannot be messages: a message is a JSON object")
    own = {field.encode_name: field.name for field in info.fields}
    if "type" in own:
        raise TypeError(TYPE_IS_OURS)
    fields: list[Any] = []
    if "id" not in own:
        fields.append((_ID_FIELD, Id | None, msgspec.field(default=None, name="id")))
    derived = msgspec.defstruct(
        f"{schema.__name__}Message",
        fields,
        bases=(schema,),
        tag=name,
        tag_field="type",
        kw_only=True,
        # The true instance is built afterwards and runs its own __post_init__, once.
        namespace={"__post_init__": _nothing} if hasattr(schema, "__post_init__") else None,
        module=schema.__module__,
    )
    required = [field for field in info.fields if field.required]
    return Envelope(
        name=name,
        struct=derived,
        build=_builder(schema, [field.name for field in info.fields]),
        reads_id=own.get("id", _ID_FIELD),
        derives_id="id" not in own,
        keys=1 + sum(1 + _required_keys(field.type) for field in required),
        plain=all(_is_plain(field.type) for field in required),
    )


def _nothing(self: Any) -> None:
    """Stands in for the user's __post_init__ while the envelope is decoded."""


def _builder(schema: type[msgspec.Struct], names: list[str]) -> Callable[[Any], Any]:
    """A function that makes the schema's own Struct of a derived one's fields.

    Written out as dataclasses writes its methods: one call for a message instead of three. Field names are Python's
    identifiers, and a class body that says otherwise is no class.
    """
    if not all(name.isidentifier() and not iskeyword(name) for name in names):
        raise TypeError("a field's name is an identifier; rename it on the wire with msgspec.field(name=...)")
    in_order = schema.__match_args__ == tuple(names)
    arguments = ", ".join(f"message.{name}" if in_order else f"{name}=message.{name}" for name in names)
    build: Callable[[Any], Any] = eval(f"lambda message: schema({arguments})", {"schema": schema})  # noqa: S307
    return build


def _required_keys(info: msgspec.inspect.Type) -> int:
    """How many keys every valid value of this type has: a lower bound."""
    if not isinstance(info, msgspec.inspect.StructType) or info.array_like:
        return 0
    # A tag is required in unions only.
    return sum(1 + _required_keys(field.type) for field in info.fields if field.required)


def _is_plain(info: msgspec.inspect.Type) -> bool:
    """Whether no value of this type can hold a number out of range or nest at all.

    A float can: msgspec reads integers of any length into it.
    """
    if isinstance(info, msgspec.inspect.IntType):
        low = info.ge if info.ge is not None else info.gt
        high = info.le if info.le is not None else info.lt
        return low is not None and high is not None and low >= -MAX_INTEGER and high <= MAX_INTEGER
    if isinstance(info, msgspec.inspect.UnionType):
        return all(_is_plain(option) for option in info.types)
    return isinstance(
        info,
        msgspec.inspect.StrType
        | msgspec.inspect.BoolType
        | msgspec.inspect.NoneType
        | msgspec.inspect.LiteralType
        | msgspec.inspect.EnumType
        | msgspec.inspect.DateTimeType
        | msgspec.inspect.UUIDType,
    )
