"""The AsyncAPI 3.0 document: what stands on the wire, from what the consumers declare and the settings enable.

Equal declarations make equal documents, in every process: what has no order of its own is sorted.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from channels_secure.asyncapi import limits, security
from channels_secure.asyncapi.channels import Channel, channels_of
from channels_secure.asyncapi.limits import EXTENSION
from channels_secure.asyncapi.messages import Message, documentation
from channels_secure.asyncapi.names import Use, allot, distinct, slug
from channels_secure.asyncapi.routes import Route, routes_of
from channels_secure.asyncapi.schemas import Schema, refer
from channels_secure.conf import Settings, get_settings

TITLE, VERSION = "WebSocket messages", "1.0.0"


def document(source: Any, *, title: str = TITLE, version: str = VERSION) -> dict[str, Any]:
    """Describe an application's WebSockets.

    Args:
        source: an ASGI application, of which the consumers behind `SecureMiddlewareStack` are described; or a consumer
            class, or several classes and `Route`s, of which all are.
        title: what the API is called.
        version: of the API, not of AsyncAPI.

    Raises:
        BadDeclaration: a consumer class cannot work as it is declared.
        Undescribable: a type cannot be described.
    """
    settings = get_settings()
    channels = channels_of(_routes(source), settings)
    messages = [message for channel in channels for message in channel.messages]
    keys = _Keys(messages)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": {channel.key: _channel(channel, keys, settings) for channel in channels},
        "operations": _operations(channels, keys, settings),
        "components": {
            "messages": _sorted({keys.of(each): _message(each, keys) for each in messages}),
            "schemas": _sorted(_schemas(messages, keys)),
            "securitySchemes": security.schemes(settings),
        },
        EXTENSION: limits.of_application(settings),
    }


def _routes(source: Any) -> list[Route]:
    if isinstance(source, type):
        source = [source]
    if not isinstance(source, Iterable):
        return [route for route in routes_of(source) if route.guarded]
    return [each if isinstance(each, Route) else Route(consumer=each) for each in source]


def _sorted(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(mapping.items()))


class _Keys:
    """The keys of messages and of the parts of their payloads."""

    def __init__(self, messages: Iterable[Message]) -> None:
        uses = {id(message): message.use() for message in messages}
        keys = allot(uses.values())
        self._messages = {place: keys[use] for place, use in uses.items()}
        parts = {
            (id(message), name): Use(name=name, owner=message.owner, content=message.payload.part(name).content())
            for message in messages
            for name in message.payload.parts
        }
        keys = allot(parts.values())
        self._parts = {place: keys[use] for place, use in parts.items()}

    def of(self, message: Message) -> str:
        return self._messages[id(message)]

    def parts(self, message: Message) -> dict[str, str]:
        """The keys of a payload's parts by their names in it."""
        return {name: self._parts[id(message), name] for name in message.payload.parts}


def _schemas(messages: Iterable[Message], keys: _Keys) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for message in messages:
        parts = keys.parts(message)
        found |= {parts[name]: refer(schema, parts) for name, schema in message.payload.parts.items()}
    return found


def _message(message: Message, keys: _Keys) -> dict[str, Any]:
    found: dict[str, Any] = {"name": message.name, **_words(message.description)}
    found["payload"] = refer(message.payload.root, keys.parts(message))
    if message.correlated:
        found["correlationId"] = {"location": f"$message.payload#/{message.correlated}"}
    return found


def _words(text: str) -> dict[str, str]:
    """A docstring, in short and in full."""
    summary, _, more = text.partition("\n")
    return {"summary": summary, **({"description": text} if more else {})} if text else {}


def _channel(channel: Channel, keys: _Keys, settings: Settings) -> dict[str, Any]:
    route = channel.route
    binding: dict[str, Any] = {"method": "GET", "bindingVersion": "0.1.0"}
    query = security.query(settings)
    if query is not None:
        binding["query"] = query
    found: dict[str, Any] = {"address": route.address, "title": route.consumer.__name__}
    found |= _words(documentation(route.consumer))
    if route.parameters:
        found["parameters"] = {name: _parameter(pattern) for name, pattern in sorted(route.parameters.items())}
    found["messages"] = {keys.of(each): _ref("components", "messages", keys.of(each)) for each in channel.messages}
    found["bindings"] = {"ws": binding}
    found[EXTENSION] = limits.of_channel(channel)
    return found


def _parameter(pattern: str) -> dict[str, str]:
    return {"description": f"Matches `{pattern}`."} if pattern else {}


def _operations(channels: Iterable[Channel], keys: _Keys, settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    taken: set[str] = set()
    for channel in channels:
        for message in channel.messages:
            key = distinct(slug(f"{channel.key}.{message.direction}.{message.name}"), taken)
            found[key] = _operation(channel, message, keys, settings)
    return found


def _operation(channel: Channel, message: Message, keys: _Keys, settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {"action": message.direction, "channel": _ref("channels", channel.key)}
    found |= {"messages": [_carried(channel, message, keys)], **_words(message.description)}
    ways = () if channel.limits.allow_anonymous else security.schemes(settings)
    if ways and message.direction == "receive":
        # The credentials of the handshake; whoever may come without any needs none of them.
        found["security"] = [_ref("components", "securitySchemes", name) for name in ways]
    answers = [each for each in channel.sent if each.key in message.answers and each.is_frame]
    if answers:
        replies = [_carried(channel, each, keys) for each in answers]
        found["reply"] = {"channel": _ref("channels", channel.key), "messages": replies}
    asked = limits.of_message(message)
    return {**found, EXTENSION: asked} if asked else found


def _carried(channel: Channel, message: Message, keys: _Keys) -> dict[str, str]:
    return _ref("channels", channel.key, "messages", keys.of(message))


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}
