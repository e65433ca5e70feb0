"""TypeScript types of the messages, from an AsyncAPI document of ours."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from channels_secure.asyncapi.names import distinct
from channels_secure.asyncapi.schemas import Schema
from channels_secure.asyncapi.typescript.comments import comment, words_about
from channels_secure.asyncapi.typescript.types import Types, literal, member_name, union

_WORD = re.compile(r"[A-Za-z0-9]+", re.ASCII)
_HEADER = "Made from the consumers by `manage.py ws_typescript`: change them, not this file."


def typescript(document: Mapping[str, Any]) -> str:
    """Declarations of types, and nothing that runs: good for a ``.ts`` and for a ``.d.ts`` file.

    Each channel has ``To…``, what clients may send, and ``From…``, what they may get; `Channels` has all of them by
    key, with the addresses.
    """
    return "\n".join(Module(document).sections())


def type_name(key: str) -> str:
    """The key of a message or schema as the name of a type: `chat.say` as `ChatSay`."""
    name = "".join(word[0].upper() + word[1:] for word in _WORD.findall(key))
    return name if name[:1].isalpha() else f"Type{name}"


class Module:
    """One document, and the names that its types get."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._channels: Mapping[str, Any] = document["channels"]
        self._operations: Mapping[str, Any] = document["operations"]
        self._messages: Mapping[str, Any] = document["components"]["messages"]
        self._schemas: Mapping[str, Schema] = document["components"]["schemas"]
        taken = {"Channels"}
        self._ends = {key: self._ends_of(key, taken) for key in self._channels}
        self.schema_names = {key: distinct(type_name(key), taken) for key in self._schemas}
        self._message_names = {key: self._message_name(key, taken) for key in self._messages}
        self._types = Types(self.schema_names)

    def sections(self) -> Iterator[str]:
        yield comment([_HEADER]).rstrip("\n") + "\n\nexport {};\n"
        for key, message in self._messages.items():
            yield self._declaration(self._message_names[key], message["payload"], _about(message))
        for key, schema in self._schemas.items():
            about = words_about(schema)
            yield self._declaration(self.schema_names[key], schema, about)
        for key, channel in self._channels.items():
            yield self._channel(key, channel)
        yield self._index()

    @staticmethod
    def _ends_of(key: str, taken: set[str]) -> tuple[str, str]:
        name = type_name(key)
        return distinct(f"To{name}", taken), distinct(f"From{name}", taken)

    @staticmethod
    def _message_name(key: str, taken: set[str]) -> str:
        name = type_name(key)
        return distinct(f"{name}Message" if name in taken else name, taken)

    def _declaration(self, name: str, schema: Schema, about: Iterable[str]) -> str:
        head = comment(about)
        if not isinstance(schema, dict) or not _is_record(schema):
            return f"{head}export type {name} = {self._types.of(schema)};\n"
        properties = list(schema.get("properties", {}).values())
        members = self._types.members(schema)
        lines = [
            comment(words_about(properties[place]) if place < len(properties) else (), "  ") + f"  {member};\n"
            for place, member in enumerate(members)
        ]
        return f"{head}export interface {name} {{\n{''.join(lines)}}}\n"

    def _channel(self, key: str, channel: Mapping[str, Any]) -> str:
        to, come = self._ends[key]
        name = f"{channel['title']}{_at(channel)}"
        return (
            comment([f"What clients may send to {name}.", *_about(channel)])
            + f"export type {to} = {self._carried(key, 'receive')};\n"
            + comment([f"What clients may get from {name}."])
            + f"export type {come} = {self._carried(key, 'send')};\n"
        )

    def _carried(self, channel: str, action: str) -> str:
        return union(
            self._message_names[reference["$ref"].rsplit("/", 1)[1]]
            for operation in self._operations.values()
            if operation["action"] == action and operation["channel"]["$ref"] == f"#/channels/{channel}"
            for reference in operation["messages"]
        )

    def _index(self) -> str:
        lines = [
            f"  {member_name(key)}: {{ address: {literal(channel['address'])}; to: {to}; from: {come} }};\n"
            for (key, channel), (to, come) in zip(self._channels.items(), self._ends.values(), strict=True)
        ]
        return comment(["Every channel by its key."]) + f"export interface Channels {{\n{''.join(lines)}}}\n"


def _is_record(schema: dict[str, Any]) -> bool:
    """Whether an interface can say it: an object, and nothing beside."""
    others = ("$ref", "allOf", "anyOf", "oneOf", "const", "enum", "not")
    return (
        schema.get("type") == "object" and bool(schema.get("properties")) and not any(key in schema for key in others)
    )


def _about(message: Mapping[str, Any]) -> list[str]:
    text = message.get("description") or message.get("summary")
    return [text] if text else []


def _at(channel: Mapping[str, Any]) -> str:
    return "" if channel["address"] is None else f" at {channel['address']}"
