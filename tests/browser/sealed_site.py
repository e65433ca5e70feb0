"""A server of encrypted rooms, and of one consumer with Fernet frames, that writes down every frame it has in hands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import msgspec
from channels.routing import ProtocolTypeRouter, URLRouter
from django.apps import apps
from django.conf import settings
from django.urls import path

if not apps.ready:
    django.setup()

from channels_secure.codecs import FernetCodec
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.rooms.consumers import RoomConsumer
from tests.codecs.vectors import KEY

# The page of any port on this machine is one of ours.
settings.DEBUG = True
STATIC = Path(__file__).resolve().parents[2] / "channels_secure" / "static" / "channels_secure"
SEEN = Path(os.environ["CHANNELS_SECURE_TEST_SEEN"])


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    id: str | int | None = None


class Mirror(SecureJsonConsumer):
    codec = FernetCodec(keys=[KEY])
    send_hello = True

    @handles("mirror")
    async def mirror(self, message: Text) -> None:
        await self.send_json({"type": "mirrored", "text": message.text[::-1], "ref": message.id})


def written_down(app: Callable[..., Any]) -> Callable[..., Any]:
    """The application, with every event of its sockets in the file."""

    def note(event: Any) -> Any:
        with SEEN.open("a") as file:
            file.write(f"{dict(event)!r}\n")
        return event

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        async def received() -> Any:
            return note(await receive())

        async def sent(event: Any) -> None:
            await send(note(event))

        await app(scope, received, sent)

    return noting


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The two modules, and for every other address an empty page."""
    name = scope["path"].strip("/")
    is_script = name.endswith(".js")
    body = (STATIC / name).read_bytes() if is_script else b"<!doctype html><meta charset=utf-8><title>Sealed</title>"
    kind = b"text/javascript" if is_script else b"text/html"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


application = ProtocolTypeRouter({
    "lifespan": lifespan,
    "http": pages,
    "websocket": written_down(
        SecureMiddlewareStack(
            URLRouter([path("ws/room/<str:room>/", RoomConsumer.as_asgi()), path("ws/mirror/", Mirror.as_asgi())])
        )
    ),
})  # fmt: skip
