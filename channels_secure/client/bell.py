"""Waiting for something to become true, in one event loop."""

import asyncio
from collections.abc import Callable


class Bell:
    """Rung when anything has changed; who waits looks for himself."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for each in self._waiting:
            if not each.done():
                each.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds."""
        while not condition():
            rung = asyncio.get_running_loop().create_future()
            self._waiting.add(rung)
            try:
                await rung
            finally:
                self._waiting.discard(rung)
