"""Channel-layer events for one consumer: one at a time, in order, and never while a message is being handled."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from channels_secure.connections.connection import Connection
from channels_secure.listening import listen

if TYPE_CHECKING:
    from channels_secure.consumers.ahead import Ahead

logger = logging.getLogger("channels_secure")

# As many as a Channels layer keeps for a channel by default; the oldest are the least useful.
MAX_EVENTS = 100


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
        "_first",
        "_listener",
        "_paused",
        "ahead",
        "events",
    )

    def __init__(self, deliver: Callable[[dict[str, Any]], Awaitable[None]], connection: Connection) -> None:
        self._deliver = deliver
        self._connection = connection
        # Made for the first event: an empty deque takes most of a kilobyte. A socket without events pays one look for
        # them at each message.
        self.events: deque[dict[str, Any]] | None = None
        self._first: dict[str, Any] | None = None
        # Where the message loop finds its next message while it has been read ahead of it.
        self.ahead: Ahead | None = None
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

    def put_first(self, event: dict[str, Any]) -> None:
        """Queue an event before all others, which no others can push out; there is one such place."""
        if self._closed:
            return
        self._first = event
        if self.events is None:
            self.events = deque()
        if not self._paused and self._connection.handler_since is None:
            self._start()

    def resume(self) -> None:
        """Deliver what waits, and what comes, until the next `rest()`."""
        self._paused = False
        self._start()

    async def rest(self) -> float:
        """Wait until the event that is being handled has been; the next one waits for `resume()`. Returns the time."""
        self._paused = True
        if self._delivering is not None and not self._delivering.done():
            await asyncio.wait({self._delivering})
        return time.monotonic()

    def listen(self, layer: Any, channel: str) -> None:
        """Begin to receive from a channel of the consumer's own; does nothing the second time, nor at the end."""
        if self._listener is None and not self._closed:
            self._listener = asyncio.get_running_loop().create_task(listen(layer, channel, self._receive))

    @property
    def leaves_loop_reading(self) -> bool:
        """Whether an event is being handled beside the message loop, which may be waiting for a frame."""
        return not self._paused and self._delivering is not None and not self._delivering.done()

    def close(self) -> None:
        """Stop listening and delivering, for good."""
        self._closed = True
        self.events = self._first = None
        if self.ahead is not None:
            self.ahead.close()
        for task in (self._listener, self._delivering):
            if task is not None:
                task.cancel()

    def _start(self) -> None:
        if (self._first or self.events) and (self._delivering is None or self._delivering.done()):
            self._delivering = asyncio.get_running_loop().create_task(self._drain())

    async def _receive(self, event: dict[str, Any]) -> None:
        self.put(event)
        # Handled before the next is taken off the layer, whose own capacity is the limit.
        if self._delivering is not None and not self._delivering.done():
            await asyncio.wait({self._delivering})

    async def _drain(self) -> None:
        """Deliver at least one event, so that neither a flood of messages nor one of events silences the other."""
        while (event := self._next()) is not None:
            await self._deliver(event)
            if self._paused:
                return
        self._dropping = False

    def _next(self) -> dict[str, Any] | None:
        first, self._first = self._first, None
        return first or (self.events.popleft() if self.events else None)

    def _say_dropped(self) -> None:
        if not self._dropping:
            self._dropping = True
            logger.warning("layer.event_dropped")


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
