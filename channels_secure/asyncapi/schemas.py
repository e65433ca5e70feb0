"""JSON Schemas of message types, as AsyncAPI 3.0 reads them: draft 7 (AsyncAPI 3.0.0, "Schema Object").

msgspec and pydantic write draft 2020-12, in which a tuple looks otherwise and `$ref` may have neighbours. A reader of
draft 7 would take their tuples for empty arrays.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

Schema = dict[str, Any] | bool
Parts = Mapping[str, Schema]

_ONE = ("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_LIST = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_MAP = ("definitions", "patternProperties", "properties")


class Undescribable(ValueError):
    """A type of which no description can be made; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """The schema of one type. A `$ref` in it is the bare name of one of its parts, whose `$ref`s are such names too."""

    root: Schema
    parts: Parts

    def pruned(self) -> "Sketch":
        """The same with those parts alone that are referred to, from the root or from each other."""
        found: set[str] = set()
        pending = [self.root]
        while pending:
            names = [name for name in references(pending.pop()) if name in self.parts and name not in found]
            found.update(names)
            pending += [self.parts[name] for name in names]
        return Sketch(root=self.root, parts={name: part for name, part in self.parts.items() if name in found})

    def content(self) -> str:
        """What tells it from others."""
        return json.dumps([self.root, self.parts])

    def part(self, name: str) -> "Sketch":
        """A part as a sketch of its own."""
        return Sketch(root=self.parts[name], parts=self.parts).pruned()


def sketch(schema: Any, where: str, *, sends: bool = False) -> Sketch:
    """Describe a type.

    Args:
        where: what to blame where it cannot be described.
        sends: it is written, not read; pydantic tells the two apart.

    Raises:
        Undescribable: it cannot be described.
    """
    try:
        root, parts = _pydantic(schema, sends) if hasattr(schema, "__pydantic_validator__") else _msgspec(schema, sends)
        # What a project has written into a schema by hand may be anything; from here on it is JSON.
        root, parts = json.loads(msgspec.json.encode([root, parts], enc_hook=str))
    except KeyError as error:
        raise Undescribable(f"{where}: two types are both called {_class_name(error)}: rename one") from error
    except Exception as error:  # whatever the annotations in it do
        raise Undescribable(f"{where}: {error}") from error
    return Sketch(root=older(root), parts={name: older(part) for name, part in parts.items()})


def _msgspec(schema: Any, sends: bool) -> tuple[Schema, dict[str, Any]]:
    hook = _sent if sends else _unknown
    (root,), parts = msgspec.json.schema_components([schema], schema_hook=hook, ref_template="{name}")
    return root, parts


def _unknown(kind: type) -> dict[str, Any]:
    # Nothing is known of a type that msgspec leaves to a hook but its name.
    return {"title": kind.__name__}


def _sent(kind: type) -> dict[str, Any]:
    """A type that msgspec does not know, as `groups.encode` writes it: Django's choices, for one, as their values."""
    if issubclass(kind, Enum) and issubclass(kind, str | int | float):
        return {"title": kind.__name__, "enum": [member.value for member in kind]}
    if issubclass(kind, int | float):
        return {"title": kind.__name__, "type": "integer" if issubclass(kind, int) else "number"}
    return {"title": kind.__name__, "type": "string"}


def _pydantic(schema: Any, sends: bool) -> tuple[Schema, dict[str, Any]]:
    from channels_secure.consumers.pydantic_schemas import json_schema

    root = json_schema(schema, "serialization" if sends else "validation")
    return root, root.pop("$defs", {})


def _class_name(error: KeyError) -> str:
    kind = error.args[0]
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else repr(kind)


def transform(schema: Schema, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Schema:
    """Change a schema from its innermost schemas outwards; what only looks like one (a default, a constant) is left."""
    if isinstance(schema, bool):
        return schema
    changed = dict(schema)
    for key in _ONE:
        if isinstance(changed.get(key), dict):
            changed[key] = transform(changed[key], change)
    for key in _LIST:
        if isinstance(changed.get(key), list):
            changed[key] = [transform(each, change) for each in changed[key]]
    for key in _MAP:
        if isinstance(changed.get(key), dict):
            changed[key] = {name: transform(each, change) for name, each in changed[key].items()}
    return change(changed)


def older(schema: Schema) -> Schema:
    """A schema of draft 2020-12 in the words of draft 7."""
    return transform(schema, _older)


def _older(schema: dict[str, Any]) -> dict[str, Any]:
    # AsyncAPI's discriminator is the name of a schema, and ours are tags. The tags are constants in the schemas anyway.
    schema.pop("discriminator", None)
    if "prefixItems" in schema:
        rest = schema.pop("items", None)
        first = schema.pop("prefixItems")
        schema |= {"items": first} if first else {}
        schema |= {"additionalItems": rest} if first and rest is not None else {}
    if schema.get("uniqueItems") and isinstance(schema.get("default"), list):
        # The order of a set is another in every process.
        schema["default"] = sorted(schema["default"], key=json.dumps)
    if isinstance(schema.get("description"), str):
        # Before Python 3.13 docstrings have the indentation of the code.
        schema["description"] = inspect.cleandoc(schema["description"])
    if "$ref" in schema and len(schema) > 1:
        # In draft 7 the neighbours of a `$ref` are not looked at.
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return schema


def references(schema: Schema) -> list[str]:
    """The `$ref`s in a schema, in order."""
    found: list[str] = []

    def look(inner: dict[str, Any]) -> dict[str, Any]:
        if isinstance(inner.get("$ref"), str):
            found.append(inner["$ref"])
        return inner

    transform(schema, look)
    return found


def refer(schema: Schema, keys: Mapping[str, str]) -> Schema:
    """The schema with its `$ref`s leading to the keys that its parts have in a document."""

    def point(inner: dict[str, Any]) -> dict[str, Any]:
        target = str(inner.get("$ref"))
        return {**inner, "$ref": f"#/components/schemas/{keys[target]}"} if target in keys else inner

    return transform(schema, point)
