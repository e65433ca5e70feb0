"""What waits to be sent and what waits to be taken: both bounded, because neither side may fill the other's memory."""

from collections import deque
from typing import Any

from channels_secure.client.errors import QueueFull


class Outbox:
    """Messages that wait for the connection, in order; full is an error for whoever comes next."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("a queue has room for one message at least")
        self._limit = limit
        self._waiting: deque[tuple[str, str | None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= self._limit

    def put(self, text: str, ref: str | None = None) -> None:
        """Add a message.

        Raises:
            QueueFull: `limit` messages wait already.
        """
        if self.is_full:
            raise QueueFull(f"{self._limit} messages wait for the connection already")
        self._waiting.append((text, ref))

    def take(self) -> tuple[str, str | None]:
        """Remove the oldest message and its `ref`: it counts as sent now, and is never sent a second time."""
        return self._waiting.popleft()

    def withdraw(self, ref: str) -> None:
        """Remove the request `ref` if it still waits: nobody waits for its answer any more."""
        self._waiting = deque(each for each in self._waiting if each[1] != ref)

    def clear(self) -> None:
        self._waiting.clear()


class Inbox:
    """Messages that nobody has taken yet; the oldest make room for the newest, and are counted."""

    def __init__(self, limit: int) -> None:
        # A deque without room would drop every message.
        if limit < 1:
            raise ValueError("a queue has room for one message at least")
        self._waiting: deque[Any] = deque(maxlen=limit)
        self._lost = 0

    def __len__(self) -> int:
        """What there is to take or to be told."""
        return len(self._waiting) + bool(self._lost)

    def put(self, message: Any) -> bool:
        """Add a message; returns whether it is the first that cost another its place since that was last told."""
        is_full = len(self._waiting) == self._waiting.maxlen
        self._lost += is_full
        self._waiting.append(message)
        return self._lost == 1 and is_full

    def take(self) -> Any:
        """Remove the oldest message; IndexError when there is none."""
        return self._waiting.popleft()

    def take_lost(self) -> int:
        """How many messages were dropped since this was last asked."""
        lost, self._lost = self._lost, 0
        return lost
