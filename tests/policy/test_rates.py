"""Rates, and the one limiter: what it lets through in any window of any schedule."""

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.policy.rates import Bucket, Rate


@pytest.mark.parametrize(
    ("text", "amount", "period"),
    [
        ("20/s", 20, 1),
        ("1/s", 1, 1),
        ("5/10s", 5, 10),
        ("600/m", 600, 60),
        ("30/2m", 30, 120),
        ("100/h", 100, 3600),
        ("3/d", 3, 86400),
        ("999999999/999999d", 999_999_999, 999_999 * 86400),
    ],
)
def test_a_rate_is_an_amount_in_a_period(text: str, amount: int, period: float) -> None:
    assert Rate.parse(text) == Rate(amount, period)


@pytest.mark.parametrize(
    "text",
    [
        "", "20", "20/", "/s", "20/w", "20/S", "0/s", "20/0s", "-1/s", "1.5/s", "20 / s", " 20/s", "20/s ", "20/s\n",
        "1000000000/s", "1/1000000s", "１/s", "²/s", "20/s20/s", None, 20, b"20/s", ["20/s"], True,
    ],
)  # fmt: skip
def test_anything_else_is_no_rate(text: object) -> None:
    with pytest.raises(ValueError, match="is not a rate: write amount/"):
        Rate.parse(text)  # type: ignore[arg-type]


rates = st.builds(
    lambda amount, count, unit: Rate.parse(f"{amount}/{count}{unit}"),
    st.one_of(st.integers(1, 20), st.integers(1, 600)),
    st.integers(1, 90),
    st.sampled_from("smhd"),
)


@given(rates)
def test_a_rate_reads_its_own_text(rate: Rate) -> None:
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    ("text", "shown"), [("5/10s", "5/10s"), ("600/60s", "600/m"), ("1/3600s", "1/h"), ("7/48h", "7/2d")]
)
def test_a_rate_is_shown_in_its_largest_unit(text: str, shown: str) -> None:
    assert str(Rate.parse(text)) == shown


# The schedules: gaps between attempts, many of them none, and what each attempt costs.
gaps = st.one_of(st.just(0.0), st.floats(0, 5), st.floats(0, 5000))
schedules = st.lists(st.tuples(gaps, st.integers(1, 5)), min_size=1, max_size=40)
starts = st.floats(0, 1e8)


def admitted(rate: Rate, schedule: list[tuple[float, int]], start: float) -> list[tuple[float, int]]:
    """The attempts that a bucket lets through, with their times and costs."""
    bucket = Bucket(rate)
    times = accumulate((gap for gap, _ in schedule), initial=start)
    next(times)
    return [(now, cost) for now, (_, cost) in zip(times, schedule, strict=True) if bucket.take(now, cost) == 0]


@given(rates, schedules, starts)
def test_no_window_of_any_schedule_sees_more_than_the_burst_and_the_rate(
    rate: Rate, schedule: list[tuple[float, int]], start: float
) -> None:
    passed = admitted(rate, schedule, start)
    for number, (since, _) in enumerate(passed):
        total = 0
        for until, cost in passed[number:]:
            total += cost
            # A hundredth of one event is what rounding may give away.
            assert total <= rate.amount + (until - since) * rate.amount / rate.period + 0.02


@given(rates, starts)
def test_a_burst_is_the_whole_amount_and_not_one_more(rate: Rate, start: float) -> None:
    bucket = Bucket(rate)
    waits = [bucket.take(start) for _ in range(rate.amount)]
    assert not any(waits)
    assert bucket.take(start) > 0


@given(rates, st.integers(1, 600), starts)
def test_the_wait_is_as_long_as_it_says_and_no_longer(rate: Rate, spent: int, start: float) -> None:
    bucket = Bucket(rate)
    for _ in range(min(spent, rate.amount)):
        bucket.take(start)
    cost = 1 + rate.amount // 2
    wait = bucket.take(start, cost)
    if not wait:
        return
    # Of a refusal nothing is spent, so the same question gets the same answer.
    assert bucket.take(start, cost) == wait
    rounding = 1e-8 + start * 1e-15
    assert wait <= rounding or bucket.take(start + wait - rounding, cost) > 0
    assert bucket.take(start + wait + rounding, cost) == 0


@given(rates, schedules)
def test_a_bucket_that_is_idle_is_as_good_as_new(rate: Rate, schedule: list[tuple[float, int]]) -> None:
    bucket = Bucket(rate)
    now = 0.0
    for gap, cost in schedule:
        now += gap
        bucket.take(now, cost)
    assert bucket.is_idle(bucket.tat)
    assert not bucket.is_idle(math.nextafter(bucket.tat, 0)) or bucket.tat == 0
    later = bucket.tat + 1
    fresh = Bucket(rate)
    assert [bucket.take(later) for _ in range(30)] == [fresh.take(later) for _ in range(30)]


def test_a_cost_is_as_many_events() -> None:
    bucket = Bucket(Rate.parse("10/s"))
    assert bucket.take(0, 9) == 0
    assert bucket.take(0, 2) == pytest.approx(0.1, abs=1e-4)
    assert bucket.take(0, 1) == 0


def test_an_event_comes_back_with_each_part_of_the_period() -> None:
    bucket = Bucket(Rate.parse("5/10s"))
    assert [bucket.take(0) for _ in range(5)] == [0] * 5
    assert bucket.take(0) == pytest.approx(2, abs=1e-4)
    assert bucket.take(1.9) == pytest.approx(0.1, abs=1e-4)
    assert bucket.take(2) == 0
    assert bucket.take(2) == pytest.approx(2, abs=1e-4)


@given(st.integers(2, 300), st.sampled_from("smhd"), starts)
def test_less_one_refuses_what_the_rate_admits_last(amount: int, unit: str, start: float) -> None:
    bucket = Bucket(Rate.parse(f"{amount}/{unit}").less_one())
    waits = [bucket.take(start) for _ in range(amount)]
    assert [wait > 0 for wait in waits] == [False] * (amount - 1) + [True]


def test_less_one_leaves_at_least_one() -> None:
    assert Rate.parse("1/h").less_one() == Rate.parse("1/h")
