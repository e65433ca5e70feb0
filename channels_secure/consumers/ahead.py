"""Reading ahead: while a handler runs on, its peer's frames are charged, a few are kept and the rest are refused.

The message loop reads no frame before the handler of the last one has returned. A server that stops reading then slows
its peer down; Daphne reads on and keeps everything. And a pong or a goodbye would wait behind the handler as well.
"""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from channels_secure.connections import faults, violations
from channels_secure.connections.connection import Connection, Event
from channels_secure.consumers import coding, dispatch
from channels_secure.consumers.handlers import Plan
from channels_secure.exceptions import PeerGone
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.messages import Parsed, Refused

if TYPE_CHECKING:
    from channels_secure.consumers.consumer import SecureJsonConsumer

# What may wait for the loop; one message may, however long.
MAX_FRAMES = 16
MAX_CHARACTERS = 256 << 10
RETRY_AFTER = 1.0


class Ahead:
    """Reads for a message loop that cannot, until the loop has caught up.

    The task that reads is never cancelled while the socket lives: it hands over what it waits for. So no server has to
    promise that a cancelled `receive` loses nothing.
    """

    __slots__ = ("_characters", "_consumer", "_kept", "_plan", "_task", "_wanted")

    def __init__(self, consumer: "SecureJsonConsumer", plan: Plan) -> None:
        self._consumer, self._plan = consumer, plan
        # Texts, because what JSON becomes in memory may be many times as large.
        self._kept: deque[str] = deque()
        self._characters = 0
        self._wanted = False
        self._task = consumer.connection.loop.create_task(self._run())

    async def next(self) -> Parsed | Refused | None:
        """The next message for the loop, which has been charged; None when the socket has ended."""
        if not self._kept:
            self._wanted = True
            await asyncio.wait({self._task})
        consumer = self._consumer
        if not self._kept or consumer.connection.ended:
            await consumer.inbox.rest()
            return None
        text = self._kept.popleft()
        self._characters -= len(text)
        if not self._kept and self._task.done():
            consumer.inbox.ahead = None
        return self._plan.parse(text)

    def close(self) -> None:
        """Stop reading and drop what was kept, at the end of the socket."""
        self._kept.clear()
        self._task.cancel()

    async def _run(self) -> None:
        connection = self._consumer.connection
        try:
            while not connection.ended and not (self._wanted and self._kept):
                event = await connection.server_receive()
                if not connection.ended:
                    await self._take(connection, event)
        except PeerGone:
            connection.ended = True
        except Exception as error:  # noqa: BLE001 - logged by `faults`, and ends the connection
            faults.end(connection, error)

    async def _take(self, connection: Connection, event: Event) -> None:
        if event["type"] != "websocket.receive":
            connection.disconnect_code = event.get("code", 1005)
            # The handler is left to finish what it has begun; when it sends it learns that there is nobody any more.
            connection.ended = True
            return
        now = time.monotonic()
        parsed = dispatch.read(connection, self._plan, event, now)
        if parsed is None:
            parsed = await dispatch.read_slowly(connection, self._plan, event, now)
        if isinstance(parsed, Refused):
            await violations.answer(connection, parsed.denial, parsed.ref)
        elif self._plan.handlers.get(parsed[0]) is None:
            await dispatch.admit(self._consumer, None, parsed, now)
        elif self._has_room(text := coding.text_of(self._plan, event["text"])):
            self._keep(text)
        else:
            await violations.answer(connection, Denial(reason=Reason.RATE_LIMITED, retry_after=RETRY_AFTER), parsed[1])

    def _has_room(self, text: str) -> bool:
        return not self._kept or (len(self._kept) < MAX_FRAMES and self._characters + len(text) <= MAX_CHARACTERS)

    def _keep(self, text: str) -> None:
        self._kept.append(text)
        self._characters += len(text)
