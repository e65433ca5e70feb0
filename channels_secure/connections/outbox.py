"""Frames that are sent without anybody waiting for them: a member that does not read delays nobody."""

import asyncio
import logging
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from channels_secure.exceptions import PeerGone
from channels_secure.policy.decisions import Denial, Reason

if TYPE_CHECKING:
    from channels_secure.connections.connection import Connection

logger = logging.getLogger("channels_secure")

# What a member that does not read may keep waiting before it is cut; who does not read is who has let one frame wait
# for so many seconds.
MAX_FRAMES = 64
MAX_CHARACTERS = 1 << 20
STALL = 0.05
# So many times more while it is not the peer who is late: a burst within one pass of the loop, a slow `connect()`.
BURST = 16


class Outbox:
    """The broadcasts on their way to one connection; a task exists only while something is."""

    __slots__ = ("_began", "_characters", "_connection", "_sender", "_waiting")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._waiting: deque[str] = deque()
        self._characters = 0
        # When the frame that is being sent now was begun.
        self._began = math.inf
        self._sender: asyncio.Task[None] | None = None

    def put(self, text: str) -> bool:
        """Queue a text; False when the peer has left too much unread."""
        self._waiting.append(text)
        self._characters += len(text)
        if self._connection.accepted:
            self.resume()
        if len(self._waiting) <= MAX_FRAMES and self._characters <= MAX_CHARACTERS:
            return True
        # A sender that only lets others run has sent its frame.
        if self._connection.sending and time.monotonic() - self._began > STALL:
            return False
        return len(self._waiting) <= MAX_FRAMES * BURST and self._characters <= MAX_CHARACTERS * BURST

    def resume(self) -> None:
        """Send what waits."""
        if self._waiting and (self._sender is None or self._sender.done()):
            self._sender = self._connection.loop.create_task(self._send_waiting())

    def close(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        if self._sender is not None:
            self._sender.cancel()

    async def _send_waiting(self) -> None:
        connection = self._connection
        try:
            while self._waiting and not connection.ended:
                text = self._waiting.popleft()
                self._characters -= len(text)
                self._began = time.monotonic()
                await connection.transmit({"type": "websocket.send", "text": text})
        except PeerGone:
            self._waiting.clear()
        except Exception:
            # For example a lone surrogate, which came through the layer and which no server can send.
            logger.exception("broadcast.failed", extra={"connection_id": connection.id})
            connection.sever(Denial(reason=Reason.INTERNAL_ERROR, detail="a broadcast could not be sent"))
        finally:
            self._began = math.inf
