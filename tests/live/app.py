"""The application of the live tests: a consumer of every kind, and one for every way in which application code fails.

| path | |
|---|---|
| `/typed/` | declared message types of every schema kind; log in first |
| `/open/` | the same for everybody |
| `/echo/` | a drop-in class: each JSON value comes back; for everybody |
| `/foreign/` | Channels' own `AsyncWebsocketConsumer`, which echoes text and bytes |
| `/plain/` | an ASGI application without Channels, which echoes text and bytes |
| `/authorize/<how>/`, `/connect/<how>/` | these methods hang, raise, refuse or misbehave |
| `/odd/` | handlers that hang, raise, close oddly or send for ever; for everybody |
| `/odd-foreign/` | a consumer of Channels' own that does what its text says |
| `/unread/` | accepts and never reads a frame |
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import attrs
import django
import msgspec
import pydantic
from channels.exceptions import AcceptConnection, DenyConnection, StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.apps import apps
from django.urls import path

if not apps.ready:
    django.setup()

from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.exceptions import Denied
from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack

# What every exception raised here says; it must never reach a client.
INTERNAL_TEXT = "internal-text-of-an-exception"


# Schemas -------------------------------------------------------------------------------------------------------------


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Loose(msgspec.Struct):
    text: str
    note: str = ""


class Count(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class Point(msgspec.Struct, forbid_unknown_fields=True):
    x: float
    y: float = 0.0


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    points: list[Point]
    labels: dict[str, int] = {}


class Circle(msgspec.Struct, tag="circle", forbid_unknown_fields=True):
    radius: int


class Square(msgspec.Struct, tag="square", forbid_unknown_fields=True):
    side: int


class Draw(msgspec.Struct, forbid_unknown_fields=True):
    figure: Circle | Square


class OwnId(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    id: int | None = None


class AnyId(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    id: Any = None


class Anything(msgspec.Struct):
    value: Any


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Renamed(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    first_name: str


class Checked(msgspec.Struct):
    text: str

    def __post_init__(self) -> None:
        if self.text == "refuse me":
            raise ValueError(f"{INTERNAL_TEXT} {self.text}")


@dataclass
class DataclassSay:
    text: str


@dataclass
class DataclassWithId:
    text: str
    id: str


class TypedDictSay(TypedDict):
    text: str


@attrs.define
class AttrsSay:
    text: str


class ModelSay(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    text: Annotated[str, pydantic.Field(min_length=1, max_length=500)]
    number: int = 0


class ModelWithId(pydantic.BaseModel):
    text: str
    id: str


# Well-behaved consumers ----------------------------------------------------------------------------------------------


class Typed(SecureJsonConsumer):
    """Answers each message with what the handler was given."""

    async def connect(self) -> None:
        await self.accept()

    async def _answer(self, kind: str, message: Any) -> None:
        value = message.model_dump() if isinstance(message, pydantic.BaseModel) else message
        await self.send_json({"type": "answer", "to": kind, "message": msgspec.to_builtins(value)})

    @handles("chat.say")
    async def say(self, message: Say) -> None:
        await self._answer("chat.say", message)

    @handles("loose")
    async def loose(self, message: Loose) -> None:
        await self._answer("loose", message)

    @handles("count")
    async def count(self, message: Count) -> None:
        await self._answer("count", message)

    @handles("shape")
    async def shape(self, message: Shape) -> None:
        await self._answer("shape", message)

    @handles("draw")
    async def draw(self, message: Draw) -> None:
        await self._answer("draw", message)

    @handles("own_id")
    async def own_id(self, message: OwnId) -> None:
        await self._answer("own_id", message)

    @handles("any_id")
    async def any_id(self, message: AnyId) -> None:
        await self._answer("any_id", {"text": message.text})

    @handles("anything")
    async def anything(self, message: Anything) -> None:
        await self._answer("anything", {})

    @handles("nothing")
    async def nothing(self, message: Nothing) -> None:
        await self._answer("nothing", message)

    @handles("renamed")
    async def renamed(self, message: Renamed) -> None:
        await self._answer("renamed", message)

    @handles("checked")
    async def checked(self, message: Checked) -> None:
        await self._answer("checked", message)

    @handles("dataclass")
    async def as_dataclass(self, message: DataclassSay) -> None:
        await self._answer("dataclass", message)

    @handles("dataclass_id")
    async def as_dataclass_with_id(self, message: DataclassWithId) -> None:
        await self._answer("dataclass_id", message)

    @handles("typeddict")
    async def as_typed_dict(self, message: TypedDictSay) -> None:
        await self._answer("typeddict", message)

    @handles("attrs")
    async def as_attrs(self, message: AttrsSay) -> None:
        await self._answer("attrs", message)

    @handles("pydantic")
    async def as_pydantic(self, message: ModelSay) -> None:
        await self._answer("pydantic", message)

    @handles("pydantic_id")
    async def as_pydantic_with_id(self, message: ModelWithId) -> None:
        await self._answer("pydantic_id", message)

    @handles("dict")
    async def as_dict(self, message: dict[str, Any]) -> None:
        await self._answer("dict", {"members": len(message)})

    @handles("any")
    async def as_any(self, message: Any) -> None:
        await self._answer("any", {"members": len(message)})

    @handles("rare", rate="2/m")
    async def rare(self, message: Nothing) -> None:
        await self._answer("rare", message)

    @handles("dear", cost=15)
    async def dear(self, message: Nothing) -> None:
        await self._answer("dear", message)

    @handles("permitted", permission="auth.add_user")
    async def permitted(self, message: Nothing) -> None:
        await self._answer("permitted", message)

    async def a_layer_event(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "from.layer"})

    async def handle_admin(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "admin"})


class Open(Typed):
    allow_anonymous = True


class Echo(SecureJsonConsumer):
    allow_anonymous = True

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class Rooms(SecureJsonConsumer):
    """Joins the groups it is told to, whatever their names."""

    allow_anonymous = True

    @handles("join")
    async def enter(self, message: Say) -> None:
        await self.join(message.text)
        await self.send_json({"type": "joined"})

    @handles("tell")
    async def tell(self, message: Say) -> None:
        await self.broadcast(message.text, {"type": "told"})


class Foreign(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def unread(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": '{"type":"ready"}'})
    await asyncio.Event().wait()


# Consumers that fail -------------------------------------------------------------------------------------------------


class FailsToAuthorize(SecureJsonConsumer):
    allow_anonymous = True

    async def authorize(self) -> bool:
        return bool(await AUTHORIZE[self.kwargs["how"]]())


async def hang() -> bool:
    await asyncio.Event().wait()
    return True


async def fail() -> bool:
    raise RuntimeError(INTERNAL_TEXT)


async def deny() -> bool:
    raise Denied("permission_denied", "Only members may enter.")


async def deny_for_a_while() -> bool:
    raise Denied("rate_limited", retry_after=7.5)


async def exit_interpreter() -> bool:
    raise SystemExit(3)


async def cancel() -> bool:
    raise asyncio.CancelledError


async def refuse() -> bool:
    return False


async def stop() -> bool:
    raise StopConsumer


async def deny_connection() -> bool:
    raise DenyConnection


AUTHORIZE = {
    "hang": hang,
    "raise": fail,
    "denied": deny,
    "denied-later": deny_for_a_while,
    "exit": exit_interpreter,
    "cancel": cancel,
    "false": refuse,
}


class FailsToConnect(SecureJsonConsumer):
    allow_anonymous = True

    async def connect(self) -> None:
        how = self.kwargs["how"]
        if how in CONNECT:
            await CONNECT[how]()
        elif how == "close":
            await self.close(code=4001, reason="before accept")
        elif how == "accept-twice":
            await self.accept()
            await self.accept()
        elif how == "send-first":
            await self.send_json({"type": "too early"})
        elif how == "wrong-subprotocol":
            await self.accept(subprotocol="never.offered")
        elif how == "accept-connection":
            raise AcceptConnection
        elif how == "close-and-raise":
            await self.accept()
            await self.close(code=4001)
            raise RuntimeError(INTERNAL_TEXT)
        elif how == "never":
            return


CONNECT = AUTHORIZE | {"stop": stop, "deny-connection": deny_connection}


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    code: Any = None
    reason: str | None = None


class Odd(SecureJsonConsumer):
    """Handlers that fail in every way; `control` sockets ask here what is still alive."""

    allow_anonymous = True

    @handles("raise")
    async def raises(self, message: Nothing) -> None:
        raise RuntimeError(INTERNAL_TEXT)

    @handles("denied")
    async def denied(self, message: Nothing) -> None:
        raise Denied("permission_denied", "Not today.")

    @handles("denied.blocked")
    async def denied_fatally(self, message: Nothing) -> None:
        raise Denied("blocked")

    @handles("exit")
    async def exits(self, message: Nothing) -> None:
        raise SystemExit(INTERNAL_TEXT)

    @handles("cancel")
    async def cancels(self, message: Nothing) -> None:
        raise asyncio.CancelledError

    @handles("stop")
    async def stops(self, message: Nothing) -> None:
        raise StopConsumer

    @handles("hang")
    async def hangs(self, message: Nothing) -> None:
        await asyncio.Event().wait()

    @handles("hang.stubbornly")
    async def hangs_stubbornly(self, message: Nothing) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)

    @handles("flood")
    async def floods(self, message: Nothing) -> None:
        text = "x" * 65536
        while True:
            await self.send(text_data=text)

    @handles("close")
    async def closes(self, message: Choice) -> None:
        await self.close(code=message.code, reason=message.reason)

    @handles("close.and.raise")
    async def closes_and_raises(self, message: Nothing) -> None:
        await self.close(code=4001)
        raise RuntimeError(INTERNAL_TEXT)

    @handles("close.and.send")
    async def closes_and_sends(self, message: Nothing) -> None:
        await self.close(code=4001)
        await self.send_json({"type": "after.close"})

    @handles("close.twice")
    async def closes_twice(self, message: Nothing) -> None:
        await self.close(code=4001)
        await self.close(code=4002)

    @handles("accept.again")
    async def accepts_again(self, message: Nothing) -> None:
        await self.accept()

    @handles("unsendable")
    async def unsendable(self, message: Nothing) -> None:
        await self.send_json({"type": "odd", "value": float("nan"), "text": "\ud800"})

    @handles("ask.permission", permission=lambda consumer, message: fail())
    async def asks(self, message: Nothing) -> None:
        await self.send_json({"type": "allowed"})

    @handles("ask.denied", permission=lambda consumer, message: deny())
    async def asks_and_is_denied(self, message: Nothing) -> None:
        await self.send_json({"type": "allowed"})

    @handles("say")
    async def say(self, message: Say) -> None:
        await self.send_json({"type": "said"})

    async def disconnect(self, code: int) -> None:
        if self.scope["query_string"] == b"disconnect=hang":
            await asyncio.Event().wait()
        if self.scope["query_string"] == b"disconnect=raise":
            raise RuntimeError(INTERNAL_TEXT)


class OddForeign(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "raise":
            raise RuntimeError(INTERNAL_TEXT)
        if text_data == "exit":
            raise SystemExit(INTERNAL_TEXT)
        if text_data == "denied":
            raise Denied("permission_denied")
        if text_data == "hang":
            await asyncio.Event().wait()
        if text_data == "close":
            await self.close(code=1011, reason="ü" * 200)
        if text_data == "close.and.send":
            await self.close(code=4001)
            await self.send(text_data="after close")
        if text_data == "flood":
            while True:
                await self.send(text_data="x" * 65536)
        await self.send(text_data=text_data)


routes = URLRouter(
    [
        path("typed/", Typed.as_asgi()),
        path("open/", Open.as_asgi()),
        path("echo/", Echo.as_asgi()),
        path("rooms/", Rooms.as_asgi()),
        path("foreign/", Foreign.as_asgi()),
        path("plain/", plain),
        path("unread/", unread),
        path("authorize/<slug:how>/", FailsToAuthorize.as_asgi()),
        path("connect/<slug:how>/", FailsToConnect.as_asgi()),
        path("odd/", Odd.as_asgi()),
        path("odd-foreign/", OddForeign.as_asgi()),
    ]
)
application = ProtocolTypeRouter({"lifespan": lifespan, "websocket": SecureMiddlewareStack(routes)})
