"""The envelope around a payload: `type`, `id`, and what they do to the payload's own schema."""

from collections.abc import Mapping
from typing import Any

import msgspec

from channels_secure.asyncapi.schemas import Schema, Sketch, sketch
from channels_secure.policy.schemas import Id

# Alternatives at the top of a schema; each of them gets the envelope.
_CHOICES = ("anyOf", "oneOf")
_NEVER: dict[str, Any] = {"not": {}}
IDENTIFIER = sketch(Id | None, "id").root


def enveloped(payload: Sketch, name: str) -> Sketch:
    """The schema of the whole message `name` for the schema of its payload."""
    return Sketch(root=_message(payload.root, name, payload.parts), parts=payload.parts)


def opened(schema: Schema, parts: Mapping[str, Schema]) -> Schema:
    """The schema itself where there is only a reference to it, with what was said beside the reference."""
    seen: set[str] = set()
    while isinstance(schema, dict):
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        inner = schema if "$ref" in schema else _only(schema.get("allOf"))
        target = str(inner.get("$ref"))
        if target not in parts or target in seen:
            break
        seen.add(target)
        found = parts[target]
        if isinstance(found, bool):
            return found
        schema = {**found, **beside}
    return schema


def _only(parts: Any) -> dict[str, Any]:
    alone = parts[0] if isinstance(parts, list) and len(parts) == 1 else None
    return alone if isinstance(alone, dict) else {}


def _message(schema: Schema, name: str, parts: Mapping[str, Schema]) -> Schema:
    schema = opened(schema, parts)
    if isinstance(schema, bool):
        return _message({}, name, parts) if schema else dict(_NEVER)
    for key in _CHOICES:
        if key in schema:
            choices = [_message(choice, name, parts) for choice in schema[key]]
            possible = [choice for choice in choices if choice != _NEVER]
            return {**schema, key: possible} if possible else dict(_NEVER)
    kinds = schema.get("type", "object")
    if "object" not in ([kinds] if isinstance(kinds, str) else kinds):
        # A payload is the members of an object, so no message fits.
        return dict(_NEVER)
    return _around({**schema, "type": "object"}, name)


def _around(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """An object with the envelope's members before its own; a schema that declares `id` says what it is."""
    own = {key: value for key, value in schema.get("properties", {}).items() if key != "type"}
    names = [key for key in schema.get("required", ()) if key != "type"]
    if "properties" not in schema:
        schema.setdefault("additionalProperties", True)
    schema["properties"] = {"type": {"const": name}, "id": IDENTIFIER, **own}
    schema["required"] = ["type", *names]
    if "propertyNames" in schema:
        schema["propertyNames"] = {"anyOf": [{"enum": ["type", "id"]}, schema["propertyNames"]]}
    # The payload's members are counted without the envelope's, of which there are one or two.
    if "minProperties" in schema:
        schema["minProperties"] += 1
    if "maxProperties" in schema:
        schema["maxProperties"] += 2
    return schema


def without_tag(payload: Sketch, schema: Any) -> Sketch:
    """The payload of a Struct without the tag of its own: as a message it has the envelope's `type` instead."""
    if not (isinstance(schema, type) and issubclass(schema, msgspec.Struct)):
        return payload
    tag = schema.__struct_config__.tag_field
    root = opened(payload.root, payload.parts)
    if tag is None or isinstance(root, bool):
        return payload
    properties = {key: value for key, value in root["properties"].items() if key != tag}
    required = [key for key in root["required"] if key != tag]
    return Sketch(root={**root, "properties": properties, "required": required}, parts=payload.parts)
