"""Connections without a server: the ASGI application is called with a `receive` and a `send` of our own.

`receive` suspends only while there is nothing to hand over and `send` never does, as with a real server whose buffers
have room; a suspension more would be charged to whoever is measured.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

from tests.benchmarks.project import ORIGIN

Application = Callable[[Any, Any, Any], Any]


def scope(path: str, cookie: str = "", *, client: str = "192.0.2.1", origin: str = ORIGIN) -> dict[str, Any]:
    """Return what uvicorn would say of a browser's handshake."""
    headers = [(b"host", b"localhost"), (b"origin", origin.encode())]
    headers += [(b"cookie", cookie.encode())] if cookie else []
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": (client, 40000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


class Peer:
    """A client of one connection: it hands over messages as fast as they are taken, and counts the answers."""

    def __init__(self, application: Application, connection_scope: dict[str, Any]) -> None:
        self.outcome = ""
        self.answers = 0
        self.answered_at = 0.0
        self.last = ""
        self.ended = False
        self._application, self._scope = application, connection_scope
        self._text, self._left, self._awaited = "", 0, 0
        self._greeted = False
        self._changed = asyncio.Event()
        self._done = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._application(self._scope, self.receive, self.send))
        await self._done.wait()
        if self.outcome != "websocket.accept":
            raise RuntimeError(f"{self._scope['path']} was refused: {self.outcome} {self.last}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.ended = True
        self._changed.set()
        await self._task

    async def exchange(self, text: str, count: int) -> float:
        """Send `count` equal messages; return the seconds until the last of as many answers."""
        self.expect(count)
        self._text, self._left = text, count
        started = time.perf_counter()
        self._changed.set()
        return await self.arrived() - started

    def expect(self, count: int) -> None:
        """Let `arrived()` wait for so many answers more."""
        self._awaited = self.answers + count
        self._done.clear()

    async def arrived(self) -> float:
        """Wait for the expected answers; return when the last one came, by `time.perf_counter`."""
        await self._done.wait()
        if self.answers != self._awaited:
            raise RuntimeError(f"{self._scope['path']} ended after {self.answers} answers: {self.last}")
        return self.answered_at

    async def receive(self) -> dict[str, Any]:
        while not self._left:
            if not self._greeted:
                self._greeted = True
                return {"type": "websocket.connect"}
            if self.ended:
                return {"type": "websocket.disconnect", "code": 1000}
            self._changed.clear()
            await self._changed.wait()
        self._left -= 1
        return {"type": "websocket.receive", "text": self._text}

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] == "websocket.send":
            self.answers += 1
            if self.answers == self._awaited:
                self.answered_at = time.perf_counter()
                self.last = event["text"]
                self._done.set()
        elif not self.outcome:
            self.outcome = event["type"]
            self._done.set()
        else:
            self.last = str(event)
            self._done.set()
