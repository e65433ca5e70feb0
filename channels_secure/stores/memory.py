"""Counts in this process: exact, and enough for one server process."""

import time
from collections.abc import Callable
from itertools import islice

from channels_secure.policy.rates import Bucket, Rate
from channels_secure.stores.base import Limiter, Slots, Tickets

MAX_KEYS = 50_000
# How many keys one look covers, so that it never holds up the loop: once a second, and for each new key at the cap.
SWEEP = 2_000
MAKE_ROOM = 16


class MemoryStore:
    """Buckets by key, in a bounded dict.

    At `max_keys` the keys that are as good as new make room. If none is, new keys share one overflow bucket: an
    attacker with a million addresses costs a constant, and "not tracked" never means "allowed".
    """

    slots: Slots | None = None
    tickets: Tickets | None = None

    def __init__(self, *, max_keys: int = MAX_KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets: dict[tuple[str, Rate], Bucket] = {}
        self._overflow: dict[Rate, Bucket] = {}
        self._max_keys = max_keys
        self._clock = clock

    def __len__(self) -> int:
        return len(self._buckets)

    async def take(self, key: str, rate: Rate, cost: int = 1) -> float:
        return self.bucket(key, rate).take(self._clock(), cost)

    def hold(self, key: str, rate: Rate) -> Limiter:
        bucket = self.bucket(key, rate)
        bucket.holders += 1
        return bucket

    def release(self, limiter: Limiter) -> None:
        if isinstance(limiter, Bucket):
            limiter.holders -= 1

    def sweep(self) -> None:
        self._sweep(SWEEP)

    def postpone(self, key: str, rate: Rate, until: float, cost: int) -> None:
        """Note that others have spent a key's budget: `cost` does not conform before `until`."""
        # Never the overflow bucket, which others share.
        bucket = self._buckets.get((key, rate))
        if bucket is not None:
            bucket.postpone(until, cost)

    def _sweep(self, count: int) -> None:
        """Look at the oldest keys: drop the idle ones, move the others to the end."""
        now = self._clock()
        for key in list(islice(self._buckets, count)):
            bucket = self._buckets.pop(key)
            if bucket.holders or not bucket.is_idle(now):
                self._buckets[key] = bucket

    async def rest(self) -> None:
        """Nothing is open."""

    def bucket(self, key: str, rate: Rate) -> Bucket:
        """The state of a key; kept for as long as it is held or not idle."""
        bucket = self._buckets.get((key, rate))
        if bucket is not None:
            return bucket
        if len(self._buckets) >= self._max_keys:
            self._sweep(MAKE_ROOM)
        if len(self._buckets) >= self._max_keys:
            return self._overflow.setdefault(rate, Bucket(rate))
        return self._buckets.setdefault((key, rate), Bucket(rate))
