"""A budget's share in this process: units borrowed in one call and spent without any."""

import asyncio
from collections.abc import Awaitable, Callable

from channels_secure.background import start
from channels_secure.exceptions import Unavailable
from channels_secure.policy.rates import Bucket, Rate
from channels_secure.stores.base import ASK

# At most this part of a budget is borrowed at once, and never more units than these: a call then costs next to nothing.
SHARE, MOST = 8, 1_000
# The first loan of a key; the next are what was used, at most so many times the last one.
FIRST, GROWTH = 5, 4
# Seconds that a loan is good for: enough to use it up at the full rate, within these bounds.
SHORTEST, LONGEST = 1.0, 10.0
# Seconds, at most, for which nothing is asked after a budget was found spent: so that what comes together is worth it.
PATIENCE = 1.0
# Seconds for which this process counts alone after an unanswered call.
ALONE = 1.0

Borrow = Callable[[int, int], Awaitable[tuple[int, float]]]


class Lease:
    """A limiter of one key, shared by the sockets of one event loop.

    What is borrowed has been charged already, so that processes together never admit more than the budget; what lapses
    unused is lost, so that they may admit less. Loans follow the use: whoever sends rarely borrows one unit at a time.

    Args:
        key: of the budget, with its rate.
        local: counts alone while the store is away, and knows what was borrowed before.
        borrow: asks the store for the least and the most units; answers units and seconds to wait.
        is_away: whether the store is known not to answer.
        clock: monotonic seconds.
    """

    __slots__ = (
        "_alone_until", "_borrow", "_clock", "_filled", "_filled_at", "_filling", "_is_away", "_local", "_refused",
        "_refused_until", "_size", "_units", "_until", "holders", "key", "lifetime", "most", "patience",
    )  # fmt: skip

    def __init__(
        self,
        key: tuple[str, Rate],
        *,
        local: Bucket,
        borrow: Borrow,
        is_away: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.key = key
        self.most = max(1, min(MOST, key[1].amount // SHARE))
        spell = self.most * local.increment
        self.lifetime = min(LONGEST, max(SHORTEST, spell))
        self.patience = min(PATIENCE, 2 * spell) if self.most > 1 else 0.0
        self.holders = 0
        self._local, self._borrow, self._is_away, self._clock = local, borrow, is_away, clock
        self._units = self._filled = 0
        self._size = 0
        self._until = self._filled_at = 0.0
        self._refused, self._refused_until = 0, 0.0
        self._alone_until = 0.0
        self._filling: asyncio.Task[None] | None = None

    def take(self, now: float, cost: int = 1) -> float:
        if self._units >= cost and now < self._until:
            self._units -= cost
            return 0.0
        if now < self._alone_until or self._is_away():
            return self._local.take(now, cost)
        if now < self._refused_until and cost >= self._refused:
            return self._refused_until - now
        return ASK

    async def refill(self, cost: int = 1) -> float:
        """Sockets that ask at the same time make one call, which the cancellation of none of them ends."""
        if self._filling is None:
            self._filling = start(self._fill(cost))
            self._filling.add_done_callback(self._has_filled)
        await asyncio.wait({self._filling})
        return self._clock()

    def is_idle(self, now: float) -> bool:
        """Whether nothing is left here that the store does not know as well."""
        return now >= self._until and now >= self._refused_until and now >= self._alone_until

    def _has_filled(self, _: asyncio.Task[None]) -> None:
        self._filling = None

    async def _fill(self, cost: int) -> None:
        now = self._clock()
        self._size = self._next_size(now)
        self._drop_lapsed(now)
        least = cost - self._units
        if least <= 0:
            return
        wanted = max(least, self._size)
        try:
            units, wait = await self._borrow(least, wanted)
        except Unavailable:
            self._alone_until = self._clock() + ALONE
            return
        now = self._clock()
        if units:
            self._receive(units, now)
        if units < wanted:
            # Also after a part of it: that was the last, and asking for each unit that comes back is a call for each.
            self._refused, self._refused_until = (1 if units else cost), now + max(wait, self.patience)

    def _receive(self, units: int, now: float) -> None:
        self._drop_lapsed(now)
        self._units += units
        self._filled, self._filled_at, self._until = self._units, now, now + self.lifetime
        # What the process falls back on must not begin as if nothing had been spent.
        self._local.take(now, units)

    def _drop_lapsed(self, now: float) -> None:
        if now >= self._until:
            self._units = self._filled = 0

    def _next_size(self, now: float) -> int:
        """As many as will be used at the present pace before they lapse."""
        if not self._filled_at:
            return min(FIRST, self.most)
        used = self._filled - self._units
        pace = used / max(now - self._filled_at, 1e-3)
        return max(1, min(self.most, GROWTH * max(1, self._size), round(pace * self.lifetime)))
