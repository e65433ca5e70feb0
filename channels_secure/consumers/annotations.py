"""The schema of a message: what the annotation of its handler's parameter says."""

import inspect
from typing import Any, get_type_hints

import msgspec

from channels_secure.consumers.misdeclared import BadDeclaration
from channels_secure.policy.schemas import PayloadDecoder


def schema_of(consumer: type, name: str) -> Any:
    """The schema of a declared handler.

    Raises:
        BadDeclaration: the method has none.
    """
    method = getattr(consumer, name)
    where = f"{consumer.__qualname__}.{name}"
    parameters = list(inspect.signature(method).parameters)
    if len(parameters) != 2:
        raise BadDeclaration(f"{where}: a handler takes exactly one parameter besides self, the message")
    try:
        hints = get_type_hints(method, include_extras=True)
    except Exception as error:  # noqa: BLE001 - an annotation may be any expression
        raise BadDeclaration(f"{where}: its annotation cannot be read ({error})") from None
    if parameters[1] not in hints:
        raise BadDeclaration(f"{where}: annotate {parameters[1]!r}; the annotation is the message's schema")
    return hints[parameters[1]]


def payload_decoder(schema: Any) -> PayloadDecoder:
    """The decoder of a schema that is no msgspec Struct: a pydantic model's own, else msgspec's.

    Raises:
        TypeError: such a type cannot be decoded.
    """
    if hasattr(schema, "__pydantic_validator__"):
        from channels_secure.consumers.pydantic_schemas import PydanticDecoder

        return PydanticDecoder(schema)
    return msgspec.json.Decoder(schema)
