"""Applications for servers that are stopped: without lifespan, as most projects are."""

import asyncio
import contextlib
from typing import Any

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from channels.routing import ProtocolTypeRouter

from channels_secure.consumers import SecureJsonConsumer
from channels_secure.testing import guarded


class Calm(SecureJsonConsumer):
    """Says back what it hears."""

    allow_anonymous = True

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class Stubborn(Calm):
    """Swallows every cancellation while its gate is shut, if it has one."""

    gate: asyncio.Event | None = None

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        gate = self.gate or asyncio.Event()
        await self.send_json("begun")
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()


calm = ProtocolTypeRouter({"websocket": guarded(Calm.as_asgi())})
stubborn = ProtocolTypeRouter({"websocket": guarded(Stubborn.as_asgi())})
