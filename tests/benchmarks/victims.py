"""A server whose connections are to be cut: idle ones, handlers that hang, and peers that do not read.

On `/control/` it is told what to do and answers when every other connection has ended, with the times. The monotonic
clock is the same in every process of a machine, so a client may compare them with its own.
"""

import asyncio
import time
from typing import Any

import msgspec
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.urls import path

from channels_secure.blocklist import ablock
from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.policy.decisions import Denial, Reason

CONTROL = "/control/"
# More than the buffers of both ends take: on uvicorn `send` waits for the peer, Daphne keeps it all.
CHUNK, CHUNKS = "x" * 60_000, 150
PATIENCE = 10.0


class Idle(SecureJsonConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class Hung(SecureJsonConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()


class Stream(SecureJsonConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        for _ in range(CHUNKS):
            await self.send(text_data=CHUNK)
        await asyncio.Event().wait()


class Order(msgspec.Struct):
    """What `/control/` is told: `sever` and `block` do it here, `watch` lets another process do it."""

    how: str
    count: int
    username: str


class Watch:
    """When the applications of so many connections ended."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.finished: list[float] = []
        self.done = asyncio.Event()

    def note(self) -> None:
        self.finished.append(time.monotonic())
        if len(self.finished) == self.count:
            self.done.set()


stack = SecureMiddlewareStack(
    URLRouter([path("idle/", Idle.as_asgi()), path("hung/", Hung.as_asgi()), path("stream/", Stream.as_asgi())])
)
_watches: list[Watch] = []


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == CONTROL:
        await control(receive, send)
        return
    try:
        await stack(scope, receive, send)
    finally:
        for watch in _watches:
            watch.note()


async def control(receive: Any, send: Any) -> None:
    """Obey one order and report."""
    await receive()
    await send({"type": "websocket.accept"})
    order = msgspec.json.decode((await receive())["text"], type=Order)
    user = await get_user_model().objects.aget(username=order.username)
    watch = Watch(order.count)
    _watches.append(watch)
    await send({"type": "websocket.send", "text": "ready"})
    started = time.monotonic()
    if order.how == "sever":
        for connection in registry():
            connection.sever(Denial(reason=Reason.DISCONNECTED))
    elif order.how == "block":
        await ablock(user=user)
    try:
        async with asyncio.timeout(PATIENCE):
            await watch.done.wait()
    except TimeoutError:
        pass
    _watches.remove(watch)
    report = {"started": started, "finished": watch.finished}
    await send({"type": "websocket.send", "text": msgspec.json.encode(report).decode()})
    await receive()
