"""The live tests' application with what the slow rows need: an authenticator and handlers that wait, and a look inside.

| path | |
|---|---|
| `/status/` | how many other connections are registered, and how many tasks serve them; for everybody |
| `/slow/` | handlers that wait in a thread: Channels' own, and one that blocks nobody; log in first |
"""

import asyncio
import time
from typing import Any

import django
import msgspec
from channels.db import database_sync_to_async
from channels.routing import ProtocolTypeRouter, URLRouter
from django.apps import apps
from django.urls import path

if not apps.ready:
    django.setup()

from channels_secure.auth.base import Identity
from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.policy.decisions import Denial
from channels_secure.policy.handshake import Handshake
from tests.live.app import routes


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Nap(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float


class WaitingAuthenticator:
    """Waits for ever for whoever asks for it, as a key server that does not answer."""

    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None:
        if handshake.query_values("wait"):
            await asyncio.Event().wait()
        return None


def is_serving(task: asyncio.Task[Any]) -> bool:
    """Whether a task, suspended now, is inside of the middleware, in whatever the server has wrapped around it."""
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        if getattr(coroutine, "__qualname__", "") == "HandshakeMiddleware.__call__":
            return True
        coroutine = getattr(coroutine, "cr_await", None)
    return False


class Status(SecureJsonConsumer):
    allow_anonymous = True

    @handles("status")
    async def status(self, message: Nothing) -> None:
        serving = sum(map(is_serving, asyncio.all_tasks()))
        await self.send_json({"connections": len(registry()) - 1, "serving": serving})


class Slow(SecureJsonConsumer):
    @handles("nap")
    async def nap(self, message: Nap) -> None:
        await self.send_json({"type": "napping"})
        await database_sync_to_async(time.sleep)(message.seconds)
        await self.send_json({"type": "awake"})


application: Any = ProtocolTypeRouter(
    {
        "lifespan": lifespan,
        "websocket": SecureMiddlewareStack(
            URLRouter([path("status/", Status.as_asgi()), path("slow/", Slow.as_asgi()), *routes.routes])
        ),
    }
)
