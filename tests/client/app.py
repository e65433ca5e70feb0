"""The application that the client's tests talk to: `tests.live.site` with a consumer that answers by `ref`."""

import asyncio
import time
from typing import Any

import msgspec
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

# It sets Django up, which everything below needs.
from tests.live.site import django_application

from channels_secure.codecs import FernetCodec  # isort: skip
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack
from tests.live.app import routes

# Of the Fernet specification's test vectors.
KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    id: str | int | None = None


class Tell(msgspec.Struct, forbid_unknown_fields=True):
    count: int


class Answering(SecureJsonConsumer):
    """Answers what it is asked, after a while if that is asked for, and tells numbers on demand."""

    @handles("ask")
    async def ask(self, message: Ask) -> None:
        if message.text == "never":
            return
        user = self.scope["user"].get_username()
        await self.send_json({"type": "answered", "ref": message.id, "text": message.text, "user": user})

    @handles("tell")
    async def tell(self, message: Tell) -> None:
        for number in range(message.count):
            await self.send_json({"type": "number", "number": number})

    @handles("hang")
    async def hang(self, message: Ask) -> None:
        await asyncio.Event().wait()

    @handles("finish")
    async def finish(self, message: Ask) -> None:
        await self.close(int(message.text))


class Open(Answering):
    allow_anonymous = True


class Laborious(Open):
    """Keeps the event loop from everybody else while it ends, as a busy server does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            time.sleep(0.02)  # not a wait for anything: it stands for work


class Encrypted(Open):
    codec = FernetCodec(keys=[KEY])


own = [
    path("answering/", Answering.as_asgi()),
    path("answering/open/", Open.as_asgi()),
    path("answering/laborious/", Laborious.as_asgi()),
    path("answering/encrypted/", Encrypted.as_asgi()),
]
application = ProtocolTypeRouter({
    "lifespan": lifespan,
    "http": django_application,
    "websocket": SecureMiddlewareStack(URLRouter([*own, *routes.routes])),
})  # fmt: skip
