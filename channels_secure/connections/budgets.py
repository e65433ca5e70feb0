"""What a connection may still do: its message rates, and how often it may err."""

from collections.abc import Mapping

from channels_secure.policy.rates import Bucket, Rate
from channels_secure.stores.base import Limiter, Store

# A second of refused frames is one episode: one strike, and so many answers at most, because a flood that is answered
# frame by frame doubles itself.
EPISODE = 1.0
MAX_ANSWERS = 100


class Budgets:
    """The message rates of one connection; `limiters` are charged in order, the connection's own first."""

    __slots__ = ("_held", "_shared", "_store", "limiters")

    def __init__(self) -> None:
        self.limiters: tuple[Limiter, ...] = ()
        self._shared: tuple[Limiter, ...] = ()
        # Of handlers with a rate of their own; most connections have none, and a dict is a quarter of a kilobyte.
        self._held: dict[tuple[str, Rate], Limiter] | None = None
        self._store: Store | None = None

    def open(self, store: Store, rates: Mapping[str, Rate], *, subject: str | None, address: str | None) -> None:
        """Take the limiters of a connection: its own, its subject's (user, or address if anonymous), its address's."""
        self.close()
        self._store = store
        shared = []
        if "user" in rates and subject is not None:
            shared.append(store.hold(f"message:{subject}", rates["user"]))
        if "ip" in rates and address is not None:
            shared.append(store.hold(f"message:address:{address}", rates["ip"]))
        self._shared = tuple(shared)
        self.limiters = (Bucket(rates["connection"]), *shared) if "connection" in rates else self._shared

    def hold(self, key: str, rate: Rate) -> Limiter:
        """A shared limiter, released when the connection ends."""
        if self._store is None:
            raise RuntimeError("the budgets of this connection are not open")
        if self._held is None:
            self._held = {}
        limiter = self._held.get((key, rate))
        if limiter is None:
            limiter = self._held[key, rate] = self._store.hold(key, rate)
        return limiter

    def charge(self, now: float, cost: int = 1) -> float:
        """Spend `cost` of every budget: 0.0, or the seconds to wait for the first that is spent."""
        for limiter in self.limiters:
            wait = limiter.take(now, cost)
            if wait:
                return wait
        return 0.0

    def close(self) -> None:
        """Give the shared limiters back."""
        if self._store is not None:
            for limiter in (*self._shared, *(self._held or {}).values()):
                self._store.release(limiter)
        self._held = None
        self._shared = self.limiters = ()


class Conduct:
    """How a peer behaves: what it may still do wrong, and what of a flood has not been recorded yet."""

    __slots__ = ("answers", "budget", "episode_until", "unrecorded")

    def __init__(self) -> None:
        self.budget: Bucket | None = None
        self.episode_until = 0.0
        self.answers = 0
        self.unrecorded = 0

    def allow(self, rate: Rate | None) -> None:
        """Set how many violations are tolerated; None is any number."""
        self.budget = None if rate is None else Bucket(rate)

    def throttle(self, now: float) -> bool:
        """Count a frame over its rate; whether it begins an episode, which is a strike."""
        self.unrecorded += 1
        if now < self.episode_until:
            self.answers += 1
            return False
        self.episode_until = now + EPISODE
        self.answers = 0
        return True

    @property
    def answers_spent(self) -> bool:
        return self.answers >= MAX_ANSWERS

    def is_spent(self, now: float) -> bool:
        """Count a violation; whether it was one too many."""
        return self.budget is not None and self.budget.take(now) > 0

    def take_unrecorded(self) -> int:
        """The number of throttled frames since the last call."""
        count, self.unrecorded = self.unrecorded, 0
        return count
