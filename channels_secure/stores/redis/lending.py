"""The leases of one event loop: one for each budget, whichever sockets share it."""

from collections.abc import Callable
from itertools import islice

from channels_secure.policy.rates import Rate
from channels_secure.stores.redis.lease import Lease

# Leases that no socket holds any more, kept for what is left of them.
MAX_RESTING = 50_000
# Of these so many are looked at once a second.
SWEEP = 2_000

Key = tuple[str, Rate]


class Lending:
    """Finds a budget's lease, or makes it."""

    def __init__(self, make: Callable[[str, Rate], Lease]) -> None:
        self._make = make
        self._held: dict[Key, Lease] = {}
        self._resting: dict[Key, Lease] = {}

    def __len__(self) -> int:
        return len(self._held) + len(self._resting)

    def hold(self, key: str, rate: Rate) -> Lease:
        lease = self._held.get((key, rate))
        if lease is None:
            lease = self._resting.pop((key, rate), None) or self._make(key, rate)
            self._held[key, rate] = lease
        lease.holders += 1
        return lease

    def release(self, lease: Lease) -> None:
        """Let it rest when nobody holds it; whoever reconnects finds what is left, be it units or a refusal."""
        lease.holders -= 1
        if lease.holders or self._held.pop(lease.key, None) is None:
            return
        if len(self._resting) >= MAX_RESTING:
            # Nothing is given away: what is forgotten has been charged, and the store remembers.
            del self._resting[next(iter(self._resting))]
        self._resting[lease.key] = lease

    def sweep(self, now: float) -> None:
        """Forget the idle ones among those that have rested longest."""
        for key in list(islice(self._resting, SWEEP)):
            lease = self._resting.pop(key)
            if not lease.is_idle(now):
                self._resting[key] = lease
