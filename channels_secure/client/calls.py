"""Requests that wait for an answer: a frame whose `ref` is the `id` that the request carried."""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from channels_secure.client.errors import ConnectionLost, MessageDenied, QueueFull


class Calls:
    """What is awaited, by `ref`; at most `limit` at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = count(1)
        self._awaited: dict[str, asyncio.Future[Any]] = {}
        self._sent: set[str] = set()

    def begin(self) -> tuple[str, asyncio.Future[Any]]:
        """Return a new `id` and the future of its answer.

        Raises:
            QueueFull: `limit` answers are awaited already.
        """
        if len(self._awaited) >= self._limit:
            raise QueueFull(f"{self._limit} answers are awaited already")
        # A prefix, so that it meets none of the application's own.
        ref = f"cs-{next(self._numbers)}"
        answer = self._awaited[ref] = asyncio.get_running_loop().create_future()
        return ref, answer

    def end(self, ref: str) -> None:
        """Forget a request, answered or not."""
        self._awaited.pop(ref, None)
        self._sent.discard(ref)

    def sent(self, ref: str | None) -> None:
        """Note that a request has left: with its connection, its answer is lost."""
        if ref in self._awaited:
            self._sent.add(ref)

    def settle(self, frame: Mapping[str, Any]) -> bool:
        """Give a frame to who awaits it; returns whether anybody did."""
        ref = frame.get("ref")
        answer = self._awaited.get(ref) if isinstance(ref, str) else None
        if answer is None:
            return False
        if not answer.done():
            if frame.get("type") == "error":
                answer.set_exception(MessageDenied(frame))
            else:
                answer.set_result(frame)
        return True

    def lose(self, error: ConnectionLost) -> None:
        """Tell those whose requests have left that no answer will come."""
        self._fail(self._sent, error)
        self._sent.clear()

    def fail(self, error: Exception) -> None:
        """Tell everybody that no answer will come."""
        self._fail(self._awaited, error)

    def _fail(self, refs: Iterable[str], error: Exception) -> None:
        for ref in refs:
            answer = self._awaited[ref]
            if not answer.done():
                answer.set_exception(error)
