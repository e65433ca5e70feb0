"""What is compared: one small chat, written the way each project's documentation writes it.

Each takes a `chat.say` with a text of 1 to 500 characters and answers `chat.said` with the same text. All but plain
Channels refuse any other message; plain Channels checks nothing, so it is compared at its fastest.
"""

import logging
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import structlog
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from chanx.channels.websocket import AsyncJsonWebsocketConsumer as ChanxConsumer
from chanx.core.decorators import ws_handler
from chanx.messages.base import BaseMessage
from django.urls import path
from djangochannelsrestframework.consumers import AsyncAPIConsumer
from djangochannelsrestframework.decorators import action
from pydantic import BaseModel, ConfigDict, StringConstraints
from rest_framework import serializers

from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.groups import broadcast
from channels_secure.middleware import SecureMiddlewareStack

TEXT = "The quick brown fox jumps over the lazy dog."
# A room each: consumers that are not ours end at a layer event that they have no handler for.
PLAIN_ROOM, ROOM = "plain-room", "room"

# chanx logs every disconnection to standard output.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


class Plain(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"type": "chat.said", "text": content["text"]})


class PlainMember(Plain):
    groups = [PLAIN_ROOM]

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "chat.said", "text": event["text"]})


class Payload(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class ChanxSay(BaseMessage):
    action: Literal["chat.say"] = "chat.say"
    payload: Payload


class ChanxSaid(BaseMessage):
    action: Literal["chat.said"] = "chat.said"
    payload: Payload


class Chanx(ChanxConsumer):
    groups: list[str] = []

    @ws_handler
    async def say(self, message: ChanxSay) -> ChanxSaid:
        return ChanxSaid(payload=message.payload)


class SaySerializer(serializers.Serializer):
    text = serializers.CharField(min_length=1, max_length=500)


class Dcrf(AsyncAPIConsumer):
    @action(name="chat.say")
    async def say(self, **content: Any) -> None:
        serializer = SaySerializer(data=content)
        serializer.is_valid(raise_exception=True)
        await self.send_json({"type": "chat.said", "text": serializer.validated_data["text"]})


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Typed(SecureJsonConsumer):
    @handles("chat.say")
    async def say(self, message: Say) -> None:
        await self.send_json({"type": "chat.said", "text": message.text})


class TypedMember(Typed):
    async def connect(self) -> None:
        await self.join(ROOM)
        await self.accept()


class DropIn(SecureJsonConsumer):
    """`Plain` with another base class."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"type": "chat.said", "text": content["text"]})


class Envelope(Say, tag="chat.say", tag_field="type"):
    """What the raw application decodes; a Struct's tag is its `type` member."""


_decode = msgspec.json.Decoder(Envelope).decode


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """The floor: receive, decode with the schema, encode, send, and nothing else."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        text = _decode(event["text"]).text
        answer = msgspec.json.encode({"type": "chat.said", "text": text}).decode()
        await send({"type": "websocket.send", "text": answer})


async def plain_broadcast() -> None:
    """Tell every `PlainMember`, as Channels' tutorial does."""
    await get_channel_layer().group_send(PLAIN_ROOM, {"type": "chat.said", "text": TEXT})


async def secure_broadcast() -> None:
    """Tell every `TypedMember`."""
    await broadcast(ROOM, {"type": "chat.said", "text": TEXT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One row: what it is called, where it is served, and what its clients send."""

    label: str
    path: str
    message: dict[str, Any]

    @property
    def text(self) -> str:
        return msgspec.json.encode(self.message).decode()


SAY = {"type": "chat.say", "text": TEXT}
PLAIN = Subject(label="plain Channels", path="/plain/", message=SAY)
PLAIN_MEMBER = Subject(label="plain Channels, in a group", path="/plain/member/", message=SAY)
CHANX = Subject(label="chanx", path="/chanx/", message={"action": "chat.say", "payload": {"text": TEXT}})
DCRF = Subject(label="djangochannelsrestframework", path="/dcrf/", message={"action": "chat.say", "text": TEXT})
TYPED = Subject(label="channels_secure", path="/secure/", message=SAY)
TYPED_MEMBER = Subject(label="channels_secure, in a group", path="/secure/member/", message=SAY)
DROP_IN = Subject(label="channels_secure, drop-in", path="/secure/drop-in/", message=SAY)
RAW = Subject(label="raw ASGI, no guard", path="/raw/", message=SAY)

plain_stack = AllowedHostsOriginValidator(
    AuthMiddlewareStack(
        URLRouter(
            [
                path("plain/", Plain.as_asgi()),
                path("plain/member/", PlainMember.as_asgi()),
                path("chanx/", Chanx.as_asgi()),
                path("dcrf/", Dcrf.as_asgi()),
            ]
        )
    )
)
secure_stack = SecureMiddlewareStack(
    URLRouter(
        [
            path("secure/", Typed.as_asgi()),
            path("secure/member/", TypedMember.as_asgi()),
            path("secure/drop-in/", DropIn.as_asgi()),
        ]
    )
)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """All subjects behind one address."""
    if scope["type"] != "websocket":
        raise ValueError(f"{scope['type']} is not served here")
    if scope["path"] == RAW.path:
        await raw(scope, receive, send)
    elif scope["path"].startswith(TYPED.path):
        await secure_stack(scope, receive, send)
    else:
        await plain_stack(scope, receive, send)
