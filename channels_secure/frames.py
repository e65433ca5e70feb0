"""Frames for consumers that are not ours: size, rates and deadlines, in front of their `receive`."""

import asyncio
import time

from channels_secure.connections import violations
from channels_secure.connections.connection import Connection, Event
from channels_secure.connections.validity import has_expired
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.messages import is_too_big

# A queue that is never empty never suspends, so a flood would starve the loop.
YIELD_MASK = 31


class Receiver:
    """The `receive` of the application inside.

    `SecureJsonConsumer` calls it once, for the connect event, and then reads from the server directly.
    """

    __slots__ = ("_connected", "_connection")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._connected = False

    async def __call__(self) -> Event:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        connection = self._connection
        while True:
            if connection.ended:
                return {"type": "websocket.disconnect", "code": connection.close_code or 1006}
            event = await connection.server_receive()
            if event["type"] != "websocket.receive":
                connection.disconnect_code = event.get("code", 1005)
                # What is left to the application is its clean-up, which has a deadline.
                connection.ended = True
                return event
            connection.heard_at = now = time.monotonic()
            connection.received += 1
            if not connection.received & YIELD_MASK:
                await asyncio.sleep(0)
            if connection.expires_at is not None and now >= connection.expires_at and has_expired(connection):
                # The supervisor looks only now and then.
                connection.deny(Denial(reason=Reason.CREDENTIALS_EXPIRED))
                continue
            if await self._passes(event, now):
                return event

    async def _passes(self, event: Event, now: float) -> bool:
        connection = self._connection
        wait = await connection.budgets.charge(now)
        if wait:
            denial = connection.unless_reported(Denial(reason=Reason.RATE_LIMITED, retry_after=wait))
            if denial is not None:
                await violations.answer(connection, denial)
                return False
        if exceeds(event, connection.limits.max_message_size):
            denial = connection.unless_reported(Denial(reason=Reason.MESSAGE_TOO_BIG))
            if denial is not None:
                violations.close_at_once(connection, denial)
                return False
        return True


def exceeds(event: Event, limit: int) -> bool:
    """Whether a frame, text or binary, has more than `limit` bytes."""
    text = event.get("text")
    return is_too_big(text, limit) if text is not None else len(event.get("bytes") or b"") > limit
