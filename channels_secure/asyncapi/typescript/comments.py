"""What a type cannot say, for the comment above it: words of the project, limits and defaults."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from channels_secure.asyncapi.schemas import Schema

# In JSON Schema's own words: they are exact.
_LIMITS = (
    "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "format", "contentEncoding", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip
_LINES = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def limits_in(schema: Schema) -> str:
    """What a schema asks of a value beyond its type; empty if nothing."""
    if isinstance(schema, bool):
        return ""
    items = schema.get("items")
    found = ["integer"] if schema.get("type") == "integer" else []
    # The length of a tuple is part of its type.
    keys = [key for key in _LIMITS if key in schema and not (isinstance(items, list) and key.endswith("Items"))]
    found += [f"{key} {schema[key] if isinstance(schema[key], str) else json.dumps(schema[key])}" for key in keys]
    inner = limits_in(items) if isinstance(items, dict) else ""
    found += [f"items: {inner}"] if inner else []
    choices = [limits_in(choice) for key in ("anyOf", "oneOf") for choice in schema.get(key, ())]
    found += [" or ".join(filter(None, choices))]
    return ", ".join(filter(None, found))


def words_about(schema: Schema) -> Iterator[str]:
    """The paragraphs for a member: what the project says of it, then limits and default."""
    if isinstance(schema, bool):
        return
    if schema.get("description"):
        yield str(schema["description"])
    limits = limits_in(schema)
    if limits:
        yield limits
    if "default" in schema:
        yield f"default {json.dumps(schema['default'], ensure_ascii=False)}"


def comment(paragraphs: Iterable[Any], indent: str = "") -> str:
    """A comment of these paragraphs with its line end; empty without any. No text can end it early."""
    lines = [line.rstrip() for paragraph in paragraphs for line in _LINES.split(str(paragraph))]
    lines = [line.replace("*/", "*\\/") for line in lines]
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"
