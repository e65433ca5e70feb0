"""A JSON Schema as a TypeScript type: as narrow as TypeScript can say it, and never narrower than the schema."""

import json
import re
from collections.abc import Mapping
from typing import Any

from channels_secure.asyncapi.schemas import Schema

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_PREFIX = "#/components/schemas/"
_SIMPLE = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
# JSON's escapes are TypeScript's, but for two line ends that only newer readers take inside of a string.
_LINE_ENDS = {0x2028: "\\u2028", 0x2029: "\\u2029"}


def literal(value: Any) -> str:
    """A JSON value as a literal type."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{ " + "; ".join(f"{member_name(key)}: {literal(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)


def member_name(name: str) -> str:
    """The name of a member, in quotes where it is no identifier."""
    return name if _IDENTIFIER.fullmatch(name) else literal(name)


class Types:
    """Writes types; `names` are those of the document's schemas by their keys."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def of(self, schema: Schema) -> str:
        """The type of the values that a schema allows."""
        if isinstance(schema, bool):
            return "unknown" if schema else "never"
        if schema.get("not") in ({}, True):
            return "never"
        parts = [part for part in self._parts(schema) if part != "unknown"]
        if len(parts) > 1:
            parts = [f"({part})" if " | " in part else part for part in parts]
        return " & ".join(dict.fromkeys(parts)) or "unknown"

    def _parts(self, schema: dict[str, Any]) -> list[str]:
        """One type for each keyword that says something; a value is of all of them."""
        if "$ref" in schema:
            return [self._reference(schema["$ref"])]
        parts = [self._union(schema[key]) for key in ("anyOf", "oneOf") if key in schema]
        parts += [self.of(each) for each in schema.get("allOf", ())]
        if "const" in schema:
            return [*parts, literal(schema["const"])]
        if "enum" in schema:
            return [*parts, union(literal(value) for value in schema["enum"])]
        kinds = schema.get("type", "object" if "properties" in schema else None)
        if kinds is None:
            return parts
        return [*parts, union(self._kind(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))]

    def _reference(self, target: Any) -> str:
        # What a project refers to by hand may be anywhere.
        return self._names.get(str(target).removeprefix(_PREFIX), "unknown")

    def _union(self, choices: list[Schema]) -> str:
        return union(self.of(choice) for choice in choices)

    def _kind(self, kind: str, schema: dict[str, Any]) -> str:
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return self._record(schema)
        return _SIMPLE.get(kind, "unknown")

    def _array(self, schema: dict[str, Any]) -> str:
        items = schema.get("items", True)
        if not isinstance(items, list):
            return "never[]" if schema.get("maxItems") == 0 else f"{grouped(self.of(items))}[]"
        least = schema.get("minItems", 0)
        types = [grouped(self.of(item)) for item in items]
        members = [each if place < least else f"{each}?" for place, each in enumerate(types)]
        rest = schema.get("additionalItems", True)
        if rest is not False and schema.get("maxItems", len(items) + 1) > len(items):
            members.append(f"...{grouped(self.of(rest))}[]")
        return f"[{', '.join(members)}]"

    def _record(self, schema: dict[str, Any]) -> str:
        nothing = "never" if schema.get("additionalProperties") is False else "unknown"
        return "{ " + "; ".join(self.members(schema) or [f"[key: string]: {nothing}"]) + " }"

    def members(self, schema: dict[str, Any]) -> list[str]:
        """The members of an object, each with its type; those without a name of their own come last."""
        required = set(schema.get("required", ()))
        types = {name: self.of(each) for name, each in schema.get("properties", {}).items()}
        named = [f"{member_name(name)}{'' if name in required else '?'}: {kind}" for name, kind in types.items()]
        return [*named, *self._others(schema, types, optional=bool(types.keys() - required))]

    def _others(self, schema: dict[str, Any], types: Mapping[str, str], *, optional: bool) -> list[str]:
        more = [*schema.get("patternProperties", {}).values()]
        if schema.get("additionalProperties", False) is not False:
            more.append(schema["additionalProperties"])
        if not more:
            return []
        kinds = [self.of(each) for each in more]
        keys = schema.get("propertyNames")
        if isinstance(keys, dict) and "enum" in keys and not types:
            return [f"[key in {union(literal(key) for key in keys['enum'])}]?: {union(kinds)}"]
        # TypeScript wants every named member to fit the signature too.
        return [f"[key: string]: {union([*kinds, *types.values(), *(['undefined'] if optional else [])])}"]


def union(types: Any) -> str:
    """Any of some types; what is unknown swallows the rest."""
    distinct = [each for each in dict.fromkeys(types) if each != "never"]
    if "unknown" in distinct:
        return "unknown"
    return " | ".join(f"({each})" if " & " in each else each for each in distinct) or "never"


def grouped(kind: str) -> str:
    return f"({kind})" if " | " in kind or " & " in kind else kind
