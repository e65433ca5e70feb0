"""The store of several processes: budgets, slots and tickets in Redis or Valkey."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from channels_secure import signals
from channels_secure.background import spawn
from channels_secure.exceptions import Unavailable
from channels_secure.policy.rates import Rate
from channels_secure.stores import base
from channels_secure.stores.memory import MemoryStore
from channels_secure.stores.redis import location as locations
from channels_secure.stores.redis.breaker import Breaker
from channels_secure.stores.redis.keys import key_of
from channels_secure.stores.redis.lease import Lease
from channels_secure.stores.redis.lending import Lending
from channels_secure.stores.redis.link import Away, Command, Link, Script
from channels_secure.stores.redis.slots import RedisSlots
from channels_secure.stores.redis.tickets import RedisTickets

TAKE, TIME = Script("take.lua"), Script("time.lua")
MICROSECONDS = 1_000_000
# What a probe spends; it must write, because a server that is full or a replica still answers reads.
PROBE = Rate(1_000, 1.0)
# Of synchronous code, which issues tickets.
CONNECTIONS_NOW = 8


class RedisStore:
    """Counts together with other processes; while the server is away it counts in this one.

    Args:
        location: ``redis://``, ``rediss://`` or ``unix://``, sentinels or a cluster; see docs/howto/redis.md.
        prefix: begins every key, so that several projects can share a server.
        socket_timeout: seconds after which nobody waits for an answer any more.

    Raises:
        ValueError: the location is no URL, or another option has no sense.
    """

    def __init__(
        self,
        *,
        location: str,
        prefix: str = "cs:",
        socket_timeout: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(prefix, str) or "{" in prefix or "}" in prefix:
            raise ValueError("PREFIX must be a text without braces")
        if isinstance(socket_timeout, bool) or not isinstance(socket_timeout, int | float) or socket_timeout <= 0:
            raise ValueError("SOCKET_TIMEOUT must be a number of seconds above 0")
        self._location = locations.check(location)
        self._prefix = prefix
        self._timeout = float(socket_timeout)
        self._clock = clock
        self._local = MemoryStore(clock=clock)
        self._breaker = Breaker(clock, _tell)
        self._loops: dict[asyncio.AbstractEventLoop, tuple[Link, Lending]] = {}
        self._client_now: Any = None
        self.slots: base.Slots | None = RedisSlots(self._ask, prefix)
        self.tickets: base.Tickets | None = RedisTickets(self._ask, self._client, prefix)

    @property
    def is_away(self) -> bool:
        """Whether this process counts alone at present."""
        return self._breaker.is_open

    async def take(self, key: str, rate: Rate, cost: int = 1) -> float:
        # What this process alone has spent is spent for all: a flood is refused without asking.
        wait = self._local.bucket(key, rate).take(self._clock(), cost)
        if wait:
            return wait
        try:
            _, wait = await self._spend(key, rate, cost, cost)
        except Unavailable:
            return 0.0
        if wait:
            self._local.postpone(key, rate, self._clock() + wait, cost)
        return wait

    def hold(self, key: str, rate: Rate) -> base.Limiter:
        return self._here()[1].hold(key, rate)

    def release(self, limiter: base.Limiter) -> None:
        if isinstance(limiter, Lease):
            self._here()[1].release(limiter)

    def sweep(self) -> None:
        self._local.sweep()
        self._here()[1].sweep(self._clock())
        self._probe_if_due()

    async def rest(self) -> None:
        await self._here()[0].rest()

    async def server_time(self) -> float:
        """The server's clock in Unix seconds, for `ws_doctor`; raises Unavailable when there is no answer."""
        seconds, microseconds = await self._here()[0].ask(TIME(key_of(self._prefix, "time"))())
        return int(seconds) + int(microseconds) / MICROSECONDS

    async def _spend(self, key: str, rate: Rate, least: int, most: int) -> tuple[int, float]:
        """Units, and the seconds to wait when there are none."""
        increment = rate.period * MICROSECONDS / rate.amount
        # Sums of increments are rounded, which must not cost the last unit of a burst.
        tolerance = rate.period * MICROSECONDS + min(10.0, increment / 100)
        name = key_of(self._prefix, "rate", str(rate), key)
        units, wait = await self._ask(TAKE(name)(increment, tolerance, least, most))
        return units, wait / MICROSECONDS

    async def _ask(self, command: Command) -> Any:
        """The server's answer.

        Raises:
            Away: there is none, or the breaker is open and nobody is to wait for it.
        """
        if self._breaker.is_open:
            self._probe_if_due()
            raise Away("open", counts=False)
        try:
            answer = await self._here()[0].ask(command, still=lambda: not self._breaker.is_open)
        except Away as away:
            if away.counts:
                self._breaker.failed(str(away))
            raise
        self._breaker.worked()
        return answer

    def _probe_if_due(self) -> None:
        if self._breaker.wants_probe():
            spawn(self._probe())

    async def _probe(self) -> None:
        """Ask once in the background, so that nobody's handshake or message waits for a store that is not there."""
        name = key_of(self._prefix, "rate", str(PROBE), "probe")
        increment = PROBE.period * MICROSECONDS / PROBE.amount
        try:
            await self._here()[0].ask(TAKE(name)(increment, PROBE.period * MICROSECONDS, 1, 1))
        except Away as away:
            if away.counts:
                self._breaker.probed(str(away))
        else:
            self._breaker.probed(None)

    def _here(self) -> tuple[Link, Lending]:
        """What belongs to the running event loop: connections cannot be shared between loops."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            # A copy, and no surprise at what is gone: loops begin and end in other threads meanwhile.
            for other in [other for other in list(self._loops) if other.is_closed()]:
                self._loops.pop(other, None)
            found = self._loops[loop] = Link(self._location, self._timeout), Lending(self._lease)
        return found

    def _lease(self, key: str, rate: Rate) -> Lease:
        async def borrow(least: int, most: int) -> tuple[int, float]:
            return await self._spend(key, rate, least, most)

        local = self._local.bucket(key, rate)
        return Lease((key, rate), local=local, borrow=borrow, is_away=lambda: self._breaker.is_open, clock=self._clock)

    def _client(self) -> Any | None:
        """A client for synchronous code, None while there is no server to talk to."""
        if self._breaker.is_open:
            return None
        if self._client_now is None:
            self._client_now = locations.connect_now(self._location, timeout=self._timeout, connections=CONNECTIONS_NOW)
        return self._client_now


def _tell(error: str | None) -> None:
    if error is None:
        signals.store_recovered.send_robust(sender=RedisStore, store="RedisStore")
    else:
        signals.store_degraded.send_robust(sender=RedisStore, store="RedisStore", error=error)
