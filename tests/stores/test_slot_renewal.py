"""Renewing the slots of thousands: few calls, no long stretch of the event loop, and nobody let in by it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import User
from redis import Redis

from channels_secure.connections import registry
from channels_secure.connections.slots import held_slots
from channels_secure.exceptions import Unavailable
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.stores.base import Slot
from channels_secure.stores.redis import RedisStore, places
from channels_secure.stores.redis import slots as redis_slots
from channels_secure.stores.redis.slots import LEASE, RedisSlots
from channels_secure.supervisor import renewal
from channels_secure.supervisor.supervisor import PASS_INTERVAL
from tests.services import OwnRedis, own_redis
from tests.sockets import Echo, connect, until
from tests.stores.conftest import PATIENT
from tests.test_shared_limits import at_rest, use

CLUSTER_TAGS = 16


def slot(number: int, *, ip: str = "192.0.2.1") -> Slot:
    return Slot(
        id=f"socket{number}", owner=f"{number}", since=1000.0 + number, limits={f"user:{number}": 1, f"ip:{ip}": 1}
    )


def apart(number: int) -> Slot:
    """One that shares no key with any other."""
    return slot(number, ip=f"10.0.{number >> 8}.{number & 255}")


@pytest.fixture
def slots(redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> RedisSlots:
    monkeypatch.setattr(redis_slots, "PAUSE", 0.0)
    assert isinstance(redis_store.slots, RedisSlots)
    return redis_store.slots


def members(client: Any, prefix: str) -> set[tuple[str, str]]:
    """Every key with the connection that is in it."""
    return {
        (key.decode(), member.decode().rpartition(":")[2])
        for key in client.scan_iter(f"{prefix}*")
        for member in client.zrange(key, 0, -1)
    }


# Who is renewed -------------------------------------------------------------------------------------------------------


async def test_a_claim_that_has_no_answer_yet_is_not_granted_by_a_renewal(
    slots: RedisSlots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal refuses nobody, so that it would let in who comes while it runs; the address is full here."""
    assert await slots.claim(slot(1), replaces=False) is None
    ask: Callable[[Any], Awaitable[Any]] = slots._ask
    half, held_up, renewed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slowly(command: Any) -> Any:
        if half.is_set():
            held_up.set()
            await renewed.wait()
        answer = await ask(command)
        half.set()
        return answer

    monkeypatch.setattr(slots, "_ask", slowly)
    claim = asyncio.create_task(slots.claim(slot(2), replaces=False))
    # The slot of its user is claimed, that of the address is not.
    await held_up.wait()
    monkeypatch.setattr(slots, "_ask", ask)
    await slots.renew([slot(1), slot(2)])
    renewed.set()
    assert await claim == "ip:192.0.2.1"


async def test_who_was_granted_a_slot_is_renewed_from_then_on(slots: RedisSlots, client: Any, prefix: str) -> None:
    assert await slots.claim(slot(1), replaces=False) is None
    assert await slots.claim(slot(2), replaces=False) == "ip:192.0.2.1"
    client.flushall()
    await slots.renew([slot(1)])
    assert {connection for _, connection in members(client, prefix)} == {"socket1"}


async def test_who_is_given_back_while_others_are_looked_at_is_not_renewed(
    slots: RedisSlots, client: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "STRETCH", 5)
    some = [apart(number) for number in range(40)]
    gone: set[str] = set()

    def held() -> Iterator[Slot]:
        for one in some:
            if one.id not in gone:
                yield one

    task = asyncio.create_task(slots.renew(held()))
    while len(slots._places) < 5:
        await asyncio.sleep(0)
    assert len(slots._places) < len(some)
    # One who has been looked at, and one who has not.
    leaving = [some[0], some[-1]]
    gone.update(one.id for one in leaving)
    await asyncio.gather(task, *map(slots.give_back, leaving))
    left = {one.id for one in some} - gone
    assert {connection for _, connection in members(client, prefix)} == left
    assert set(slots._places) == left


@pytest.mark.django_db(transaction=True)
async def test_who_leaves_while_slots_are_gathered_is_not_among_them(
    settings: Any, redis_url: str, prefix: str, user: User
) -> None:
    store = use(settings, redis_url, prefix, MAX_CONNECTIONS={"user": 9})
    async with connect(Echo, user=user):
        async with connect(Echo, user=user), connect(Echo, user=user):
            whole, partly = list(held_slots(registry())), held_slots(registry())
            assert len(whole) == 3
            assert next(partly) == whole[0]
        assert list(partly) == []
        assert list(held_slots(registry())) == whole[:1]
    await at_rest()
    assert list(held_slots(registry())) == []
    await store.rest()


@pytest.mark.django_db(transaction=True)
async def test_who_has_been_told_to_leave_holds_nothing_though_its_handler_still_runs(
    settings: Any, redis_url: str, prefix: str, user: User
) -> None:
    """Its slot may be another's already, who was let in by closing the oldest."""
    store = use(settings, redis_url, prefix, MAX_CONNECTIONS={"user": 9})
    async with connect(Echo, user=user):
        (connection,) = registry()
        assert [one.id for one in held_slots(registry())] == [connection.id]
        connection.sever(Denial(reason=Reason.CONNECTION_REPLACED))
        assert list(registry()) == [connection]
        assert list(held_slots(registry())) == []
    await at_rest()
    await store.rest()


# What it costs --------------------------------------------------------------------------------------------------------


async def test_thousands_are_renewed_by_a_call_for_each_tag(slots: RedisSlots, client: Any, prefix: str) -> None:
    held = [apart(number) for number in range(2_000)]
    client.config_resetstat()
    await slots.renew(held)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] <= CLUSTER_TAGS
    assert len(members(client, prefix)) == 2 * len(held)


async def test_no_call_is_longer_than_a_batch_and_nobody_is_left_out(
    slots: RedisSlots, client: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them at one address, whose key does not fit into one call."""
    monkeypatch.setattr(places, "BATCH", 7)
    held = [slot(number) if number % 2 else apart(number) for number in range(100)]
    sizes: list[int] = []
    renew = redis_slots.RENEW

    def counted(*keys: Any) -> Callable[..., Any]:
        def with_arguments(lease: int, those: str) -> Any:
            groups = those.split(";")
            assert len(groups) == len(keys) == len(set(keys))
            sizes.append(sum(len(group.split(",")) for group in groups))
            return renew(*keys)(lease, those)

        return with_arguments

    monkeypatch.setattr(redis_slots, "RENEW", counted)
    await slots.renew(held)
    assert max(sizes) <= 7
    assert sum(sizes) == 2 * len(held)
    assert len(members(client, prefix)) == 2 * len(held)


async def test_the_names_of_many_are_hashed_a_few_at_a_time(slots: RedisSlots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing ten thousand at once would hold up the loop for longer than a frame may wait."""
    seen = [0]
    task = asyncio.create_task(slots.renew([apart(number) for number in range(1_000)]))
    while not task.done():
        seen.append(len(slots._places))
        await asyncio.sleep(0)
    assert seen[-1] == 1_000
    assert max(after - before for before, after in pairwise(seen)) <= places.STRETCH <= 250


async def test_others_run_between_the_calls_of_a_renewal(slots: RedisSlots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "BATCH", 10)
    monkeypatch.setattr(redis_slots, "FEW", 10)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(redis_slots, "PAUSE", 0.02)
    monkeypatch.setattr(asyncio, "sleep", slept)
    await slots.renew([apart(number) for number in range(100)])
    assert pauses.count(0.02) >= 20


# Where the keys are ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def cluster() -> AsyncIterator[str]:
    """A cluster of one server, which refuses every call whose keys are not together, as any cluster does."""
    with own_redis("--cluster-enabled", "yes") as server:
        with Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        yield server.url


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_the_keys_of_each_call_are_together_in_a_cluster(cluster: str, scheme: str) -> None:
    store = RedisStore(location=cluster.replace("redis", scheme, 1), socket_timeout=PATIENT)
    assert store.slots is not None
    held = [apart(number) for number in range(100)]
    await store.slots.renew(held)
    with Redis.from_url(cluster) as client:
        assert len(members(client, "cs:")) == 2 * len(held)
        assert len({key[: key.index("}")] for key, _ in members(client, "cs:")}) == CLUSTER_TAGS
        await asyncio.gather(*map(store.slots.give_back, held))
        assert members(client, "cs:") == set()
    await store.rest()


async def test_keys_of_the_same_call_in_different_places_would_be_refused(cluster: str) -> None:
    """The control of the test above."""
    store = RedisStore(location=cluster, socket_timeout=PATIENT)
    with pytest.raises(Unavailable, match="Slot"):
        await store._ask(redis_slots.RENEW("cs:{1}:slots:1", "cs:{2}:slots:2")(LEASE, "a;b"))
    await store.rest()


# When it is due -------------------------------------------------------------------------------------------------------


def test_after_a_renewal_that_failed_there_is_time_for_two_more() -> None:
    """Each begins a pass later than it might, and takes a second."""
    late = PASS_INTERVAL + 1
    assert renewal.INTERVAL + 2 * renewal.RETRY + 2 * late < LEASE / 1000 <= 30


@pytest.mark.django_db(transaction=True)
async def test_a_renewal_that_failed_is_tried_again_soon(
    settings: Any, own_redis: OwnRedis, prefix: str, user: User
) -> None:
    store = use(settings, own_redis.url, prefix, MAX_CONNECTIONS={"user": 9})
    async with connect(Echo, user=user):
        ours = renewal.Renewal(registry())

        async def waits() -> float:
            ours._due_at = 0.0
            await ours.look()
            return ours._due_at - time.monotonic()

        assert renewal.INTERVAL - 1 < await waits() <= renewal.INTERVAL
        own_redis.stop()
        assert renewal.RETRY - 1 < await waits() <= renewal.RETRY
        own_redis.start()
        async with asyncio.timeout(PATIENT):
            while await waits() <= renewal.RETRY:
                await asyncio.sleep(0.01)
    await at_rest()
    await store.rest()


@pytest.mark.django_db(transaction=True)
async def test_a_store_that_comes_back_during_a_renewal_has_the_next_at_once(
    settings: Any, own_redis: OwnRedis, prefix: str, user: User
) -> None:
    """What began before that may fail after it, and must not put off the renewal that is due now."""
    store = use(settings, own_redis.url, prefix, timeout=0.2, MAX_CONNECTIONS={"user": 9})
    async with connect(Echo, user=user):
        ours = renewal.Renewal(registry())
        own_redis.pause()
        look = asyncio.create_task(ours.look())
        await until(lambda: ours._due_at > 0)
        assert not look.done()
        ours._now()
        await look
        assert ours._due_at == 0.0
        own_redis.resume()
    await at_rest()
    await store.rest()
