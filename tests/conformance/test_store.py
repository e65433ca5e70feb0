"""Row 58: more keys than a process can remember."""

import os

import psutil

from channels_secure.policy.rates import Rate
from channels_secure.stores.memory import MAX_KEYS, MemoryStore
from tests.conformance.test_faults import row

ATTEMPTS, DAILY = Rate(60, 60.0), Rate(5, 86400.0)
MILLION = 1_000_000


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def exhaust(store: MemoryStore, key: str, rate: Rate = ATTEMPTS) -> None:
    """Spend all of a key's budget."""
    for _ in range(rate.amount):
        assert await store.take(key, rate) == 0
    assert await store.take(key, rate) > 0


@row(
    "million-keys",
    58,
    "1,000,000 distinct keys in 25 s, after a hundred that have spent their budget of a day",
    "never more than 50,000 entries, less than 32 MB; who is in penalty stays in it",
)
async def test_a_million_keys_neither_fill_the_memory_nor_free_anybody() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    punished = [f"handshake:ip:198.51.100.{number}" for number in range(100)]
    for key in punished:
        await exhaust(store, key, DAILY)
    before = psutil.Process(os.getpid()).memory_info().rss
    most = refused = 0
    for number in range(MILLION):
        clock.now += 1 / 40_000
        refused += await store.take(f"handshake:ip:{number}", ATTEMPTS) > 0
        most = max(most, len(store))
        if number % 40_000 == 0:
            store.sweep()
    grown = psutil.Process(os.getpid()).memory_info().rss - before
    assert most == MAX_KEYS == 50_000
    assert grown < 32 << 20, grown
    # Where the oldest few are all in penalty, a newcomer shares the overflow's budget though others could make room.
    assert refused < MILLION / 1000, refused
    for key in punished:
        wait = await store.take(key, DAILY)
        assert DAILY.period / DAILY.amount - 26 < wait < DAILY.period / DAILY.amount - 24, wait


@row(
    "keys-beyond-memory",
    58,
    "60,000 distinct keys at one moment, while none that is remembered may be forgotten",
    "those that find no room share one budget; none passes untracked, none in penalty is forgotten for them",
)
async def test_keys_that_find_no_room_share_one_budget() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await exhaust(store, "handshake:ip:198.51.100.1", DAILY)
    admitted = 0
    for number in range(60_000):
        admitted += await store.take(f"handshake:ip:{number}", ATTEMPTS) == 0
        assert len(store) <= MAX_KEYS
    assert admitted == MAX_KEYS - 1 + ATTEMPTS.amount
    # Later they have earned one attempt between them, and still no more.
    clock.now += 0.99
    assert [await store.take(f"late:{number}", ATTEMPTS) == 0 for number in range(100)].count(True) == 0
    assert await store.take("handshake:ip:198.51.100.1", DAILY) > 0
    # Once what is remembered is as good as new, there is room again for everybody but the one in penalty.
    clock.now += 60
    assert [await store.take(f"later:{number}", ATTEMPTS) == 0 for number in range(100)].count(True) == 100
    assert len(store) <= MAX_KEYS
    assert await store.take("handshake:ip:198.51.100.1", DAILY) > 0
    late = await store.take("late:0", ATTEMPTS)
    assert late == 0
