"""Channel-layer events for one consumer: one at a time, in order, and never while a message is being handled."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from channels_secure.connections.connection import Connection

logger = logging.getLogger("channels_secure")

# As many as a Channels layer keeps for a channel by default; the oldest are the least useful.
MAX_EVENTS = 100
RETRY_FIRST, RETRY_LAST = 0.1, 2.0


class Inbox:
    """Delivers events while the message loop rests; at first it does not, until `resume()`.

    Args:
        deliver: handles one event; must not raise.
        connection: its `handler_since` says whether a message is being handled right now.
    """

    __slots__ = (
        "_closed",
        "_connection",
        "_deliver",
        "_delivering",
        "_dropping",
        "_listener",
        "_paused",
        "events",
    )

    def __init__(self, deliver: Callable[[dict[str, Any]], Awaitable[None]], connection: Connection) -> None:
        self._deliver = deliver
        self._connection = connection
        # Made for the first event: an empty deque takes most of a kilobyte. A socket without events pays one look for
        # them at each message.
        self.events: deque[dict[str, Any]] | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._paused = True
        self._dropping = False
        self._closed = False

    def put(self, event: dict[str, Any]) -> None:
        """Queue an event; when too many wait, the oldest is dropped and the log says so."""
        if self._closed:
            return
        if self.events is None:
            self.events = deque()
        if len(self.events) >= MAX_EVENTS:
            self.events.popleft()
            self._say_dropped()
        self.events.append(event)
        if not self._paused and self._connection.handler_since is None:
            self._start()

    def resume(self) -> None:
        """Deliver what waits, and what comes, until the next `rest()`."""
        self._paused = False
        self._start()

    async def rest(self) -> None:
        """Wait until the event that is being handled has been; the next one waits for `resume()`."""
        self._paused = True
        if self._delivering is not None and not self._delivering.done():
            await asyncio.wait({self._delivering})

    def listen(self, layer: Any, channel: str) -> None:
        """Begin to receive from a channel of the consumer's own; does nothing the second time, nor at the end."""
        if self._listener is None and not self._closed:
            self._listener = asyncio.get_running_loop().create_task(listen(layer, channel, self._receive))

    def close(self) -> None:
        """Stop listening and delivering, for good."""
        self._closed = True
        self.events = None
        for task in (self._listener, self._delivering):
            if task is not None:
                task.cancel()

    def _start(self) -> None:
        if self.events and (self._delivering is None or self._delivering.done()):
            self._delivering = asyncio.get_running_loop().create_task(self._drain())

    async def _receive(self, event: dict[str, Any]) -> None:
        self.put(event)
        # Handled before the next is taken off the layer, whose own capacity is the limit.
        if self._delivering is not None and not self._delivering.done():
            await asyncio.wait({self._delivering})

    async def _drain(self) -> None:
        """Deliver at least one event, so that neither a flood of messages nor one of events silences the other."""
        while self.events:
            await self._deliver(self.events.popleft())
            if self._paused:
                return
        self._dropping = False

    def _say_dropped(self) -> None:
        if not self._dropping:
            self._dropping = True
            logger.warning("layer.event_dropped")


async def listen(layer: Any, channel: str, receive: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Receive from a channel for ever; a layer that fails is asked again, later and later.

    Channels ends the consumer at the first error of its layer, so that a blip of Redis closes every socket.
    """
    pause = RETRY_FIRST
    while True:
        try:
            event = await layer.receive(channel)
        except Exception as error:  # noqa: BLE001 - layers raise what their clients do
            if pause == RETRY_FIRST:
                logger.warning("layer.failed", extra={"error": type(error).__name__})
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            pause = min(RETRY_LAST, pause * 2)
            continue
        pause = RETRY_FIRST
        try:
            await receive(event)
        except Exception:
            # Anybody who reaches the layer may write into it; one event must not deafen a whole group.
            logger.exception("layer.bad_event")


def subscribes(layer: Any) -> bool:
    """Whether the layer subscribes in `new_channel()`, as that of channels_redis.pubsub and its subclasses do."""
    return any(base.__module__ == "channels_redis.pubsub" for base in type(layer).__mro__)


async def unsubscribe(layer: Any, channel: str) -> None:
    """Let a channel go where the layer has subscribed to it.

    Such a layer lets go only in a `receive()` that is cancelled while no event waits: not for a listener that had not
    begun, or that was handling an event.
    """
    while subscribes(layer) and channel in layer.channels:
        receiving = asyncio.ensure_future(layer.receive(channel))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
