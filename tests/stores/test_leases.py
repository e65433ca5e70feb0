"""Borrowed units: how many calls they save, and that they never come to more than the budget."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.exceptions import Unavailable
from channels_secure.policy.rates import Bucket, Rate
from channels_secure.stores.base import ASK, Limiter, spend
from channels_secure.stores.redis import RedisStore, lending
from channels_secure.stores.redis.lease import LONGEST, MOST, Lease
from tests.stores.conftest import Clock

FAST, SLOW = Rate.parse("200/s"), Rate.parse("600/m")


@dataclass
class Shared:
    """A budget that several leases borrow from, with one clock, as the server's script does it."""

    rate: Rate
    clock: Clock = field(default_factory=Clock)
    calls: int = 0
    is_away: bool = False
    # Closed until it is set.
    gate: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.bucket = Bucket(self.rate)

    async def borrow(self, least: int, most: int) -> tuple[int, float]:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise Unavailable("away")
        bucket, now = self.bucket, self.clock()
        room = int((bucket.tolerance - max(0.0, bucket.tat - now)) / bucket.increment)
        if room < least:
            return 0, bucket.take(now, least)
        assert bucket.take(now, min(room, most)) == 0
        return min(room, most), 0.0

    def lease(self, key: str = "key") -> Lease:
        return Lease(
            (key, self.rate),
            local=Bucket(self.rate),
            borrow=self.borrow,
            is_away=lambda: False,
            clock=self.clock,
        )


async def drive(shared: Shared, leases: list[Lease], *, every: float, seconds: float) -> tuple[int, int]:
    """Send a message each so many seconds, by the leases in turn; returns messages and admissions."""
    messages = admitted = 0
    end = shared.clock() + seconds
    while shared.clock() < end:
        lease = leases[messages % len(leases)]
        admitted += await spend(lease, shared.clock()) == 0
        messages += 1
        shared.clock.advance(every)
    return messages, admitted


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("pace", [0.25, 1.0, 3.0])
async def test_a_call_serves_twenty_messages_of_a_sustained_load(processes: int, pace: float) -> None:
    """At a quarter of the rate, at the rate, and three times above it, alone and shared by four."""
    shared = Shared(FAST)
    messages, _ = await drive(shared, [shared.lease() for _ in range(processes)], every=1 / (200 * pace), seconds=30)
    limit = 1 / 20 if pace >= 1 else processes / 20
    assert shared.calls <= messages * limit + 10


@pytest.mark.parametrize("pace", [0.5, 0.9, 2.0])
@pytest.mark.parametrize("processes", [1, 4])
async def test_what_may_pass_does_pass(processes: int, pace: float) -> None:
    """Within the rate nobody is refused although units are held elsewhere; above it, nearly the rate gets through."""
    shared = Shared(FAST)
    messages, admitted = await drive(
        shared, [shared.lease() for _ in range(processes)], every=1 / (200 * pace), seconds=30
    )
    if pace < 1:
        assert admitted == messages
    else:
        assert 0.95 * (200 + 200 * 30) <= admitted <= 200 + 200 * 30


async def test_a_slow_talker_in_many_processes_is_not_refused_for_what_they_hold() -> None:
    """A message each second at 600 a minute; with loans of one size it would be refused after a quarter of a minute."""
    shared = Shared(SLOW)
    messages, admitted = await drive(shared, [shared.lease() for _ in range(4)], every=1.0, seconds=600)
    assert admitted == messages


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.001, 0.02, 0.5, 2.0, 11.0]), st.integers(1, 9)),
        min_size=1,
        max_size=150,
    ),
    rate=st.sampled_from(["5/10s", "20/s", "200/s", "600/m"]),
)
def test_processes_together_never_admit_more_than_the_budget(steps: list[tuple[int, float, int]], rate: str) -> None:
    shared = Shared(Rate.parse(rate))
    leases = [shared.lease() for _ in range(4)]

    async def run() -> None:
        began, admitted = shared.clock(), 0
        for process, pause, cost in steps:
            shared.clock.advance(pause)
            admitted += cost * (await spend(leases[process], shared.clock(), cost) == 0)
            assert admitted <= shared.rate.amount * (1 + (shared.clock() - began) / shared.rate.period) + 0.01

    asyncio.run(run())


@pytest.mark.parametrize("rate", ["1/m", "20/s", "200/s", "600/m", "100000/s", "1000/d"])
def test_a_loan_is_a_small_part_and_does_not_last(rate: str) -> None:
    lease = Shared(Rate.parse(rate)).lease()
    assert 1 <= lease.most <= max(1, min(MOST, Rate.parse(rate).amount // 8))
    assert 1 <= lease.lifetime <= LONGEST


async def test_units_lapse() -> None:
    shared = Shared(FAST)
    lease = shared.lease()
    assert await spend(lease, shared.clock()) == 0
    assert lease.take(shared.clock()) == 0
    shared.clock.advance(lease.lifetime)
    assert lease.take(shared.clock()) == ASK


async def test_a_refusal_is_remembered_and_a_flood_makes_no_call() -> None:
    shared = Shared(Rate.parse("5/10s"))
    lease = shared.lease()
    while await spend(lease, shared.clock()) == 0:
        pass
    calls = shared.calls
    assert [await spend(lease, shared.clock()) for _ in range(1000)] == [pytest.approx(2, abs=0.001)] * 1000
    assert shared.calls == calls
    shared.clock.advance(2.001)
    assert await spend(lease, shared.clock()) == 0


async def test_a_dear_refusal_does_not_refuse_the_cheap() -> None:
    shared = Shared(Rate.parse("5/10s"))
    lease = shared.lease()
    assert await spend(lease, shared.clock(), 4) == 0
    assert await spend(lease, shared.clock(), 2) > 0
    assert await spend(lease, shared.clock(), 1) == 0


async def test_sockets_that_ask_at_once_make_one_call() -> None:
    opened = asyncio.Event()
    shared = Shared(SLOW, gate=opened)
    lease = shared.lease()
    waiting = [asyncio.ensure_future(spend(lease, shared.clock())) for _ in range(5)]
    await asyncio.sleep(0)
    opened.set()
    assert await asyncio.gather(*waiting) == [0.0] * 5
    assert shared.calls == 1


async def test_a_socket_that_ends_while_it_waits_does_not_take_the_call_from_the_others() -> None:
    opened = asyncio.Event()
    shared = Shared(SLOW, gate=opened)
    lease = shared.lease()
    first, second = (asyncio.ensure_future(spend(lease, shared.clock())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    opened.set()
    assert await second == 0
    assert first.cancelled()


async def test_after_an_unanswered_call_the_process_counts_alone_for_a_second() -> None:
    shared = Shared(Rate.parse("5/10s"), is_away=True)
    lease = shared.lease()
    assert [await spend(lease, shared.clock()) == 0 for _ in range(7)] == [True] * 5 + [False] * 2
    assert shared.calls == 1
    shared.clock.advance(1)
    shared.is_away = False
    assert await spend(lease, shared.clock()) == 0
    assert shared.calls == 2


async def test_what_was_borrowed_counts_when_the_process_is_left_alone() -> None:
    shared = Shared(Rate.parse("5/10s"))
    lease = shared.lease()
    assert await spend(lease, shared.clock(), 5) == 0
    shared.is_away = True
    shared.clock.advance(2.001)
    assert [await spend(lease, shared.clock()) == 0 for _ in range(3)] == [True, False, False]


async def test_the_server_lends_as_the_budget_says(redis_store: RedisStore, client: Any, prefix: str) -> None:
    """The script itself, on a real server: a burst of 200, of which each call brings several."""
    limiter = redis_store.hold("a", Rate.parse("200/h"))
    client.config_resetstat()
    admitted = [await spend(limiter, time.monotonic()) == 0 for _ in range(300)]
    assert admitted == [True] * 200 + [False] * 100
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls <= 300 / 20
    (key,) = client.scan_iter(f"{prefix}*")
    assert 3_500_000 < client.pttl(key) <= 3_600_100
    redis_store.release(limiter)


async def test_sockets_of_one_key_share_a_lease_and_the_last_leaves_it_for_those_who_return(
    redis_store: RedisStore, client: Any
) -> None:
    first, second = redis_store.hold("a", FAST), redis_store.hold("a", FAST)
    assert first is second
    assert await spend(first, time.monotonic()) == 0
    redis_store.release(first)
    redis_store.release(second)
    redis_store.sweep()
    assert redis_store.hold("a", FAST) is first
    redis_store.release(first)


async def test_leases_that_rest_are_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "MAX_RESTING", 50)
    shared = Shared(FAST)
    here = lending.Lending(lambda key, rate: shared.lease(key))
    for number in range(1_000):
        lease = here.hold(f"user-{number}", FAST)
        await lease.refill()
        here.release(lease)
    assert len(here) == 50
    shared.clock.advance(LONGEST)
    here.sweep(shared.clock())
    assert len(here) == 0


async def test_a_lease_in_use_is_not_forgotten() -> None:
    shared = Shared(FAST)
    here = lending.Lending(lambda key, rate: shared.lease())
    lease = here.hold("key", FAST)
    shared.clock.advance(1_000)
    here.sweep(shared.clock())
    assert here.hold("key", FAST) is lease


async def test_what_is_not_a_lease_is_released_in_peace(redis_store: RedisStore) -> None:
    other: Limiter = Bucket(FAST)
    redis_store.release(other)
    assert not redis_store.is_away
