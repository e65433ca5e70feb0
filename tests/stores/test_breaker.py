"""When a store is given up, and how it is found again."""

import pytest

from channels_secure.stores.redis.breaker import FAILURES, LONGEST_PAUSE, Breaker
from tests.stores.conftest import Clock


@pytest.fixture
def changes() -> list[str | None]:
    return []


@pytest.fixture
def breaker(clock: Clock, changes: list[str | None]) -> Breaker:
    return Breaker(clock, changes.append)


def opened(breaker: Breaker) -> bool:
    return breaker.is_open


def fail(breaker: Breaker, times: int = FAILURES) -> None:
    for number in range(times):
        breaker.failed(f"error {number}")


def test_it_opens_at_the_fifth_failure_in_a_row_and_says_so_once(breaker: Breaker, changes: list[str | None]) -> None:
    fail(breaker, FAILURES - 1)
    assert not opened(breaker)
    fail(breaker, 3)
    assert opened(breaker)
    assert changes == ["error 0"]  # the first of the second call


def test_an_answer_in_between_begins_the_count_anew(breaker: Breaker) -> None:
    for _ in range(10):
        fail(breaker, FAILURES - 1)
        breaker.worked()
    assert not opened(breaker)


def test_a_late_answer_does_not_close_it(breaker: Breaker) -> None:
    fail(breaker)
    breaker.worked()
    assert opened(breaker)


def test_one_probe_at_a_time_is_wanted(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    assert not breaker.wants_probe()
    clock.advance(1)
    assert [breaker.wants_probe() for _ in range(3)] == [True, False, False]


def test_probes_become_rarer_and_never_rarer_than_the_longest_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    pauses = []
    for _ in range(6):
        waited = 0.0
        while not breaker.wants_probe():
            clock.advance(0.5)
            waited += 0.5
        pauses.append(waited)
        breaker.probed("still away")
    assert pauses == [1, 2, 4, 4, 4, 4]
    # A server that is back must be found within five seconds.
    assert LONGEST_PAUSE < 5


def test_a_probe_that_is_never_heard_of_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.advance(1)
    assert breaker.wants_probe()
    clock.advance(1)
    assert breaker.wants_probe()


def test_a_probe_that_is_answered_closes_it_and_says_so_once(
    breaker: Breaker, clock: Clock, changes: list[str | None]
) -> None:
    fail(breaker)
    breaker.probed(None)
    breaker.probed(None)
    assert not opened(breaker)
    assert changes == ["error 4", None]
    fail(breaker)
    clock.advance(1)
    assert breaker.wants_probe()
    assert changes == ["error 4", None, "error 4"]


def test_after_one_failure_probes_find_out_without_anybody_waiting(breaker: Breaker, clock: Clock) -> None:
    assert not breaker.wants_probe()
    breaker.failed("refused")
    for _ in range(FAILURES - 1):
        assert breaker.wants_probe()
        breaker.probed("refused")
        clock.advance(1)
    assert opened(breaker)
