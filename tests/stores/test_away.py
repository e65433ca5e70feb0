"""A real server that is paused, killed, full, read-only, flushed and spoilt: who waits, who counts, and who says so."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from channels_secure import audit, signals
from channels_secure.exceptions import Unavailable
from channels_secure.models import AuditEvent
from channels_secure.policy.rates import Rate
from channels_secure.stores.base import Slot, spend
from channels_secure.stores.redis import RedisStore
from channels_secure.stores.redis.breaker import FAILURES, LONGEST_PAUSE
from channels_secure.stores.redis.lease import ALONE
from tests.services import OwnRedis
from tests.stores.conftest import Clock

FIVE = Rate.parse("5/h")
# The store's own deadline, and what a busy machine may add to it.
DEADLINE, SLACK = 0.25, 0.5


class Witness:
    """What a store says of itself."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.changed = asyncio.Event()

    def degraded(self, error: str, **_: Any) -> None:
        self._hear(f"degraded: {error}")

    def recovered(self, **_: Any) -> None:
        self._hear("recovered")

    def _hear(self, what: str) -> None:
        self.said.append(what)
        self.changed.set()


@pytest.fixture
def witness() -> Witness:
    witness = Witness()
    signals.store_degraded.connect(witness.degraded)
    signals.store_recovered.connect(witness.recovered)
    return witness


@pytest.fixture
async def store(own_redis: OwnRedis, clock: Clock) -> AsyncIterator[RedisStore]:
    store = RedisStore(location=own_redis.url, socket_timeout=DEADLINE, clock=clock)
    assert await store.take("warm", FIVE) == 0
    yield store
    own_redis.resume()
    await store.rest()


@pytest.fixture
def admin(own_redis: OwnRedis) -> Iterator[Any]:
    with Redis.from_url(own_redis.url) as client:
        yield client


async def give_up(store: RedisStore) -> None:
    for number in range(FAILURES):
        await store.take(f"given-up-{number}", FIVE)
    assert store.is_away


async def come_back(store: RedisStore, clock: Clock, witness: Witness) -> None:
    """Let the supervisor's seconds pass until the store says that it is back."""
    witness.changed.clear()
    for _ in range(20):
        clock.advance(1)
        store.sweep()
        try:
            async with asyncio.timeout(1):
                await witness.changed.wait()
        except TimeoutError:
            continue
        assert not store.is_away
        return
    raise AssertionError(f"it never came back: {witness.said}")


async def timed(call: Awaitable[Any]) -> float:
    began = time.monotonic()
    await call
    return time.monotonic() - began


Misfortune = Callable[[OwnRedis, Any], None]


def fill(server: OwnRedis, admin: Any) -> None:
    admin.config_set("maxmemory", 1)


def demote(server: OwnRedis, admin: Any) -> None:
    admin.replicaof("127.0.0.1", 1)


def take_rights(server: OwnRedis, admin: Any) -> None:
    admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-evalsha"])


def kill(server: OwnRedis, admin: Any) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()


def pause(server: OwnRedis, admin: Any) -> None:
    server.pause()


def free(server: OwnRedis, admin: Any) -> None:
    admin.config_set("maxmemory", 0)


def promote(server: OwnRedis, admin: Any) -> None:
    admin.replicaof("NO", "ONE")


def give_rights(server: OwnRedis, admin: Any) -> None:
    admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all"])


def restart(server: OwnRedis, admin: Any) -> None:
    server.start()


def resume(server: OwnRedis, admin: Any) -> None:
    server.resume()


MISFORTUNES: dict[str, tuple[Misfortune, Misfortune]] = {
    "paused": (pause, resume),
    "killed": (kill, restart),
    "full": (fill, free),
    "read-only": (demote, promote),
    "without-rights": (take_rights, give_rights),
}
each_misfortune = pytest.mark.parametrize("misfortune", MISFORTUNES)


@each_misfortune
async def test_limits_are_counted_here_until_the_server_is_back(
    misfortune: str, own_redis: OwnRedis, admin: Any, store: RedisStore, clock: Clock, witness: Witness
) -> None:
    begin, end = MISFORTUNES[misfortune]
    begin(own_redis, admin)
    await give_up(store)
    assert len(witness.said) == 1
    began = time.monotonic()
    assert [await store.take("key", FIVE) == 0 for _ in range(7)] == [True] * 5 + [False] * 2
    limiter = store.hold("held", FIVE)
    assert [await spend(limiter, clock()) == 0 for _ in range(7)] == [True] * 5 + [False] * 2
    assert store.slots is not None
    slot = Slot(id="1", owner="5", since=1.0, limits={"user:5": 1})
    assert await store.slots.claim(slot, replaces=False) is None
    assert await store.slots.make_room(slot) == []
    await store.slots.give_back(slot)
    assert store.tickets is not None
    with pytest.raises(Unavailable):
        await store.tickets.pop("digest")
    with pytest.raises(Unavailable):
        await store.slots.renew([slot])
    assert time.monotonic() - began < SLACK

    end(own_redis, admin)
    await come_back(store, clock, witness)
    assert [said.partition(":")[0] for said in witness.said] == ["degraded", "recovered"]
    other = RedisStore(location=own_redis.url, socket_timeout=10, clock=clock)
    assert [await store.take("shared", FIVE) == 0 for _ in range(5)] == [True] * 5
    assert await other.take("shared", FIVE) > 0
    assert LONGEST_PAUSE <= 4
    await other.rest()


async def test_a_server_that_does_not_answer_costs_one_deadline_and_then_none(
    own_redis: OwnRedis, store: RedisStore, clock: Clock
) -> None:
    own_redis.pause()
    limiter = store.hold("held", FIVE)
    assert await timed(spend(limiter, clock())) < 1.2 * DEADLINE + SLACK
    assert not store.is_away
    # The next messages of that socket wait for nothing, although nobody has given up yet.
    for _ in range(3):
        assert await timed(spend(limiter, clock())) < DEADLINE / 2
    clock.advance(ALONE)
    assert await timed(spend(limiter, clock())) >= DEADLINE / 2


async def test_a_storm_that_meets_a_silent_server_waits_one_deadline_together(
    own_redis: OwnRedis, store: RedisStore
) -> None:
    own_redis.pause()
    calls = [store.take(f"key-{number}", FIVE) for number in range(500)]
    assert await timed(asyncio.gather(*calls)) < 3 * DEADLINE + 2 * SLACK
    assert store.is_away


async def test_a_storm_that_a_server_answers_is_no_failure(own_redis: OwnRedis) -> None:
    """More at once than there are connections wait their turn; only silence says something about the server."""
    store = RedisStore(location=own_redis.url, socket_timeout=10)
    waits = await asyncio.gather(*(store.take(f"key-{number % 100}", FIVE) for number in range(2_000)))
    assert sum(wait == 0 for wait in waits) == 500
    assert not store.is_away
    with Redis.from_url(own_redis.url) as admin:
        assert admin.info("clients")["connected_clients"] <= 34
    await store.rest()


async def test_one_unanswered_call_alone_changes_nothing(
    own_redis: OwnRedis, store: RedisStore, clock: Clock, witness: Witness
) -> None:
    own_redis.pause()
    await store.take("key", FIVE)
    own_redis.resume()
    for number in range(FAILURES * 2):
        await store.take(f"other-{number}", FIVE)
    assert not store.is_away
    assert witness.said == []


async def test_who_is_cancelled_while_waiting_spoils_no_connection(own_redis: OwnRedis, store: RedisStore) -> None:
    """redis-py's cancelled commands once gave their answers to the next; and a pool that loses places runs dry."""
    tickets = store.tickets
    assert tickets is not None
    for number in range(200):
        await tickets.put(f"digest-{number}", f"content-{number}", 60)
    for wave in range(5):
        doomed = [asyncio.ensure_future(tickets.pop(f"missing-{wave}-{number}")) for number in range(60)]
        for _ in range(wave):
            await asyncio.sleep(0)
        for number, task in enumerate(doomed):
            if number % 2:
                task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
    patient = [tickets.pop(f"digest-{number}") for number in range(200)]
    assert await asyncio.gather(*patient) == [f"content-{number}" for number in range(200)]


async def test_forgotten_scripts_are_sent_again(store: RedisStore, admin: Any, witness: Witness) -> None:
    admin.script_flush()
    assert [await store.take("key", FIVE) == 0 for _ in range(6)] == [True] * 5 + [False]
    assert witness.said == []


async def test_after_flushall_counting_goes_on(store: RedisStore, admin: Any, clock: Clock) -> None:
    assert await store.take("key", FIVE) == 0
    admin.flushall()
    other = RedisStore(location=f"redis://127.0.0.1:{admin.get_connection_kwargs()['port']}/0", clock=clock)
    assert [await other.take("key", FIVE) == 0 for _ in range(6)] == [True] * 5 + [False]
    assert await store.take("key", FIVE) > 0
    await other.rest()


@pytest.mark.parametrize("spoil", ["list", "text", "empty"])
async def test_a_spoilt_key_is_replaced(store: RedisStore, admin: Any, witness: Witness, spoil: str) -> None:
    await store.take("key", FIVE)
    for key in list(admin.scan_iter("*")):
        admin.delete(key)
        if spoil == "list":
            admin.rpush(key, "not a number")
        else:
            admin.set(key, "not a number" if spoil == "text" else "")
    assert [await store.take("key", FIVE) == 0 for _ in range(5)] == [True] * 4 + [False]
    assert witness.said == []


async def test_a_clock_that_went_back_locks_nobody_out(store: RedisStore, admin: Any, clock: Clock) -> None:
    """A replica that takes over may be behind; what was spent counts no longer than the budget's period."""
    await store.take("key", FIVE)
    for key in list(admin.scan_iter("*")):
        admin.set(key, f"{float(admin.get(key)) + 86_400e6:.3f}")
    clock.advance(10_000)
    assert 0 < await store.take("key", FIVE) <= 3_600 / 5 + 1


@pytest.mark.django_db(transaction=True)
async def test_each_change_is_audited_once(
    own_redis: OwnRedis, admin: Any, store: RedisStore, clock: Clock, witness: Witness
) -> None:
    own_redis.pause()
    await give_up(store)
    for number in range(20):
        await store.take(f"more-{number}", FIVE)
    own_redis.resume()
    await come_back(store, clock, witness)
    await audit.flush()
    rows = [row async for row in AuditEvent.objects.order_by("pk")]
    assert [(row.kind, row.count) for row in rows] == [("store.degraded", 1), ("store.recovered", 1)]
    assert rows[0].detail == {"store": "RedisStore", "error": "TimeoutError"}


async def test_a_million_keys_cost_this_process_a_constant(own_redis: OwnRedis, clock: Clock) -> None:
    """Of the local side: the server's keys expire by themselves."""
    store = RedisStore(location="redis://127.0.0.1:1/0", clock=clock)
    await give_up(store)
    store._local._max_keys = 500
    for number in range(20_000):
        limiter = store.hold(f"address-{number}", FIVE)
        await spend(limiter, clock())
        store.release(limiter)
        await store.take(f"handshake-{number}", FIVE)
        if number % 1_000 == 0:
            clock.advance(1)
            for _ in range(10):
                store.sweep()
    assert len(store._local) <= 500
    assert len(store._here()[1]) <= 20_000
