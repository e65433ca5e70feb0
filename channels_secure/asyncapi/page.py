"""The document as a page shows it: what a template prints, without logic of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels_secure.asyncapi.limits import EXTENSION
from channels_secure.asyncapi.schemas import Schema
from channels_secure.asyncapi.typescript import Module
from channels_secure.asyncapi.typescript.comments import limits_in
from channels_secure.asyncapi.typescript.types import Types

# What the limits of a channel and of a handler are called.
_LIMITS: Mapping[str, str | Promise] = {
    "anonymous": gettext_lazy("Without logging in"),
    "max_message_size": gettext_lazy("Bytes in a message"),
    "max_message_depth": gettext_lazy("Levels of nesting"),
    "message_rates": gettext_lazy("Messages"),
    "error_budget": gettext_lazy("Refused messages"),
    "idle_timeout": gettext_lazy("Seconds of silence"),
    "heartbeat_interval": gettext_lazy("Seconds between heartbeats"),
    "max_connection_age": gettext_lazy("Seconds in all"),
    "codec": gettext_lazy("Frames are encoded by"),
    "rate": gettext_lazy("At most"),
    "cost": gettext_lazy("Counts as"),
    "permission": gettext_lazy("Asks for"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of an object: its type as TypeScript writes it, and what is asked beyond it."""

    name: str
    type: str
    required: bool
    limits: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A message or a type of its own; `type` is there where it is no object with members."""

    name: str
    anchor: str
    description: str
    members: tuple[Member, ...] = ()
    type: str = ""
    limits: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPart:
    """One channel with the messages of both directions."""

    title: str
    anchor: str
    address: str
    description: str
    parameters: tuple[tuple[str, str], ...]
    limits: tuple[tuple[str, str], ...]
    received: tuple[Shape, ...]
    sent: tuple[Shape, ...]


class Page:
    """What the template shows of a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        components = document["components"]
        names = Module(document).schema_names
        self._types = Types(names)
        self.title, self.version = document["info"]["title"], document["info"]["version"]
        self.channels = [self._channel(key, each) for key, each in document["channels"].items()]
        self.types = [
            self._shape(names[key], f"type-{names[key]}", _description(schema), schema)
            for key, schema in components["schemas"].items()
        ]
        self.schemes = list(components["securitySchemes"].items())
        self.refusals = list(document[EXTENSION]["refusals"].items())

    def _channel(self, key: str, channel: Mapping[str, Any]) -> ChannelPart:
        operations = [
            operation
            for operation in self._document["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{key}"
        ]
        parameters = channel.get("parameters", {})
        return ChannelPart(
            title=channel["title"],
            anchor=f"channel-{key}",
            address=channel["address"] or "",
            description=_words(channel),
            parameters=tuple((name, each.get("description", "")) for name, each in parameters.items()),
            limits=tuple(_limits(channel[EXTENSION])),
            received=tuple(self._message(key, each) for each in operations if each["action"] == "receive"),
            sent=tuple(self._message(key, each) for each in operations if each["action"] == "send"),
        )

    def _message(self, channel: str, operation: Mapping[str, Any]) -> Shape:
        key = operation["messages"][0]["$ref"].rsplit("/", 1)[1]
        message = self._document["components"]["messages"][key]
        anchor = f"{operation['action']}-{channel}-{key}"
        found = self._shape(message["name"], anchor, _words(message), message["payload"])
        limits = tuple(_limits(operation.get(EXTENSION, {})))
        return Shape(
            name=found.name,
            anchor=anchor,
            description=found.description,
            members=found.members,
            type=found.type,
            limits=limits,
        )

    def _shape(self, name: str, anchor: str, description: str, schema: Schema) -> Shape:
        properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
        if isinstance(schema, bool) or not properties:
            return Shape(name=name, anchor=anchor, description=description, type=self._types.of(schema))
        required = set(schema.get("required", ()))
        members = [self._member(key, each, required=key in required) for key, each in properties.items()]
        others = schema.get("additionalProperties", False)
        if others is not False:
            members.append(self._member("…", others, required=False))
        return Shape(name=name, anchor=anchor, description=description, members=tuple(members))

    def _member(self, name: str, schema: Schema, *, required: bool) -> Member:
        return Member(
            name=name,
            type=self._types.of(schema),
            required=required,
            limits=limits_in(schema),
            description=_description(schema),
        )


def _limits(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if value is not None:
            yield str(_LIMITS[name]), _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items()) or _("no limit")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(described: Mapping[str, Any]) -> str:
    return str(described.get("description") or described.get("summary") or "")


def _description(schema: Schema) -> str:
    return str(schema.get("description", "")) if isinstance(schema, dict) else ""
