"""What a connection may still do: its message rates, and how often it may err."""

from collections.abc import Mapping

from channels_secure.policy.rates import Bucket, Rate
from channels_secure.stores.base import Limiter, Store, spend

# A second of refused frames is one episode: one strike, and so many answers at most, because a flood that is answered
# frame by frame doubles itself.
EPISODE = 1.0
MAX_ANSWERS = 100


class Budgets:
    """The message rates of one connection; `limiters` are charged in order, the connection's own first."""

    __slots__ = ("_held", "_shared", "_store", "asking", "limiters")

    def __init__(self) -> None:
        self.limiters: tuple[Limiter, ...] = ()
        # The one that answered ASK, when somebody charges them without waiting.
        self.asking: Limiter | None = None
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

    async def charge(self, now: float, cost: int = 1) -> float:
        """Spend `cost` of every budget: 0.0, or the seconds to wait for the first that is spent."""
        return await _charge(self.limiters, now, cost)

    async def charge_rest(self, now: float) -> float:
        """Spend one unit of the budget that was asking and of those after it, or of all if none was."""
        asking, self.asking = self.asking, None
        if asking is None:
            return await _charge(self.limiters, now, 1)
        if asking not in self.limiters:
            return 0.0
        return await _charge(self.limiters[self.limiters.index(asking) :], now, 1)

    def close(self) -> None:
        """Give the shared limiters back."""
        if self._store is not None:
            for limiter in (*self._shared, *(self._held or {}).values()):
                self._store.release(limiter)
        self._held = self.asking = None
        self._shared = self.limiters = ()


async def _charge(limiters: tuple[Limiter, ...], now: float, cost: int) -> float:
    for limiter in limiters:
        wait = limiter.take(now, cost)
        if wait < 0:
            wait = await spend(limiter, now, cost)
        if wait:
            return wait
    return 0.0


class Conduct:
    """How a peer behaves: what it did and may still do wrong, and what of a flood has not been recorded yet."""

    __slots__ = ("answers", "budget", "episode_until", "refreshes", "unrecorded", "violations")

    def __init__(self) -> None:
        self.budget: Bucket | None = None
        self.episode_until = 0.0
        self.answers = 0
        self.unrecorded = 0
        self.violations = 0
        # Most connections never refresh a token.
        self.refreshes: Bucket | None = None

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

    def refresh(self, now: float, rate: Rate | None) -> float:
        """Count a token that is to replace the connection's: 0.0, or the seconds to wait."""
        if rate is None:
            return 0.0
        if self.refreshes is None:
            self.refreshes = Bucket(rate)
        return self.refreshes.take(now)

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
