"""How often something may happen: the generic cell rate algorithm (ITU-T I.371, as used by nginx and Redis-cell).

One number per key, the theoretical arrival time, tells both whether an event conforms and when the next one will.
"""

import re
from dataclasses import dataclass
from typing import Self

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"(?P<amount>[1-9][0-9]{0,8})/(?P<count>[1-9][0-9]{0,5})?(?P<unit>[smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` events in each `period` seconds; as many may come at once."""

    amount: int
    period: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"amount/[n]unit"`` with units s, m, h, d: ``"20/s"``, ``"5/10s"``, ``"600/m"``.

        Raises:
            ValueError: the text is not a rate.
        """
        match = _RATE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is not a rate: write amount/[n]unit, for example '20/s' or '5/10s'")
        return cls(int(match["amount"]), int(match["count"] or 1) * UNITS[match["unit"]])

    def less_one(self) -> "Rate":
        """The rate whose first refusal is this one's last admission; at least one event."""
        return Rate(max(1, self.amount - 1), self.period)

    def __str__(self) -> str:
        for name, seconds in reversed(UNITS.items()):
            if self.period % seconds == 0:
                count = int(self.period // seconds)
                return f"{self.amount}/{'' if count == 1 else count}{name}"
        return f"{self.amount}/{self.period:g}s"


class Bucket:
    """The state of one key: the theoretical arrival time (TAT), in seconds of the caller's clock.

    `holders` counts the open sockets that keep a reference, so that a store does not forget a bucket in use.
    """

    __slots__ = ("holders", "increment", "tat", "tolerance")

    def __init__(self, rate: Rate) -> None:
        self.increment = rate.period / rate.amount
        # Sums of increments carry rounding errors that grow with the clock: 1e-9 s after a day, 1e-6 s after years.
        # They must not cost the last unit of a burst.
        self.tolerance = rate.period + min(1e-5, self.increment / 100)
        self.tat = 0.0
        self.holders = 0

    def take(self, now: float, cost: int = 1) -> float:
        """Spend `cost` events at `now`: 0.0 when they conform, else nothing, and the seconds until they will."""
        tat = self.tat
        if tat < now:
            tat = now
        tat += cost * self.increment
        excess = tat - now - self.tolerance
        if excess > 0:
            return excess
        self.tat = tat
        return 0.0

    def postpone(self, until: float, cost: int = 1) -> None:
        """Count as spent so much that `cost` does not conform before `until`."""
        self.tat = max(self.tat, until + self.tolerance - cost * self.increment)

    def is_idle(self, now: float) -> bool:
        """Whether the bucket is as good as a new one."""
        return self.tat <= now
