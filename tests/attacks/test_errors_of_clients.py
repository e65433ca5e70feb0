"""Errors of a client that no documentation names: the store counts as away, and nobody waits or spins for it."""

import asyncio
from typing import Any

import pytest

from channels_secure.exceptions import Unavailable
from channels_secure.policy.rates import Rate
from channels_secure.stores.base import ASK, Slot, spend
from channels_secure.stores.redis import RedisStore

ODD = (RuntimeError("read() called while another coroutine waits"), AttributeError("readexactly"), ValueError("reply"))


class Broken:
    """A client of redis-py in the middle of a mistake of its own."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    async def evalsha(self, *_: Any) -> None:
        self.asked += 1
        raise self.error

    eval = zrem = getdel = evalsha


@pytest.fixture(params=ODD, ids=lambda error: type(error).__name__)
def broken(request: pytest.FixtureRequest) -> Broken:
    return Broken(request.param)


async def store_with(client: Broken) -> RedisStore:
    store = RedisStore(location="redis://127.0.0.1:1", socket_timeout=0.05)
    store._here()[0]._client = client
    return store


async def test_an_odd_error_of_the_client_refuses_no_handshake(broken: Broken) -> None:
    store = await store_with(broken)
    assert await store.take("handshake:user:1", Rate(30, 60.0)) == 0.0
    assert store.slots is not None
    slot = Slot(id="one", owner="1", since=1.0, limits={"user:1": 1})
    assert await store.slots.claim(slot, replaces=False) is None


async def test_an_odd_error_of_the_client_refuses_a_ticket_as_unavailable(broken: Broken) -> None:
    store = await store_with(broken)
    assert store.tickets is not None
    with pytest.raises(Unavailable):
        await store.tickets.pop("digest")


async def test_an_odd_error_of_the_client_makes_no_message_wait(broken: Broken) -> None:
    store = await store_with(broken)
    limiter = store.hold("message:user:1", Rate(600, 60.0))
    assert limiter.take(store._clock()) == ASK
    async with asyncio.timeout(1.0):
        assert await spend(limiter, store._clock()) == 0.0
    assert broken.asked <= 5
