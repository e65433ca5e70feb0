"""Which members a payload may have, looked at once per message type that is no msgspec Struct."""

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from channels_secure.policy.schemas import TYPE_IS_OURS

NO_OBJECT = "no message fits this type: a message is a JSON object"


def payload_members(schema: Any) -> frozenset[str]:
    """The members that a schema declares, by their names on the wire; empty for types without any.

    Raises:
        TypeError: it cannot be a payload: msgspec does not know such a type, no object fits it, or it declares `type`.
    """
    is_model = hasattr(schema, "__pydantic_fields__")
    members = frozenset(_members_of_model(schema) if is_model else _members_of(msgspec.inspect.type_info(schema)))
    if "type" in members:
        raise TypeError(TYPE_IS_OURS)
    return members


def _members_of_model(model: Any) -> Iterator[str]:
    """The members of a pydantic model; a RootModel has those of what it wraps."""
    fields = model.__pydantic_fields__
    if not getattr(model, "__pydantic_root_model__", False):
        yield from (str(field.validation_alias or field.alias or name) for name, field in fields.items())
        return
    wrapped = fields["root"].annotation
    for each in (wrapped, *get_args(wrapped)):
        if hasattr(each, "__pydantic_fields__"):
            yield from _members_of_model(each)


def _members_of(info: msgspec.inspect.Type) -> Iterator[str]:
    objects = [option for option in _options(info) if _is_object(option)]
    if not objects:
        raise TypeError(NO_OBJECT)
    for option in objects:
        yield from (field.encode_name for field in getattr(option, "fields", ()))
    tags = [option.tag_field for option in objects if isinstance(option, msgspec.inspect.StructType)]
    if len(tags) > 1:
        # One Struct alone is known without its tag.
        yield from (tag for tag in tags if tag is not None)


def _options(info: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """The types of a union, or the one that is none."""
    if isinstance(info, msgspec.inspect.Metadata):
        yield from _options(info.type)
    elif isinstance(info, msgspec.inspect.UnionType):
        for option in info.types:
            yield from _options(option)
    else:
        yield info


def _is_object(info: msgspec.inspect.Type) -> bool:
    """Whether a JSON object can be of this type."""
    if isinstance(info, msgspec.inspect.StructType):
        return not info.array_like
    if isinstance(info, msgspec.inspect.CustomType):
        # msgspec takes what it reads, if it is an instance.
        return issubclass(dict, info.cls)
    return isinstance(
        info,
        msgspec.inspect.AnyType
        | msgspec.inspect.RawType
        | msgspec.inspect.DictType
        | msgspec.inspect.TypedDictType
        | msgspec.inspect.DataclassType,
    )
