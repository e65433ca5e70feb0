"""The slots of many sockets: renewed over seconds, and given back all at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from channels_secure.policy.rates import Rate
from channels_secure.stores.base import Slot
from channels_secure.stores.redis import RedisStore, places
from channels_secure.stores.redis import slots as redis_slots
from tests.stores.conftest import client, prefix, redis_store  # noqa: F401 - fixtures

USUAL = 0.25


@pytest.fixture
async def brisk_store(redis_url: str, prefix: str) -> AsyncIterator[RedisStore]:  # noqa: F811
    """One that waits for answers as long as in production."""
    store = RedisStore(location=redis_url, prefix=prefix, socket_timeout=USUAL)
    yield store
    await store.rest()


def slot(number: int) -> Slot:
    return Slot(id=f"socket{number}", owner=str(number), since=1000.0 + number, limits={f"user:{number}": 1})


def held(client: Any, prefix: str) -> int:  # noqa: F811
    return sum(client.zcard(key) for key in client.scan_iter(f"{prefix}*:slots:*"))


async def test_a_slot_that_is_given_back_during_a_renewal_is_not_renewed(
    redis_store: RedisStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A renewal of thousands takes seconds: whoever leaves meanwhile would be refused for a whole lease."""
    slots = redis_store.slots
    assert isinstance(slots, redis_slots.RedisSlots)
    some = [slot(number) for number in range(40)]
    for each in some:
        assert await slots.claim(each, replaces=False) is None
    asked: list[str] = []
    original: Callable[[Any], Awaitable[Any]] = slots._ask
    leaving: list[Slot] = []
    ending: list[asyncio.Task[None]] = []

    async def ask(command: Any) -> Any:
        answer = await original(command)
        if not leaving:
            # The first call of the renewal is over, of which there are as many as there are places.
            tags = {slots._place(each)[0].tag for each in some}
            assert len(tags) > 1
            first = slots._place(some[0])[0].tag
            leaving.append(next(each for each in some if slots._place(each)[0].tag != first))
            asked.append("renewed")
            ending.append(asyncio.create_task(slots.give_back(leaving[0])))
            await asyncio.sleep(0)
        return answer

    monkeypatch.setattr(slots, "_ask", ask)
    await slots.renew(some)
    assert asked == ["renewed"]
    await asyncio.gather(*ending)
    assert (
        await slots.claim(
            Slot(id="again", owner=leaving[0].owner, since=2000.0, limits=leaving[0].limits), replaces=False
        )
        is None
    )


async def test_slots_given_back_during_a_renewal_leave_nothing_in_memory(
    redis_store: RedisStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = redis_store.slots
    assert isinstance(slots, redis_slots.RedisSlots)
    monkeypatch.setattr(places, "BATCH", 5)
    some = [slot(number) for number in range(20)]
    for each in some:
        assert await slots.claim(each, replaces=False) is None
    renewal = asyncio.create_task(slots.renew(some))
    await asyncio.sleep(0)
    await asyncio.gather(*map(slots.give_back, some))
    await renewal
    assert slots._places == {}


async def test_thousands_of_slots_that_are_given_back_at_once_are_all_free(
    brisk_store: RedisStore,
    prefix: str,  # noqa: F811
    client: Any,  # noqa: F811
) -> None:
    """As when a server restarts: whoever waits for a turn for longer than an answer may take is not to be forgotten."""
    slots = brisk_store.slots
    assert slots is not None
    some = [slot(number) for number in range(5_000)]
    await slots.renew(some)
    assert held(client, prefix) == len(some)
    await asyncio.gather(*map(slots.give_back, some))
    assert not brisk_store.is_away
    assert held(client, prefix) == 0


async def test_a_storm_of_handshakes_is_counted_exactly_by_a_server_that_answers(brisk_store: RedisStore) -> None:
    """A loop that is busy with hundreds of handshakes is no sign of a store that is away: limits hold all the same."""
    slots = brisk_store.slots
    assert slots is not None

    async def enter(number: int) -> bool:
        limits = {f"user:{number}": 10, "ip:192.0.2.1": 50}
        await brisk_store.take(f"handshake:user:{number}", Rate(30, 60.0))
        one = Slot(id=f"socket{number}", owner=str(number), since=1000.0 + number, limits=limits)
        return await slots.claim(one, replaces=False) is None

    granted = await asyncio.gather(*map(enter, range(500)))
    assert not brisk_store.is_away
    assert sum(granted) == 50
