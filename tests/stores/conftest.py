"""Every store, each with a clock that the tests move."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from channels_secure.stores.base import Store
from channels_secure.stores.memory import MemoryStore


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


STORES: dict[str, Callable[[], Timed]] = {"memory": memory}


@pytest.fixture(params=STORES)
def timed(request: pytest.FixtureRequest) -> Timed:
    return STORES[request.param]()


@pytest.fixture
def store(timed: Timed) -> Store:
    return timed.store
