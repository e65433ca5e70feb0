"""Pydantic models as message schemas; the only module that imports pydantic."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from channels_secure.policy.decisions import FieldError
from channels_secure.policy.schemas import PayloadError

MAX_MESSAGE = 200


class PydanticDecoder:
    """Decodes payloads with a pydantic model.

    Pydantic's messages name limits and types, but a custom validator's text and the location of an unknown member may
    repeat client input; those are replaced.
    """

    def __init__(self, model: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(model)
        self._names = _declared_names(self._adapter.json_schema())

    def decode(self, payload: bytes, /) -> Any:
        try:
            return self._adapter.validate_json(payload)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
        raise PayloadError(tuple(self._describe(item) for item in found))

    def _describe(self, item: Any) -> FieldError:
        if item["type"] == "extra_forbidden":
            return FieldError(self._path(item["loc"][:-1]), "Unknown field")
        if item["type"] == "missing":
            return FieldError(self._path(item["loc"]), "Required")
        if item["type"] in ("value_error", "assertion_error") or "custom" in item["type"]:
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
