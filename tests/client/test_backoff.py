"""When a client comes back: full jitter between half a second and twenty, and what the server said."""

import random
from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.client import Again, Backoff, Ending
from channels_secure.client.endings import of_close, of_response
from channels_secure.policy.decisions import Reason

LOST = Ending(again=Again.YES)
RESTART = of_close(1012)
FINAL = Ending(again=Again.NO, reason="permission_denied")
UNEXPLAINED = of_response(403, {}, b"", now=0.0)
EXPIRED = Ending(again=Again.YES, reason=Reason.CREDENTIALS_EXPIRED)


def widest(**options: float) -> Backoff:
    return Backoff(jitter=lambda: 1.0, **options)  # type: ignore[arg-type]


def test_the_widest_wait_doubles_up_to_twenty_seconds() -> None:
    backoff = widest()
    waits = [backoff.after(LOST, stood=None) for _ in range(8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


def test_it_stays_at_twenty_seconds_for_ever() -> None:
    backoff = widest()
    assert {backoff.after(LOST, stood=None) for _ in range(5000)} >= {20.0}
    assert backoff.after(LOST, stood=None) == 20.0


@given(seed=st.integers(), attempts=st.integers(1, 12))
def test_every_wait_lies_between_none_and_the_widest(seed: int, attempts: int) -> None:
    narrow, wide = Backoff(jitter=random.Random(seed).random), widest()
    for _ in range(attempts):
        wait, limit = narrow.after(LOST, stood=None), wide.after(LOST, stood=None)
        assert wait is not None
        assert limit is not None
        assert 0 <= wait <= limit <= 20


@given(seed=st.integers(), wait=st.floats(0, 3600), attempts=st.integers(1, 12))
def test_nobody_comes_before_the_time_that_the_server_named(seed: int, wait: float, attempts: int) -> None:
    backoff = Backoff(jitter=random.Random(seed).random)
    told = Ending(again=Again.YES, reason="rate_limited", retry_after=wait)
    for _ in range(attempts):
        chosen = backoff.after(told, stood=None)
        assert chosen is not None
        assert wait <= chosen <= wait + 20


def test_who_are_told_the_same_time_do_not_come_at_that_time_together() -> None:
    told = Ending(again=Again.YES, reason="unavailable", retry_after=5.0)
    waits = {Backoff(jitter=random.Random(number).random).after(told, stood=None) for number in range(100)}
    assert len(waits) == 100


@pytest.mark.parametrize("ending", [RESTART, of_close(1001), of_close(4505)])
def test_when_a_server_goes_its_clients_spread_over_ten_seconds_until_it_is_back(ending: Ending) -> None:
    backoff = widest()
    waits = [backoff.after(ending, stood=60.0), *(backoff.after(LOST, stood=None) for _ in range(6))]
    assert waits == [10.0, 10.0, 10.0, 10.0, 10.0, 16.0, 20.0]
    assert backoff.after(LOST, stood=60.0) == 0.5


def test_a_thousand_clients_of_a_server_that_goes_are_spread_evenly() -> None:
    """By the numbers chosen, so on any machine: of 1,000 in 100 slots of 0.1 s, ten in each are to be expected."""
    waits = [Backoff(jitter=random.Random(number).random).after(RESTART, stood=60.0) or 0.0 for number in range(1000)]
    slots = Counter(int(wait * 10) for wait in waits)
    assert set(slots) == set(range(100))
    assert max(slots.values()) <= 30


def test_a_steady_connection_begins_anew_and_a_brief_one_does_not() -> None:
    backoff = widest(steady=5.0)
    waits = [backoff.after(LOST, stood=stood) for stood in (None, None, 4.9, 4.9, 5.0, None)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 0.5, 1.0]


def test_a_refusal_for_good_is_final() -> None:
    assert widest().after(FINAL, stood=None) is None
    assert widest().after(of_close(1000), stood=60.0) is None


def test_an_applications_own_code_is_final_unless_it_is_named() -> None:
    assert widest().after(of_close(4001), stood=60.0) is None
    assert Backoff(retry_codes=[4001], jitter=lambda: 1.0).after(of_close(4001), stood=60.0) == 0.5
    named = Ending(again=Again.NO, reason="permission_denied", code=4001)
    assert Backoff(retry_codes=[4001]).after(named, stood=60.0) is None


def test_unexplained_refusals_are_tried_again_a_few_times_and_slowly() -> None:
    backoff = widest(doubtful=3)
    assert [backoff.after(UNEXPLAINED, stood=None) for _ in range(4)] == [20.0, 20.0, 20.0, None]


def test_being_let_in_once_explains_them() -> None:
    backoff = widest(doubtful=1)
    waits = [backoff.after(UNEXPLAINED, stood=None), backoff.after(LOST, stood=0.1)]
    waits += [backoff.after(UNEXPLAINED, stood=None), backoff.after(UNEXPLAINED, stood=None)]
    assert [wait is None for wait in waits] == [False, False, False, True]


def test_they_may_be_tried_for_ever() -> None:
    backoff = Backoff(doubtful=None)
    assert None not in {backoff.after(UNEXPLAINED, stood=None) for _ in range(1000)}


def test_expired_credentials_are_replaced_once_and_not_for_ever() -> None:
    backoff = widest()
    waits = [backoff.after(EXPIRED, stood=stood) for stood in (60.0, None, None)]
    assert [wait is None for wait in waits] == [False, False, True]


def test_expired_credentials_after_each_connection_are_as_it_should_be() -> None:
    backoff = widest()
    assert None not in {backoff.after(EXPIRED, stood=stood) for stood in (60.0, None) * 50}


@pytest.mark.parametrize("bounds", [{"least": 0.0}, {"least": -1.0}, {"least": 2.0, "most": 1.0}])
def test_bounds_that_make_no_sense_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="least"):
        widest(**bounds)


def test_chance_is_asked_once_for_each_wait() -> None:
    numbers = count()
    backoff = Backoff(jitter=lambda: next(numbers) / 100)
    assert [backoff.after(LOST, stood=None) for _ in range(3)] == [0.0, 0.01, 0.04]
