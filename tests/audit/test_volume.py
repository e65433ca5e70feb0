"""The volume rule: few rows, exact sums, bounded memory, whatever the schedule."""

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.audit.volume import MAX_PAIRS, ROWS_PER_MINUTE, SINGLES_PER_KEY, Row, Volume, key_of

CAPACITY = 10_000

_numbers = itertools.count()


def event(now: float = 0.0, kind: str = "handshake.denied", reason: str = "rate_limited", **facts: Any) -> Row:
    ip = facts.pop("ip", "203.0.113.7")
    facts = {"uid": str(next(_numbers)), "prefix": ip, **facts}
    return Row(kind=kind, reason=reason, created_at=now, last_at=now, ip=ip, **facts)


def put(volume: Volume, row: Row, capacity: int) -> bool:
    """Let a volume have an event, as the recorder does; whether a row was made for it."""
    if volume.absorb(key_of(row), row.created_at, row.count, capacity) is not None:
        return False
    volume.add(row, capacity)
    return True


class Table:
    """A database that remembers rows as `writer` would write them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.kinds: dict[str, tuple[str, str]] = {}
        self.open: set[str] = set()

    def write(self, volume: Volume) -> None:
        for row in volume.take():
            assert row.uid not in self.counts or row.sums, "only sums are written twice"
            assert row.uid not in self.counts or row.uid in self.open, "what is over does not grow"
            self.counts[row.uid] = row.written = row.count
            self.kinds[row.uid] = row.kind, row.reason
            (self.open.add if row.is_open else self.open.discard)(row.uid)
            row.stored = True
        volume.settle()

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def test_the_first_twenty_of_a_key_are_rows_of_their_own_and_the_rest_is_one() -> None:
    volume, table = Volume(), Table()
    said = [put(volume, event(number / 100), CAPACITY) for number in range(500)]
    table.write(volume)
    assert list(table.counts.values()) == [1] * SINGLES_PER_KEY + [480]
    assert said.count(True) == SINGLES_PER_KEY + 1


def test_the_sum_tells_the_first_and_the_last_time_and_the_network() -> None:
    volume = Volume()
    for number in range(30):
        put(
            volume,
            event(number, ip=f"2001:db8::{number:x}", prefix="2001:db8::/64", connection_id=str(number)),
            CAPACITY,
        )
    last = volume.take()[-1]
    assert (last.created_at, last.last_at, last.count) == (20, 29, 10)
    assert (last.ip, last.connection_id, last.sums) == ("2001:db8::/64", "", True)


def test_a_sum_that_was_written_grows_in_place() -> None:
    volume, table = Volume(), Table()
    for number in range(100):
        put(volume, event(number / 10), CAPACITY)
        table.write(volume)
    assert list(table.counts.values()) == [1] * SINGLES_PER_KEY + [80]


def test_a_new_minute_begins_anew() -> None:
    volume, table = Volume(), Table()
    for minute in range(3):
        for _ in range(25):
            put(volume, event(minute * 60.0), CAPACITY)
    table.write(volume)
    assert list(table.counts.values()) == ([1] * SINGLES_PER_KEY + [5]) * 3


@pytest.mark.parametrize(
    "facts", [{"reason": "blocked"}, {"ip": "203.0.113.8"}, {"user_id": 5}, {"kind": "message.denied"}]
)
def test_keys_are_kind_reason_address_and_user(facts: dict[str, Any]) -> None:
    volume = Volume()
    for _ in range(SINGLES_PER_KEY):
        put(volume, event(), CAPACITY)
    put(volume, event(**facts), CAPACITY)
    assert not volume.take()[-1].sums


def test_a_minute_has_six_hundred_rows_and_one_per_kind_and_reason() -> None:
    volume, table = Volume(), Table()
    for number in range(100_000):
        put(volume, event(number / 10_000, ip=f"198.51.{number // 250 % 250}.{number % 250}"), CAPACITY)
    table.write(volume)
    assert len(table.counts) == ROWS_PER_MINUTE
    assert table.total == 100_000


def test_kinds_and_reasons_have_rows_of_their_own_above_the_cap() -> None:
    volume, table = Volume(), Table()
    pairs = [("handshake.denied", "blocked"), ("handshake.denied", "rate_limited"), ("message.denied", "unknown_type")]
    for number in range(9_000):
        kind, reason = pairs[number % 3]
        put(volume, event(kind=kind, reason=reason, ip=str(number)), CAPACITY)
    table.write(volume)
    assert len(table.counts) <= ROWS_PER_MINUTE
    totals: Counter[tuple[str, str]] = Counter()
    for key, count in table.counts.items():
        totals[table.kinds[key]] += count
    assert totals == dict.fromkeys(pairs, 3000)


def test_beginnings_and_ends_of_connections_stay_single_up_to_the_cap() -> None:
    volume, table = Volume(), Table()
    for _ in range(1_000):
        put(volume, event(kind="connection.accepted", reason=""), CAPACITY)
    table.write(volume)
    assert list(table.counts.values()) == [1] * (ROWS_PER_MINUTE - 1) + [401]


def test_an_event_may_stand_for_many() -> None:
    volume, table = Volume(), Table()
    for _ in range(30):
        put(volume, event(count=7), CAPACITY)
    table.write(volume)
    assert table.total == 210


def test_with_the_database_away_for_days_the_queue_stays_bounded_and_the_sums_exact() -> None:
    volume, table = Volume(), Table()
    for minute in range(2_000):
        for number in range(50):
            put(volume, event(minute * 60.0, ip=f"{minute}-{number}", reason="ab"[number % 2]), 1_000)
        volume.settle(volume.take())
    assert len(volume) <= 1_002
    table.write(volume)
    assert table.total == 100_000


def test_reasons_without_number_are_bounded_too() -> None:
    volume, table = Volume(), Table()
    for number in range(20_000):
        put(volume, event(number / 10, reason=f"reason {number}", ip=str(number)), 100)
    assert len(volume) <= 100 + MAX_PAIRS + 1
    table.write(volume)
    assert table.total == 20_000


def test_what_could_not_be_written_waits_before_what_came_later() -> None:
    volume = Volume()
    put(volume, event(1.0, ip="first"), CAPACITY)
    taken = volume.take()
    put(volume, event(2.0, ip="second"), CAPACITY)
    volume.settle(taken)
    assert [row.ip for row in volume.take()] == ["first", "second"]


def test_a_sum_that_grew_while_it_was_being_written_is_written_again() -> None:
    volume, table = Volume(), Table()
    for _ in range(25):
        put(volume, event(), CAPACITY)
    taken = volume.take()
    put(volume, event(), CAPACITY)
    volume.settle(taken)
    assert len(volume) == SINGLES_PER_KEY + 1
    table.write(volume)
    assert table.total == 26


@dataclass(frozen=True)
class Step:
    wait: float
    ip: int
    reason: int
    kind: str
    repeat: int
    flush: str


steps = st.lists(
    st.builds(
        Step,
        wait=st.sampled_from([0.0, 0.01, 5.0, 61.0]),
        ip=st.integers(0, 5_000),
        reason=st.integers(0, 400),
        kind=st.sampled_from(["handshake.denied", "message.denied", "connection.accepted"]),
        repeat=st.integers(1, 40),
        flush=st.sampled_from(["", "", "works", "fails", "grows"]),
    ),
    max_size=40,
)


@given(steps, st.sampled_from([1, 30, 10_000]))
def test_counts_are_exact_for_every_schedule(schedule: list[Step], capacity: int) -> None:
    volume, table = Volume(), Table()
    now, told = 1_000_000.0, 0
    rows_by_minute: Counter[int] = Counter()
    for step in schedule:
        now += step.wait
        for _ in range(step.repeat):
            rows_by_minute[int(now // 60)] += put(
                volume, event(now, step.kind, f"r{step.reason}", ip=str(step.ip)), capacity
            )
            told += 1
        if step.flush == "works":
            table.write(volume)
        elif step.flush == "fails":
            volume.settle(volume.take())
        elif step.flush == "grows":
            taken = volume.take()
            put(volume, event(now, step.kind, f"r{step.reason}", ip=str(step.ip)), capacity)
            told += 1
            volume.settle(taken)
    # What cannot be written yet counts too; beyond capacity only sums wait.
    assert len(volume) <= capacity + MAX_PAIRS + 3 + ROWS_PER_MINUTE // SINGLES_PER_KEY
    assert max(rows_by_minute.values(), default=0) <= ROWS_PER_MINUTE + MAX_PAIRS + 3
    table.write(volume)
    assert table.total == told


def test_threads_that_meet_at_the_turn_of_a_minute_do_not_begin_it_twice() -> None:
    volume, table = Volume(), Table()
    for number in range(200):
        put(volume, event(60.0 - number % 2 / 1000), CAPACITY)
    table.write(volume)
    # The first came at 60.0: everything after it belongs to that minute.
    assert list(table.counts.values()) == [1] * SINGLES_PER_KEY + [180]


def test_a_clock_that_goes_back_loses_nothing() -> None:
    volume, table = Volume(), Table()
    for now in (120.0, 30.0, 121.0, 0.0):
        for _ in range(30):
            put(volume, event(now), CAPACITY)
    table.write(volume)
    assert table.total == 120


def test_a_sum_ends_with_its_minute_also_when_nothing_happens_any_more() -> None:
    volume, table = Volume(), Table()
    for _ in range(25):
        put(volume, event(120.0), CAPACITY)
    table.write(volume)
    assert len(table.open) == 1
    volume.turn(179.9, CAPACITY)
    assert not len(volume)
    volume.turn(180.0, CAPACITY)
    table.write(volume)
    assert not table.open
    assert table.total == 25


def test_a_process_that_ends_ends_its_sums() -> None:
    volume, table = Volume(), Table()
    for _ in range(25):
        put(volume, event(120.0), CAPACITY)
    volume.end()
    table.write(volume)
    assert not table.open
    put(volume, event(120.0), CAPACITY)
    table.write(volume)
    assert table.total == 26


def test_a_sum_that_goes_on_while_nothing_can_be_written_is_never_said_to_be_over() -> None:
    volume, said = Volume(), []

    class Watched(Row):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "is_over" and value:
                said.append(value)
            super().__setattr__(name, value)

    for number in range(2):
        put(volume, event(60.0, ip=str(number)), 2)
    going_on = volume.add(event(60.0, ip="summed up"), 2)
    going_on.__class__ = Watched
    assert not put(volume, event(120.0, ip="later"), 2)
    # The writer's thread may look at any moment.
    assert (going_on.count, going_on.is_open, said) == (2, True, [])
    volume.end()
    assert said == [True]
