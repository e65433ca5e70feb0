"""Connections counted over processes, each with a lease; `rival` is another process's store."""

import asyncio
from typing import Any

import pytest

from channels_secure.stores.base import Slot, Slots
from channels_secure.stores.redis import RedisStore
from channels_secure.stores.redis.slots import LEASE
from tests.stores.conftest import let_pass

LEASE_SECONDS = LEASE / 1000


def slot(number: int, *, user: str = "5", ip: str = "192.0.2.1", limit: int = 3, shared: int = 50) -> Slot:
    limits = {f"user:{user}": limit, f"ip:{ip}": shared}
    return Slot(id=f"connection{number}", owner=user, since=1000.0 + number, limits=limits)


def slots_of(store: RedisStore) -> Slots:
    assert store.slots is not None
    return store.slots


@pytest.fixture
def slots(redis_store: RedisStore) -> Slots:
    return slots_of(redis_store)


@pytest.fixture
def rival(elsewhere: RedisStore) -> Slots:
    return slots_of(elsewhere)


async def test_as_many_as_the_limit_are_granted_whoever_asks(slots: Slots, rival: Slots) -> None:
    answers = [await (slots, rival)[number % 2].claim(slot(number), replaces=False) for number in range(5)]
    assert answers == [None, None, None, "user:5", "user:5"]


async def test_racing_claims_never_pass_together(slots: Slots, rival: Slots) -> None:
    claims = [(slots, rival)[number % 2].claim(slot(number, limit=10), replaces=False) for number in range(60)]
    answers = await asyncio.gather(*claims)
    assert answers.count(None) == 10


async def test_a_slot_that_is_given_back_is_free(slots: Slots, rival: Slots) -> None:
    for number in range(3):
        await slots.claim(slot(number), replaces=False)
    await slots.give_back(slot(1))
    await slots.give_back(slot(1))
    assert [await rival.claim(slot(number), replaces=False) for number in (7, 8)] == [None, "user:5"]


async def test_a_refusal_by_the_address_leaves_the_user_nothing(slots: Slots, client: Any, prefix: str) -> None:
    for number in range(2):
        assert await slots.claim(slot(number, user=f"other{number}", shared=2), replaces=False) is None
    for number in range(10, 20):
        assert await slots.claim(slot(number, shared=2), replaces=False) == "ip:192.0.2.1"
    for number in range(20, 23):
        assert await slots.claim(slot(number, ip="192.0.2.2"), replaces=False) is None
    assert await slots.claim(slot(23, ip="192.0.2.2"), replaces=False) == "user:5"


async def test_claiming_again_costs_nothing(slots: Slots) -> None:
    assert [await slots.claim(slot(1, limit=1), replaces=False) for _ in range(3)] == [None] * 3


async def test_the_slots_of_a_process_that_died_are_free_after_the_lease_and_not_before(
    slots: Slots, rival: Slots, client: Any, prefix: str
) -> None:
    for number in range(3):
        await slots.claim(slot(number), replaces=False)
    let_pass(client, prefix, LEASE_SECONDS - 1)
    assert await rival.claim(slot(5), replaces=False) == "user:5"
    let_pass(client, prefix, 1)
    assert await rival.claim(slot(5), replaces=False) is None
    assert LEASE_SECONDS <= 30


async def test_a_renewed_slot_outlives_the_lease(slots: Slots, rival: Slots, client: Any, prefix: str) -> None:
    held = [slot(number) for number in range(3)]
    for one in held:
        await slots.claim(one, replaces=False)
    for _ in range(5):
        let_pass(client, prefix, LEASE_SECONDS - 1)
        await slots.renew(held)
    assert await rival.claim(slot(5), replaces=False) == "user:5"


async def test_what_was_lost_is_taken_again_without_refusing_anybody(slots: Slots, rival: Slots, client: Any) -> None:
    mine, theirs = [slot(number) for number in range(3)], [slot(number) for number in range(10, 13)]
    for one in mine:
        await slots.claim(one, replaces=False)
    client.flushall()
    for one in theirs:
        assert await rival.claim(one, replaces=False) is None
    await slots.renew(mine)
    await rival.renew(theirs)
    assert await slots.claim(slot(20), replaces=False) == "user:5"
    for one in mine + theirs[:1]:
        await slots.give_back(one)
    assert await slots.claim(slot(20), replaces=False) is None


async def test_many_are_renewed_by_few_calls(
    slots: Slots, client: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels_secure.stores.redis.slots.PAUSE", 0.0)
    held = [slot(number, user=f"user{number}", ip=f"192.0.2.{number % 200}") for number in range(2_000)]
    client.config_resetstat()
    await slots.renew(held)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] <= 260
    members = sum(client.zcard(key) for key in client.scan_iter(f"{prefix}*"))
    assert members == 4_000


async def test_a_key_of_another_kind_is_replaced(slots: Slots, client: Any, prefix: str) -> None:
    await slots.claim(slot(1), replaces=False)
    for key in client.scan_iter(f"{prefix}*"):
        client.set(key, "not a set")
    await slots.renew([slot(1)])
    assert await slots.claim(slot(2, limit=2), replaces=False) is None
    for key in client.scan_iter(f"{prefix}*"):
        client.set(key, "not a set")
    assert await slots.claim(slot(3, limit=1), replaces=False) is None


async def test_who_replaces_does_not_count_their_own_and_closes_the_oldest(slots: Slots, rival: Slots) -> None:
    for number in (2, 0, 1):
        await rival.claim(slot(number), replaces=True)
    newest = slot(3)
    assert await slots.claim(newest, replaces=True) is None
    assert await slots.make_room(newest) == ["connection0"]
    assert await slots.make_room(newest) == []
    assert await slots.claim(slot(4), replaces=False) == "user:5"


async def test_another_users_connections_are_never_replaced(slots: Slots) -> None:
    for number in range(2):
        await slots.claim(slot(number, user="mallory", shared=3), replaces=True)
    await slots.claim(slot(2, user="alice", shared=3), replaces=True)
    fourth = slot(3, user="alice", shared=3)
    assert await slots.claim(fourth, replaces=True) is None
    assert await slots.make_room(fourth) == ["connection2"]
    stranger = slot(9, user="bob", shared=3)
    assert await slots.claim(stranger, replaces=True) == "ip:192.0.2.1"
    assert await slots.make_room(stranger) == []


async def test_keys_carry_neither_names_nor_addresses(slots: Slots, client: Any, prefix: str) -> None:
    await slots.claim(slot(1, user="alice", ip="198.51.100.7"), replaces=False)
    keys = [key.decode() for key in client.scan_iter(f"{prefix}*")]
    members = [member.decode() for key in keys for member in client.zrange(key, 0, -1)]
    assert len(keys) == 2
    assert not any("alice" in text or "198.51" in text for text in keys + members)


async def read_then_add(client: Any, key: str, limit: int, member: str) -> bool:
    if client.zcard(key) >= limit:
        return False
    await asyncio.sleep(0)
    client.zadd(key, {member: 1})
    return True


async def test_the_race_would_be_lost_by_reading_first_and_adding_later(client: Any, prefix: str) -> None:
    """The control of the race above: what two commands do in place of one script."""
    racing = [read_then_add(client, f"{prefix}naive", 10, str(number)) for number in range(60)]
    assert sum(await asyncio.gather(*racing)) > 10
