"""What every store does, whatever it keeps its counts in."""

import asyncio

import pytest

from channels_secure.policy.rates import Rate
from channels_secure.stores.base import Store
from channels_secure.stores.base import spend as spend_of
from tests.stores.conftest import Timed

FIVE = Rate.parse("5/10s")
ONE = Rate.parse("1/m")


async def spend(store: Store, key: str, times: int, rate: Rate = FIVE) -> list[bool]:
    return [await store.take(key, rate) == 0 for _ in range(times)]


async def test_a_budget_is_spent_and_then_tells_how_long_to_wait(store: Store) -> None:
    assert await spend(store, "a", 5) == [True] * 5
    assert await store.take("a", FIVE) == pytest.approx(2, abs=0.1)


async def test_a_refusal_spends_nothing(store: Store) -> None:
    await spend(store, "a", 5)
    waits = [await store.take("a", FIVE) for _ in range(20)]
    assert max(waits) <= 2


async def test_time_gives_a_budget_back(timed: Timed) -> None:
    await spend(timed.store, "a", 6)
    timed.advance(4)
    assert await spend(timed.store, "a", 3) == [True, True, False]
    timed.advance(1000)
    assert await spend(timed.store, "a", 6) == [True] * 5 + [False]


async def test_a_cost_is_spent_at_once_or_not_at_all(store: Store) -> None:
    assert await store.take("a", FIVE, 4) == 0
    assert await store.take("a", FIVE, 2) > 0
    assert await store.take("a", FIVE, 1) == 0
    assert await store.take("a", FIVE, 1) > 0


@pytest.mark.parametrize("key", ["b", "A", "a ", "a:", "ä", "a\n", "", "a" * 500, "{a}", "*"])
async def test_every_key_has_a_budget_of_its_own(store: Store, key: str) -> None:
    await spend(store, "a", 5)
    assert await spend(store, key, 6) == [True] * 5 + [False]


async def test_one_key_at_two_rates_has_two_budgets(store: Store) -> None:
    await spend(store, "a", 5)
    assert await spend(store, "a", 2, ONE) == [True, False]


async def test_of_racing_callers_exactly_as_many_pass_as_may(store: Store) -> None:
    waits = await asyncio.gather(*(store.take("a", FIVE) for _ in range(50)))
    assert sum(wait == 0 for wait in waits) == 5


async def test_a_limiter_spends_the_budget_of_its_key(timed: Timed) -> None:
    store, now = timed.store, timed.now
    limiter = store.hold("a", FIVE)
    assert await spend_of(limiter, now(), 3) == 0
    assert await spend(store, "a", 3) == [True, True, False]
    assert await spend_of(limiter, now()) > 0
    timed.advance(2)
    assert await spend_of(limiter, now()) == 0
    store.release(limiter)


async def test_two_sockets_of_one_key_spend_one_budget(timed: Timed) -> None:
    store, now = timed.store, timed.now
    first, second = store.hold("a", FIVE), store.hold("a", FIVE)
    assert [await spend_of(limiter, now()) == 0 for limiter in (first, second) * 3] == [True] * 5 + [False]
    store.release(first)
    assert await spend_of(second, now()) > 0
    store.release(second)


async def test_a_budget_outlives_the_socket_that_spent_it(timed: Timed) -> None:
    """Else whoever reconnects would begin anew."""
    store = timed.store
    limiter = store.hold("a", ONE)
    assert await spend_of(limiter, timed.now()) == 0
    store.release(limiter)
    store.sweep()
    again = store.hold("a", ONE)
    assert await spend_of(again, timed.now()) > 0
    store.release(again)


async def test_a_budget_that_is_held_stays_the_same_while_it_rests(timed: Timed) -> None:
    """A socket keeps its limiter for hours; forgetting the key meanwhile would split the budget in two."""
    store = timed.store
    limiter = store.hold("a", ONE)
    timed.advance(10_000)
    store.sweep()
    assert await spend_of(limiter, timed.now()) == 0
    assert await store.take("a", ONE) > 0
    store.release(limiter)


async def test_sweeping_forgets_no_budget_that_is_spent(timed: Timed) -> None:
    store = timed.store
    for number in range(100):
        await store.take(f"key-{number}", ONE)
    timed.advance(1)
    store.sweep()
    assert not any([await store.take(f"key-{number}", ONE) == 0 for number in range(100)])
