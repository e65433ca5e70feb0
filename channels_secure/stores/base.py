"""What a store is."""

from typing import Protocol

from channels_secure.policy.rates import Rate


class Limiter(Protocol):
    """The budget of one key, kept by an open socket so that a message costs no look-up."""

    def take(self, now: float, cost: int = 1) -> float:
        """Spend `cost` at `now` (monotonic seconds): 0.0 when it conforms, else the seconds until it will."""


class Store(Protocol):
    """Counts for one process or for many. Keys are ours; their variable part has been checked and bounded."""

    async def take(self, key: str, rate: Rate, cost: int = 1) -> float:
        """Spend `cost` of a key's budget: 0.0 when it conforms, else the seconds until it will."""

    def hold(self, key: str, rate: Rate) -> Limiter:
        """The limiter of a key, to be kept until `release`."""

    def release(self, limiter: Limiter) -> None:
        """Say that an open socket needs the limiter no more."""

    def sweep(self) -> None:
        """Forget what is as good as new; called about once a second."""
