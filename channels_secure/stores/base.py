"""What a store is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from channels_secure.policy.rates import Rate

# What `Limiter.take` answers instead of a number of seconds: nothing is known here, so `refill` and take again.
ASK = -1.0


class Limiter(Protocol):
    """The budget of one key, kept by an open socket so that a message costs no look-up."""

    def take(self, now: float, cost: int = 1) -> float:
        """Spend `cost` at `now` (monotonic seconds): 0.0 when it conforms, else the seconds until it will, or ASK."""


class Lender(Limiter, Protocol):
    """A limiter that answers ASK when nothing is left of what it borrowed from a shared store."""

    async def refill(self, cost: int = 1) -> float:
        """Borrow enough for `cost`, or learn how long to wait; returns the monotonic time. Never raises."""


async def spend(limiter: Limiter, now: float, cost: int = 1) -> float:
    """`take`, with as many refills as it asks for; never ASK."""
    while (wait := limiter.take(now, cost)) == ASK:
        now = await cast("Lender", limiter).refill(cost)
    return wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What one connection occupies where several processes count connections.

    Args:
        id: the connection's.
        owner: whose older connections it may replace.
        since: when it was opened, seconds of the wall clock; decides only which connection of an owner is the oldest.
        limits: how many connections may share each key, ``{"user:5": 10, "ip:192.0.2.1": 50}``, in the order of asking.
    """

    id: str
    owner: str
    since: float
    limits: Mapping[str, int]


class Slots(Protocol):
    """Counts connections over all processes, each by a lease that ends by itself when its process dies."""

    async def claim(self, slot: Slot, *, replaces: bool) -> str | None:
        """Occupy every key or none: the key that is full, or None. With `replaces` the owner's own do not count."""

    async def make_room(self, slot: Slot) -> list[str]:
        """Take the owner's oldest other slots that are over the limits; returns their ids, which must be closed."""

    async def renew(self, slots: Iterable[Slot]) -> None:
        """Prolong leases, or begin them again where they were lost; refuses nobody.

        The slots are taken little by little, and one that has been given back meanwhile must not come any more.
        """

    async def give_back(self, slot: Slot) -> None:
        """Free what a connection occupies."""


class Tickets(Protocol):
    """Keeps single-use contents.

    Every method raises `channels_secure.exceptions.Unavailable` when the store cannot be asked.
    """

    async def put(self, digest: str, content: str, lifetime: float) -> None:
        """Keep a content for so many seconds."""

    def put_now(self, digest: str, content: str, lifetime: float) -> None:
        """The same from synchronous code."""

    async def pop(self, digest: str) -> str | None:
        """Take a content out, atomically: of racing callers one gets it, the others None."""


class Store(Protocol):
    """Counts for one process or for many. Keys are ours; their variable part has been checked and bounded.

    `slots` and `tickets` are None in a store that only this process sees: the registry counts its connections, and the
    database keeps its tickets. A store on a server may have ``async def server_time() -> float``, that server's clock
    in Unix seconds, with which `ws_doctor` sees whether it answers.
    """

    slots: Slots | None
    tickets: Tickets | None

    async def take(self, key: str, rate: Rate, cost: int = 1) -> float:
        """Spend `cost` of a key's budget: 0.0 when it conforms, else the seconds until it will."""

    def hold(self, key: str, rate: Rate) -> Limiter:
        """The limiter of a key, to be kept until `release`."""

    def release(self, limiter: Limiter) -> None:
        """Say that an open socket needs the limiter no more."""

    def sweep(self) -> None:
        """Forget what is as good as new; called about once a second in the event loop."""

    async def rest(self) -> None:
        """Close what an idle process need not keep open."""
