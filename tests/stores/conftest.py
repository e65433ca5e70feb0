"""Every store, each with a clock that the tests move."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import pytest
from redis import Redis

from channels_secure.stores.base import Store
from channels_secure.stores.memory import MemoryStore
from channels_secure.stores.redis import RedisStore
from tests import services
from tests.services import OwnRedis

# Wide, because the machine of a test run may be busy, and an answer that is given up is counted in the process alone.
PATIENT = 5.0


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A store and how time passes for it; `now` is what its limiters are asked with."""

    store: Store
    advance: Callable[[float], None]
    now: Callable[[], float]


def memory() -> Timed:
    clock = Clock()
    return Timed(store=MemoryStore(clock=clock), advance=clock.advance, now=clock)


def let_pass(client: Any, prefix: str, seconds: float) -> None:
    """Make time pass on a server whose clock cannot be set: everything that it remembers becomes older."""
    for key in client.scan_iter(f"{prefix}*"):
        if client.type(key) == b"zset":
            for member, ends in client.zrange(key, 0, -1, withscores=True):
                client.zadd(key, {member: ends - seconds * 1e6})
        elif b":rate:" in key:
            client.set(key, f"{float(client.get(key)) - seconds * 1e6:.3f}", keepttl=True)


def shared(client: Any, store: RedisStore, prefix: str, clock: Clock) -> Timed:
    def advance(seconds: float) -> None:
        clock.advance(seconds)
        let_pass(client, prefix, seconds)

    return Timed(store=store, advance=advance, now=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def prefix() -> str:
    """Of the keys of one test."""
    return f"test-{token_hex(4)}:"


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """To look at what stores have written, and to spoil it."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
async def timed(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Timed]:
    if request.param == "memory":
        yield memory()
        return
    clock = Clock()
    url = request.getfixturevalue("redis_url")
    store = RedisStore(location=url, prefix=prefix, socket_timeout=PATIENT, clock=clock)
    with Redis.from_url(url) as client:
        yield shared(client, store, prefix, clock)
    assert not store.is_away, "the server did not answer, so that nothing was tested"
    await store.rest()


@pytest.fixture
def store(timed: Timed) -> Store:
    return timed.store


@asynccontextmanager
async def opened(url: str, prefix: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(location=url, prefix=prefix, socket_timeout=PATIENT)
    yield store
    await store.rest()


@pytest.fixture
async def redis_store(redis_url: str, prefix: str) -> AsyncIterator[RedisStore]:
    async with opened(redis_url, prefix) as store:
        yield store


@pytest.fixture
async def elsewhere(redis_url: str, prefix: str) -> AsyncIterator[RedisStore]:
    """What another process does with the same keys."""
    async with opened(redis_url, prefix) as store:
        yield store


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A server that the test may pause, kill, fill and misconfigure."""
    with services.own_redis() as server:
        yield server
