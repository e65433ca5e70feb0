"""Frames to and from an application, in the grammar of Channels' `WebsocketCommunicator`.

That class cannot be the base: `channels.testing` imports Daphne, which a project on another server does not have.
"""

import json
from collections.abc import Sequence
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

from asgiref.testing import ApplicationCommunicator

from channels_secure.middleware import Application

# Channels waits one second, which a busy machine needs for a database.
WAIT = 5.0


class FrameCommunicator(ApplicationCommunicator):
    """A client of one socket, whose scope says no more than the URL, the headers and the subprotocols."""

    def __init__(
        self, application: Application, path: str, headers: Sequence[tuple[bytes, bytes]], subprotocols: Sequence[str]
    ) -> None:
        url = urlsplit(path)
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": unquote(url.path),
            "query_string": url.query.encode(),
            "headers": list(headers),
            "subprotocols": list(subprotocols),
        }
        super().__init__(application, scope)  # type: ignore[no-untyped-call]
        self.response_headers: Any = None

    async def send_input(self, message: Any) -> None:
        with _connections_kept():
            await super().send_input(message)  # type: ignore[no-untyped-call]

    async def receive_output(self, timeout: float = WAIT) -> Any:
        with _connections_kept():
            return await super().receive_output(timeout)  # type: ignore[no-untyped-call]

    async def receive_nothing(self, timeout: float = 0.1, interval: float = 0.01) -> bool:
        """Whether nothing comes for so many seconds."""
        nothing: bool = await super().receive_nothing(timeout, interval)  # type: ignore[no-untyped-call]
        return nothing

    async def wait(self, timeout: float = WAIT) -> None:
        """Wait for the application to end, and raise what it raised."""
        await super().wait(timeout)  # type: ignore[no-untyped-call]

    async def send_to(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send one frame, of text or of bytes."""
        if (text_data is None) == (bytes_data is None):
            raise ValueError("a frame is either text or bytes")
        await (self.send_bytes(bytes_data) if bytes_data is not None else self.send_text(text_data or ""))

    async def send_text(self, text: str) -> None:
        """Send a text frame, also an empty one."""
        await self.send_input({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary frame, also an empty one."""
        await self.send_input({"type": "websocket.receive", "bytes": data})

    async def send_json_to(self, data: Any) -> None:
        """Send a JSON value."""
        await self.send_text(json.dumps(data))

    async def receive_from(self, timeout: float = WAIT) -> str | bytes:
        """Receive one frame.

        Raises:
            AssertionError: the socket was closed instead.
        """
        __tracebackhide__ = True
        event = await self.receive_output(timeout)
        if event["type"] != "websocket.send":
            raise AssertionError(f"expected a frame, and got {event}")
        frame: str | bytes = event["bytes"] if event.get("text") is None else event["text"]
        return frame

    async def receive_json_from(self, timeout: float = WAIT) -> Any:
        """Receive a JSON value.

        Raises:
            AssertionError: the socket was closed instead, or the frame is binary.
        """
        __tracebackhide__ = True
        frame = await self.receive_from(timeout)
        if isinstance(frame, bytes):
            raise AssertionError(f"expected JSON, and got the binary frame {frame!r}")
        return json.loads(frame)

    async def disconnect(self, code: int = 1000, timeout: float = WAIT) -> None:
        """Leave, and wait for the application to end."""
        await self.send_input({"type": "websocket.disconnect", "code": code})
        await self.wait(timeout)

    async def closing(self, timeout: float = WAIT) -> tuple[int | None, str]:
        """Wait for the close frame, past the frames before it; returns its code and reason."""
        while True:
            event = await self.receive_output(timeout)
            if event["type"] == "websocket.close":
                await self.wait(timeout)
                return event.get("code"), event.get("reason", "")

    def take_events(self) -> list[Any]:
        """Take the events that the application has sent and nobody has received."""
        events = []
        while not self.output_queue.empty():
            events.append(self.output_queue.get_nowait())
        return events

    def put_back(self, events: Sequence[Any]) -> None:
        """Let events that were taken be received after all."""
        for event in events:
            self.output_queue.put_nowait(event)


def _connections_kept() -> Any:
    """As Channels' own: what a consumer's `database_sync_to_async` would close is the connection of the test."""
    return mock.patch("channels.db.close_old_connections", new=_do_nothing)


def _do_nothing() -> None:
    pass
