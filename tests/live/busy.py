"""An application whose handlers take as long as another socket lets them, and which tells how things stand meanwhile.

| path | |
|---|---|
| `/worker/` | `work` waits until it is released; `count` says its number back |
| `/control/` | `look` says how each worker stands, `release` lets their handlers go on |
"""

import asyncio
import os
from typing import Any

import django
import msgspec
from channels.routing import ProtocolTypeRouter, URLRouter
from django.apps import apps
from django.urls import path

if not apps.ready:
    django.setup()

from channels_secure.connections import Connection
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.exceptions import PeerGone
from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.supervisor import sweeping

if "PATIENCE" in os.environ:
    sweeping.PATIENCE = float(os.environ["PATIENCE"])


class Nothing(msgspec.Struct):
    pass


class Number(msgspec.Struct):
    number: int


released = asyncio.Event()
# Kept after the end, to be asked what became of it.
workers: list["Worker"] = []


class Worker(SecureJsonConsumer):
    allow_anonymous = True

    async def connect(self) -> None:
        self.story: list[Any] = []
        workers.append(self)
        await self.accept()

    @handles("work")
    async def work(self, message: Nothing) -> None:
        self.story.append("began")
        await released.wait()
        try:
            await self.send_json({"type": "worked"})
        except PeerGone:
            self.story.append("nobody there")
        self.story.append("finished")

    @handles("count")
    async def count(self, message: Number) -> None:
        self.story.append(message.number)
        await self.send_json({"type": "counted", "number": message.number})

    async def disconnect(self, code: int) -> None:
        self.story.append("left")


class Control(SecureJsonConsumer):
    allow_anonymous = True
    heartbeat_interval = None

    @handles("look")
    async def look(self, message: Nothing) -> None:
        await self.send_json([describe(worker) for worker in workers])

    @handles("release")
    async def release(self, message: Nothing) -> None:
        released.set()
        await self.send_json("released")


def describe(worker: Worker) -> dict[str, Any]:
    connection = worker.connection
    return {
        "waiting": frames_in_server(connection),
        "received": connection.received,
        "ended": connection.ended,
        "story": worker.story,
    }


def frames_in_server(connection: Connection) -> int:
    """How many frames the server keeps for a socket: Daphne in the queue whose `get` it hands out, uvicorn beside."""
    owner = connection.server_receive.__self__  # type: ignore[attr-defined]
    return int(getattr(owner, "queue", owner).qsize())


routes = URLRouter([path("worker/", Worker.as_asgi()), path("control/", Control.as_asgi())])
application = ProtocolTypeRouter({"lifespan": lifespan, "websocket": SecureMiddlewareStack(routes)})
