"""Pydantic models as message schemas; the only module that imports pydantic."""

from typing import Any, Literal

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from channels_secure.policy.decisions import FieldError
from channels_secure.policy.payloads import NO_OBJECT
from channels_secure.policy.schemas import PayloadError

MAX_MESSAGE = 200
# What pydantic puts into its messages and takes from the schema; other things (`tag`, `error`) it takes from the input.
FROM_THE_SCHEMA = frozenset(
    {"gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "actual_length", "field_type", "pattern",
     "expected", "expected_schemes", "expected_tags", "discriminator", "class", "class_name", "max_digits",
     "decimal_places", "whole_digits", "tz_expected", "expected_version"}
)  # fmt: skip


class PydanticDecoder:
    """Decodes payloads with a pydantic model.

    Pydantic's messages name limits and types, but some repeat client input, as do a custom validator's text and the
    location of an unknown member; those are replaced.
    """

    def __init__(self, model: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(model)
        schema = self._adapter.json_schema()
        if schema.get("type", "object") != "object":
            raise TypeError(NO_OBJECT)
        self._names = _declared_names(schema)

    def decode(self, payload: bytes, /) -> Any:
        try:
            return self._adapter.validate_json(payload)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
        raise PayloadError(tuple(self._describe(item) for item in found))

    def _describe(self, item: Any) -> FieldError:
        if item["type"] == "extra_forbidden":
            return FieldError(self._path(item["loc"][:-1]), "Unknown field")
        if item["type"] == "missing":
            return FieldError(self._path(item["loc"]), "Required")
        if "custom" in item["type"] or not FROM_THE_SCHEMA.issuperset(item.get("ctx", ())):
            return FieldError(self._path(item["loc"]), "Invalid value")
        return FieldError(self._path(item["loc"]), item["msg"][:MAX_MESSAGE])

    def _path(self, location: tuple[str | int, ...]) -> str:
        path = ""
        for step in location:
            if isinstance(step, int):
                path += f"[{step}]"
            else:
                path += f".{step}" if step in self._names else "[...]"
        return path.lstrip(".")


def _declared_names(schema: Any) -> frozenset[str]:
    """Every member name that a JSON Schema declares, at any depth."""
    names: set[str] = set()
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            properties = node.get("properties")
            names.update(properties if isinstance(properties, dict) else ())
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return frozenset(names)


def json_schema(model: Any, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    """The JSON Schema of a model, its parts in ``$defs`` and referred to by their bare names.

    Raises:
        ValueError, TypeError: a schema of the project's own cannot be written as JSON Schema.
    """
    try:
        return TypeAdapter(model).json_schema(mode=mode, ref_template="{model}")
    except PydanticUserError as error:
        raise TypeError(str(error)) from error
