"""The store of one process: how much it remembers, and what it does when that is too much."""

import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels_secure.policy.rates import Bucket, Rate
from channels_secure.stores import get_store, memory
from channels_secure.stores.base import Limiter
from channels_secure.stores.memory import MAX_KEYS, MemoryStore
from tests.stores.conftest import Clock

ONE = Rate.parse("1/m")
TWO = Rate.parse("2/10s")


async def test_idle_keys_are_forgotten_at_the_next_sweep() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    for number in range(100):
        await store.take(f"key-{number}", ONE)
    clock.advance(59.9)
    store.sweep()
    assert len(store) == 100
    clock.advance(0.2)
    store.sweep()
    assert len(store) == 0


async def test_sweeps_come_round_to_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks at so many keys only; busy ones must not hide idle ones behind them."""
    monkeypatch.setattr(memory, "SWEEP", 10)
    clock = Clock()
    store = MemoryStore(clock=clock)
    for number in range(30):
        await store.take(f"busy-{number}", Rate.parse("1/d"))
    for number in range(5):
        await store.take(f"idle-{number}", ONE)
    clock.advance(61)
    for _ in range(4):
        store.sweep()
    assert len(store) == 30


async def test_a_million_keys_cost_a_constant() -> None:
    clock = Clock()
    store = MemoryStore(max_keys=500, clock=clock)
    for number in range(20_000):
        await store.take(f"address-{number}", ONE)
    assert len(store) == 500
    # With the default cap this is what an attacker can make the process keep.
    assert MAX_KEYS <= 50_000
    bucket = Bucket(ONE)
    assert sys.getsizeof(bucket) < 120


async def test_at_the_cap_new_keys_share_one_budget_and_are_never_untracked() -> None:
    clock = Clock()
    store = MemoryStore(max_keys=20, clock=clock)
    for number in range(20):
        assert await store.take(f"known-{number}", TWO) == 0
    passed = [await store.take(f"new-{number}", TWO) == 0 for number in range(50)]
    assert passed == [True, True] + [False] * 48
    # Who was known keeps a budget of their own.
    assert await store.take("known-7", TWO) == 0
    assert await store.take("known-7", TWO) > 0
    # Each rate overflows by itself.
    assert await store.take("new", ONE) == 0


async def test_at_the_cap_idle_keys_make_room() -> None:
    clock = Clock()
    store = MemoryStore(max_keys=20, clock=clock)
    for number in range(20):
        await store.take(f"old-{number}", ONE)
    clock.advance(61)
    assert [await store.take(f"new-{number}", ONE) == 0 for number in range(20)] == [True] * 20
    assert len(store) <= 20


async def test_at_the_cap_held_keys_stay() -> None:
    clock = Clock()
    store = MemoryStore(max_keys=2, clock=clock)
    held = [store.hold("a", ONE), store.hold("b", ONE)]
    clock.advance(1000)
    overflow = store.hold("c", ONE)
    assert overflow.take(clock.now) == 0
    assert store.hold("a", ONE) is held[0]
    assert await store.take("d", ONE) > 0
    for limiter in [*held, held[0], overflow]:
        store.release(limiter)
    store.sweep()
    assert len(store) == 0


def test_what_is_not_its_own_limiter_is_released_in_peace() -> None:
    class Other:
        def take(self, now: float, cost: int = 1) -> float:
            return 0.0

    MemoryStore().release(Other())


CAP = 6


class Model(RuleBasedStateMachine):
    """Any use of the store, compared with buckets that are never forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryStore(max_keys=CAP, clock=self.clock)
        self.known: dict[str, Bucket] = {}
        self.held: list[tuple[str, Limiter]] = []

    def _remembers(self, key: str) -> bool:
        return (key, TWO) in self.store._buckets

    def _model(self, key: str) -> Bucket:
        return self.known.setdefault(key, Bucket(TWO))

    @rule(key=st.sampled_from([f"k{number}" for number in range(12)]), cost=st.integers(1, 3))
    def take(self, key: str, cost: int) -> None:
        wait = self._drive(key, cost)
        if self._remembers(key):
            assert wait == self._model(key).take(self.clock.now, cost)

    def _drive(self, key: str, cost: int) -> float:
        coroutine = self.store.take(key, TWO, cost)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            wait: float = stop.value
            return wait
        raise AssertionError("counting in memory waits for nothing")

    @rule(key=st.sampled_from([f"k{number}" for number in range(12)]))
    def hold(self, key: str) -> None:
        limiter = self.store.hold(key, TWO)
        if self._remembers(key):
            self.held.append((key, limiter))
            self._model(key)
        else:
            self.store.release(limiter)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), cost=st.integers(1, 2))
    def take_from_held(self, which: int, cost: int) -> None:
        key, limiter = self.held[which % len(self.held)]
        assert limiter.take(self.clock.now, cost) == self._model(key).take(self.clock.now, cost)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def release(self, which: int) -> None:
        _, limiter = self.held.pop(which % len(self.held))
        self.store.release(limiter)

    @rule(seconds=st.sampled_from([0.1, 3.0, 6.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        self.store.sweep()

    @invariant()
    def it_stays_below_its_cap(self) -> None:
        assert len(self.store) <= CAP

    @invariant()
    def it_forgets_no_key_that_is_spent_or_held(self) -> None:
        held = {key for key, _ in self.held}
        for key, bucket in self.known.items():
            assert self._remembers(key) or (bucket.is_idle(self.clock.now) and key not in held)


TestAnyUse = Model.TestCase
TestAnyUse.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_store_of_a_process_is_made_once_and_from_the_settings(settings: Any) -> None:
    assert get_store() is get_store()
    first = get_store()
    settings.CHANNELS_SECURE = {"STORE": {"BACKEND": "channels_secure.stores.memory.MemoryStore", "MAX_KEYS": 7}}
    second = get_store()
    assert isinstance(second, MemoryStore)
    assert second is not first
    assert second._max_keys == 7


@pytest.mark.parametrize(
    "store",
    [
        {"BACKEND": "channels_secure.stores.memory.NoStore"},
        {"BACKEND": "no.such.module.Store"},
        {"BACKEND": "channels_secure.stores.memory.MemoryStore", "LOCATION": "redis://:secret@localhost"},
    ],
)
def test_a_store_that_cannot_be_made_is_named_without_its_password(settings: Any, store: dict[str, str]) -> None:
    settings.CHANNELS_SECURE = {"STORE": store}
    with pytest.raises(ImproperlyConfigured, match="STORE") as caught:
        get_store()
    assert "secret" not in str(caught.value)
