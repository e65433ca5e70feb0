"""The messages of one consumer class, those it takes and those it sends."""

import inspect
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from channels_secure.asyncapi.envelopes import enveloped, opened, without_tag
from channels_secure.asyncapi.names import Use
from channels_secure.asyncapi.schemas import Schema, Sketch, Undescribable, sketch
from channels_secure.consumers.annotations import schema_of
from channels_secure.consumers.handlers import Declaration, Plan, declarations

# A line that goes on in the next; lists and indented blocks keep their lines.
_WRAPPED = re.compile(r"(?<=\S)\n(?=[^\s*\-+0-9])")
Direction = Literal["receive", "send"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One type of message.

    Args:
        direction: "receive" for what clients send and the server receives.
        name: what the message is called on the wire, or by its type where it has no name there.
        key: the name it would like to have in a document.
        owner: what is put before that name where it is not clear alone.
        declaration: what `@handles` says of it.
        answers: the keys of the messages that are sent in answer.
        correlated: the member by which an answer finds its question, if it has one.
        is_frame: it is one of the package's own.
    """

    direction: Direction
    name: str
    key: str
    owner: str
    payload: Sketch
    description: str = ""
    declaration: Declaration | None = None
    answers: Sequence[str] = ()
    correlated: str = ""
    is_frame: bool = False

    def use(self) -> Use:
        """The message under the name it would like to have."""
        content = (self.payload.content(), self.direction, self.description)
        return Use(name=self.key, owner=f"{self.owner}.{self.direction}s", content=content)


def documentation(thing: Any) -> str:
    """The docstring of a class or method, as far as the project wrote it, each paragraph on one line.

    A class does not inherit its base's words about itself, and a dataclass has its signature for want of words.
    """
    if isinstance(thing, type):
        text = vars(thing).get("__doc__")
        if not isinstance(text, str) or (text.startswith(f"{thing.__name__}(") and text.endswith(")")):
            return ""
    else:
        # What `database_sync_to_async` makes has words of its own.
        text = inspect.getdoc(getattr(thing, "func", thing)) or ""
    return _WRAPPED.sub(" ", inspect.cleandoc(text))


def received(consumer: type, plan: Plan) -> Iterator[Message]:
    """What clients of a consumer may send, by type."""
    if not plan.typed:
        yield _value(consumer)
        return
    for method, declaration in sorted(declarations(consumer), key=lambda each: each[1].type):
        schema = schema_of(consumer, method)
        payload = sketch(schema, f"{consumer.__qualname__}.{method}")
        yield Message(
            direction="receive",
            name=declaration.type,
            key=declaration.type,
            owner=consumer.__name__,
            payload=enveloped(without_tag(payload, schema), declaration.type).pruned(),
            description=documentation(inspect.getattr_static(consumer, method)) or _words_of(schema),
            declaration=declaration,
            answers=("ErrorFrame",),
            correlated="id",
        )


def _words_of(schema: Any) -> str:
    """What the project says of a type of its own; Python has words about `dict` and `Any`, which are not about this."""
    is_own = isinstance(schema, type) and schema.__module__ not in ("builtins", "typing")
    return documentation(schema) if is_own else ""


def _value(consumer: type) -> Message:
    """The one message of a class that declares none."""
    return Message(
        direction="receive",
        name="value",
        key="value",
        owner=consumer.__name__,
        payload=Sketch(root={}, parts={}),
        description="Any well-formed JSON value.",
    )


def sent(consumer: Any) -> list[Message]:
    """What a consumer says that it sends.

    Raises:
        Undescribable: one of the types cannot be described.
    """
    if not isinstance(consumer.sends, tuple | list):
        raise Undescribable(f"{consumer.__qualname__}.sends is a tuple of types, such as `sends = (Said,)`")
    members = [member for declared in consumer.sends for member in _members(declared)]
    messages = [_outgoing(member, consumer.__name__, f"{consumer.__qualname__}.sends") for member in members]
    return sorted(messages, key=lambda message: message.name)


def unclear_sends(consumer: Any) -> list[str]:
    """What is wrong with a consumer's `sends`, for the system check."""
    try:
        messages = sent(consumer)
    except Undescribable as error:
        return [str(error)]
    return [
        f"{consumer.__qualname__}.sends: {message.name} has neither a tag nor a member `type` that is a Literal, so"
        " clients cannot tell it from other messages"
        for message in messages
        if not tags_of(message.payload)
    ]


def _members(declared: Any) -> Iterator[Any]:
    """The types of a union, or the one that is none."""
    if get_origin(declared) in (Union, types.UnionType):
        for member in get_args(declared):
            yield from _members(member)
    else:
        yield declared


def _outgoing(schema: Any, owner: str, where: str) -> Message:
    payload = sketch(schema, f"{where}: {_title(schema)}", sends=True)
    payload = Sketch(root=_complete(schema, opened(payload.root, payload.parts)), parts=payload.parts)
    tags = tags_of(payload)
    name = tags[0] if len(tags) == 1 else _title(schema)
    return Message(
        direction="send",
        name=name,
        key=name,
        owner=owner,
        payload=payload.pruned(),
        description=_words_of(schema),
    )


def _complete(schema: Any, root: Schema) -> Schema:
    """A member `type` with a default is sent all the same, unless the Struct leaves defaults out."""
    if isinstance(root, bool) or "type" not in root.get("properties", {}):
        return root
    required = root.get("required", [])
    if "type" in required:
        return root
    omits = getattr(getattr(schema, "__struct_config__", None), "omit_defaults", False)
    if omits:
        return {**root, "properties": {key: each for key, each in root["properties"].items() if key != "type"}}
    return {**root, "required": ["type", *required]}


def _title(schema: Any) -> str:
    return str(getattr(schema, "__name__", schema))


def tags_of(payload: Sketch) -> list[str]:
    """The values that the member `type` of a message may have, as far as its schema names them."""
    root = payload.root
    member = root.get("properties", {}).get("type", {}) if isinstance(root, dict) else {}
    member = opened(member, payload.parts)
    if isinstance(member, bool):
        return []
    values = member.get("enum", [member["const"]] if "const" in member else [])
    return values if all(isinstance(value, str) for value in values) else []
