"""What the dashboard counts, draws and says, down to the number."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings
from django.utils import timezone
from pytest_django.fixtures import Settings

from channels_secure.admin import chart, figures, headline, ranking, tiles
from channels_secure.admin.figures import Before, Figures
from channels_secure.admin.headline import Rise, rise
from channels_secure.admin.periods import PERIODS, Window, window
from channels_secure.admin.picture import picture
from channels_secure.admin.ranking import Ranking, Subject, Tally
from channels_secure.models import AuditEvent, AuditRollup
from tests.admin.conftest import event

NOW = datetime(2026, 11, 21, 3, 17, 42, tzinfo=UTC)
NUMBER = r"\d+(\.\d+)?"


def span(period: str, now: datetime = NOW) -> Window:
    return window(PERIODS[period], now)


def rollup(hour: datetime, kind: str, events: int, reason: str = "") -> None:
    AuditRollup.objects.create(hour=hour, kind=kind, reason=reason, events=events, rows=1)


# Periods -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "bars", "start", "end"),
    [
        ("1h", 60, "2026-11-21 02:18", "2026-11-21 03:18"),
        ("24h", 24, "2026-11-20 04:00", "2026-11-21 04:00"),
        ("7d", 56, "2026-11-14 04:00", "2026-11-21 04:00"),
        ("30d", 60, "2026-10-22 04:00", "2026-11-21 04:00"),
    ],
)
def test_a_period_ends_with_the_bar_that_is_not_over(period: str, bars: int, start: str, end: str) -> None:
    found = span(period)
    assert len(found.starts) == found.bars == bars
    assert (f"{found.start:%Y-%m-%d %H:%M}", f"{found.end:%Y-%m-%d %H:%M}") == (start, end)
    assert found.starts[-1] <= NOW < found.end
    assert found.starts[-1] + found.period.step == found.end
    assert found.start - found.before == found.period.length


def test_a_moment_belongs_to_the_bar_that_has_begun_and_the_future_to_the_last() -> None:
    found = span("24h")
    assert found.bar_of(found.start) == 0
    assert found.bar_of(found.start + timedelta(hours=1) - timedelta(microseconds=1)) == 0
    assert found.bar_of(found.start + timedelta(hours=1)) == 1
    assert found.bar_of(NOW) == found.bar_of(NOW + timedelta(days=2)) == 23


def test_times_are_those_of_the_reader() -> None:
    with timezone.override("Asia/Kolkata"):
        assert span("1h").span(0) == "07:48–07:49"
        assert span("30d").span(0) == "Thu 22 Oct 09:30–21:30"


# Figures -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_whole_hours_come_from_the_sums_that_are_kept_of_them() -> None:
    found = span("24h")
    rollup(found.start, "handshake.denied", 7, "rate_limited")
    rollup(found.start, "handshake.denied", 5, "blocked")
    rollup(found.starts[23], "connection.accepted", 11)
    rollup(found.start - timedelta(hours=1), "handshake.denied", 1000)
    rollup(found.end, "handshake.denied", 1000)
    counted = figures.figures(found)
    assert [counted.bars[0], counted.bars[23]] == [
        Counter({"handshake.denied": 12}),
        Counter({"connection.accepted": 11}),
    ]
    assert not any(counted.bars[1:23])
    assert (counted.refused, counted.limited, counted.is_cut) == (12, 7, False)


@pytest.mark.django_db
def test_rows_that_are_in_no_sum_yet_are_counted_with_their_own_counts() -> None:
    found = span("24h")
    rollup(found.starts[23], "message.denied", 100, "rate_limited")
    event(kind="message.denied", reason="rate_limited", count=40, created_at=NOW, position=None)
    event(kind="credentials.failed", reason="invalid_credentials", count=3, created_at=NOW, position=None)
    event(kind="message.denied", reason="rate_limited", count=100, created_at=NOW, position=1)
    counted = figures.figures(found)
    assert counted.bars[23] == Counter({"message.denied": 140, "credentials.failed": 3})
    assert (counted.refused, counted.limited) == (143, 140)


@pytest.mark.django_db
def test_the_last_hour_is_counted_by_the_minute() -> None:
    found = span("1h")
    event(created_at=found.start, count=2, position=1)
    event(created_at=found.start + timedelta(seconds=59), count=3)
    event(created_at=NOW, reason="rate_limited", kind="message.denied", count=4, position=2)
    event(created_at=found.start - timedelta(microseconds=1), count=1000)
    rollup(found.start.replace(minute=0), "handshake.denied", 1000)
    counted = figures.figures(found)
    assert [counted.bars[0], counted.bars[59]] == [Counter({"handshake.denied": 5}), Counter({"message.denied": 4})]
    assert (counted.refused, counted.limited, counted.is_cut) == (9, 4, False)


@pytest.mark.django_db
def test_more_than_can_be_counted_by_the_minute_is_cut_and_says_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "REACH", 3)
    found = span("1h")
    for minute in range(5):
        event(created_at=found.start + timedelta(minutes=minute), count=10)
    counted = figures.figures(found)
    assert (counted.refused, counted.is_cut) == (30, True)
    assert counted.counted_from == found.start + timedelta(minutes=1)
    assert [number for number, bar in enumerate(counted.bars) if bar] == [2, 3, 4]
    assert figures.before(found, counted) is None
    drawn = picture(found, counted)
    assert drawn.unknown == "3.33%"
    assert "02:19:00" in drawn.note


@pytest.mark.django_db
def test_as_many_as_can_be_counted_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "REACH", 3)
    for minute in range(3):
        event(created_at=span("1h").start + timedelta(minutes=minute))
    counted = figures.figures(span("1h"))
    assert (counted.refused, counted.is_cut) == (3, False)


@pytest.mark.django_db
def test_rows_that_wait_for_their_sum_are_counted_as_far_as_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "UNLINKED", 2)
    for _ in range(3):
        event(created_at=NOW)
    counted = figures.figures(span("24h"))
    assert (counted.refused, counted.is_low, counted.is_cut) == (2, True, True)
    assert "still being counted" in picture(span("24h"), counted).note


@pytest.mark.django_db
def test_the_period_before_is_as_long_and_ends_where_this_one_begins() -> None:
    found = span("24h")
    rollup(found.before, "handshake.denied", 7, "rate_limited")
    rollup(found.start - timedelta(hours=1), "message.denied", 5)
    rollup(found.start - timedelta(hours=1), "connection.closed", 50)
    rollup(found.before - timedelta(hours=1), "handshake.denied", 1000)
    rollup(found.start, "handshake.denied", 1000)
    assert figures.before(found, figures.figures(found)) == Before(refused=12, limited=7)


@pytest.mark.django_db
def test_the_hour_before_is_counted_from_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = span("1h")
    event(created_at=found.before, count=7, reason="rate_limited")
    event(created_at=found.start - timedelta(seconds=1), count=5, kind="credentials.failed")
    event(created_at=found.start - timedelta(seconds=1), count=50, kind="connection.closed")
    event(created_at=found.start, count=1000)
    event(created_at=found.before - timedelta(seconds=1), count=1000)
    now = figures.figures(found)
    assert figures.before(found, now) == Before(refused=12, limited=7)
    monkeypatch.setattr(figures, "REACH", 2)
    assert figures.before(found, now) is None


# Who stands out ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_who_is_refused_most_comes_first_with_the_sums_of_their_rows(user: object) -> None:
    facts = {"created_at": NOW, "origin": "https://evil.example"}
    event(ip="203.0.113.7", count=40, reason="rate_limited", **facts)
    event(ip="203.0.113.9", count=2, reason="blocked", **facts)
    event(ip="198.51.100.1", count=30, user=user, username="alice", reason="rate_limited", created_at=NOW)
    event(
        ip="198.51.100.1", count=900, kind="connection.accepted", reason="", user=user, username="alice", created_at=NOW
    )
    event(ip="203.0.113.7", count=1000, created_at=span("24h").start - timedelta(seconds=1))
    found = ranking.ranking(span("24h"))
    told = {
        subject: [(tally.text, tally.refused, tally.events) for tally in tallies]
        for subject, tallies in found.tops.items()
    }
    assert told == {
        Subject.USERS: [("alice", 30, 930)],
        Subject.ADDRESSES: [("203.0.113.7", 40, 40), ("198.51.100.1", 30, 930), ("203.0.113.9", 2, 2)],
        Subject.NETWORKS: [("203.0.113.0/24", 42, 42), ("198.51.100.0/24", 30, 930)],
        Subject.ORIGINS: [("https://evil.example", 42, 42)],
        Subject.REASONS: [("rate_limited", 70, 70), ("blocked", 2, 2)],
    }
    assert (found.refused, found.counted_from) == (72, None)
    assert found.tops[Subject.NETWORKS][0].addresses == {"203.0.113.7", "203.0.113.9"}


@pytest.mark.django_db
def test_an_ipv6_client_counts_as_its_network_and_that_as_a_part_of_its_site(settings: Settings) -> None:
    for ip in ("2001:db8:1:2::9", "2001:db8:1:2::a", "2001:db8:1:2::/64", "2001:db8:1:3::1", "::ffff:203.0.113.7"):
        event(ip=ip, created_at=NOW)
    tops = ranking.ranking(span("24h")).tops
    assert [(tally.text, tally.refused) for tally in tops[Subject.ADDRESSES]] == [
        ("2001:db8:1:2::/64", 3),
        ("203.0.113.7", 1),
        ("2001:db8:1:3::/64", 1),
    ]
    assert [tally.text for tally in tops[Subject.NETWORKS]] == ["2001:db8:1::/48", "203.0.113.0/24"]
    settings.CHANNELS_SECURE = {"IPV6_PREFIX": 40}
    assert ranking.ranking(span("24h")).tops[Subject.NETWORKS][0].text == "2001:db8::/40"


@pytest.mark.django_db
@pytest.mark.parametrize("ip", ["nonsense", "<script>", "10.0.0.1/", "/", "999.1.1.1"])
def test_what_is_no_address_has_no_network_unless_it_begins_with_one(ip: str) -> None:
    event(ip=ip, created_at=NOW)
    tops = ranking.ranking(span("24h")).tops
    assert len(tops[Subject.ADDRESSES]) == 1
    assert [tally.text for tally in tops[Subject.NETWORKS]] == (["10.0.0.0/24"] if ip == "10.0.0.1/" else [])


@pytest.mark.django_db
def test_only_the_newest_rows_are_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "REACH", 2)
    for number in range(4):
        event(ip=f"203.0.113.{number}", created_at=NOW - timedelta(minutes=number))
    found = ranking.ranking(span("24h"))
    assert {tally.text for tally in found.tops[Subject.ADDRESSES]} == {"203.0.113.0", "203.0.113.1"}
    assert (found.refused, found.counted_from) == (2, NOW - timedelta(minutes=2))


@pytest.mark.django_db
def test_two_users_of_one_name_are_two(make_user: object, user: object) -> None:
    event(user=user, username="alice", created_at=NOW)
    event(user=None, username="alice", created_at=NOW)
    tops = ranking.ranking(span("24h")).tops
    assert [(tally.text, tally.refused) for tally in tops[Subject.USERS]] == [("alice", 1), ("alice", 1)]


# The chart -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bars",
    [
        [],
        [[]],
        [[0, 0], [0, 0]],
        [[1]],
        [[1, 1, 1, 1, 1, 1, 1]] * 60,
        [[0, 3], [5, 0], [10**6, 1]],
        [[9 * 10**18] * 7] * 60,
        [[10**30, 1], [0, 1]],
    ],
    ids=["none", "no series", "all zero", "one", "full", "a handful among many", "huge", "beyond any column"],
)
def test_bars_stay_in_the_picture_and_do_not_overlap(bars: list[list[int]]) -> None:
    drawn = chart.stack(bars)
    floors: dict[int, float] = {}
    for segment in drawn.segments:
        assert all(re.fullmatch(NUMBER, text) for text in (segment.x, segment.y, segment.width, segment.height))
        x, y, width, height = map(float, (segment.x, segment.y, segment.width, segment.height))
        assert 100 * segment.bar / len(bars) <= x
        assert x + width <= 100 * (segment.bar + 1) / len(bars) + 0.01
        assert y >= -0.01
        assert y + height == pytest.approx(floors.get(segment.bar, drawn.height), abs=0.05)
        assert height >= chart.LEAST
        floors[segment.bar] = y
    assert len(drawn.segments) == sum(count > 0 for bar in bars for count in bar)


def test_heights_are_in_proportion_to_the_lines() -> None:
    drawn = chart.stack([[50, 30], [100, 0]])
    assert [line.label for line in drawn.lines] == ["100", "50", "0"]
    top, half, floor = (float(line.y) for line in drawn.lines)
    assert (floor - top, floor) == (chart.PLOT, drawn.height)
    assert [float(segment.height) for segment in drawn.segments] == [90, 54, 180]
    assert float(drawn.segments[0].y) == half
    assert float(drawn.segments[2].y) == top


def test_nothing_has_no_lines() -> None:
    assert chart.stack([[0, 0]] * 24) == chart.Stack(height=184, segments=[], lines=[])


@pytest.mark.parametrize(
    ("value", "top"),
    [(-1, 0), (0, 0), (1, 1), (3, 4), (9, 10), (10, 10), (11, 20), (61, 80), (81, 100), (10**30, 10**30)],
)
def test_an_axis_ends_with_a_round_number(value: int, top: int) -> None:
    assert chart.nice(value) == top


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (2500, "2.5k"), (10**6, "1M"), (6 * 10**18, "6E"), (10**21, "1000E")],
)
def test_an_axis_has_short_numbers(value: int, text: str) -> None:
    assert chart.short(value) == text


@pytest.mark.django_db
def test_the_picture_and_its_table_say_the_same() -> None:
    found = span("24h")
    rollup(found.start, "handshake.denied", 1200)
    rollup(found.start, "policy.would_deny", 3)
    rollup(found.starts[5], "tokens.revoked", 2)
    rollup(found.starts[5], "an.unknown_kind", 4)
    drawn = picture(found, figures.figures(found))
    assert [(each.key, each.total) for each in drawn.legend] == [
        ("handshakes", "1,200"),
        ("reported", "3"),
        ("others", "6"),
    ]
    assert drawn.rows == [("09:00–10:00", ["0", "0", "6"], "6"), ("04:00–05:00", ["1,200", "3", "0"], "1,203")]
    assert [each.title for each in drawn.drawn] == [
        "04:00–05:00, handshakes refused: 1,200",
        "04:00–05:00, would be refused: 3",
        "09:00–10:00, everything else: 6",
    ]
    assert (drawn.unknown, drawn.note) == ("", "")


@override_settings(LANGUAGE_CODE="de", USE_THOUSAND_SEPARATOR=True)
def test_attributes_have_no_decimal_comma_in_any_language() -> None:
    drawn = chart.stack([[1], [3], [7]])
    assert all("," not in segment.x + segment.y + segment.width + segment.height for segment in drawn.segments)


# In words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bars", "found"),
    [
        ([0] * 24, None),
        ([19] * 24, None),
        ([0] * 20 + [19] * 4, None),
        ([0] * 20 + [500, 600, 400, 20], Rise(first=20, last=23)),
        ([5] * 10 + [500] * 5 + [5] * 9, Rise(first=10, last=14)),
        ([0] * 10 + [500, 0, 500, 0, 500] + [0] * 9, Rise(first=10, last=14)),
        ([0] * 5 + [500] + [0] * 8 + [700] + [0] * 9, Rise(first=14, last=14)),
        ([0] * 6 + [1000] * 18, Rise(first=6, last=23)),
        ([1000] * 24, None),
        ([1000] * 9 + [0] * 15, None),
        ([100, 300, 0, 200] * 6, None),
        ([30], None),
    ],
    ids=[
        "calm", "steady", "few", "now", "over", "in waves", "the newer of two", "for most of the time", "always",
        "from before", "noise", "one bar",
    ],
)  # fmt: skip
def test_the_beginning_of_trouble_is_found(bars: list[int], found: Rise | None) -> None:
    assert rise(bars) == found


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        (0, 0, "None before either"),
        (5, 0, "None in the hour before"),
        (900, 9, "9 in the hour before"),
        (9, 9, "As many as in the hour before"),
        (10, 10, "As many as in the hour before"),
        (12, 10, "20 % more than in the hour before"),
        (5, 10, "50 % fewer than in the hour before"),
        (20, 10, "2 times as many as in the hour before"),
        (123456, 10, "12,345 times as many as in the hour before"),
        (0, 7, "7 in the hour before"),
        (0, 10, "100 % fewer than in the hour before"),
    ],
)
def test_numbers_are_measured_by_those_before(now: int, before: int, said: str) -> None:
    assert headline.comparison(PERIODS["1h"], now, before) == said


def told(refusals: list[int], earlier: Before | None, tops: Ranking, period: str = "24h", **facts: object) -> list[str]:
    found = Figures(bars=[Counter() for _ in refusals])
    for number, count in enumerate(refusals):
        found.add(number, "handshake.denied", count, 0)
    for name, value in facts.items():
        setattr(found, name, value)
    return headline.sentences(span(period), found, earlier, tops)


def ranked(refused: int = 0, **tops: Tally) -> Ranking:
    found = {subject: [tops[subject]] if subject in tops else [] for subject in Subject}
    return Ranking(tops=found, refused=refused, counted_from=None)


def test_the_page_says_how_much_since_when_and_who() -> None:
    tops = ranked(
        1000,
        networks=Tally("203.0.113.0/24", refused=970),
        users=Tally("bob", refused=199),
        reasons=Tally("rate_limited", refused=600),
    )
    assert told([0] * 21 + [400, 500, 100], Before(refused=10, limited=0), tops) == [
        "1,000 refusals in the last 24 hours.",
        "100 times as many as in the 24 hours before.",
        "Far more than usual since Sat 01:00, and still.",
        "97 % come from the network 203.0.113.0/24.",
        "60 % are for the reason rate_limited.",
    ]


def test_the_page_says_that_it_is_over() -> None:
    said = told([0] * 10 + [500, 500] + [0] * 12, None, ranked())
    assert said[1:] == ["Far more than usual from Fri 14:00 to Fri 16:00; it has calmed down."]


def test_the_page_says_that_nothing_happens() -> None:
    assert told([0] * 24, Before(refused=0, limited=0), ranked()) == ["Nothing was refused in the last 24 hours."]
    assert told([0] * 24, Before(refused=70, limited=0), ranked())[1:] == ["100 % fewer than in the 24 hours before."]


def test_what_was_not_counted_whole_is_said_to_be_more_and_to_begin_nowhere() -> None:
    said = told([0] * 50 + [500] * 10, None, ranked(), period="1h", counted_from=NOW)
    assert said == ["5,000+ refusals in the last hour."]


# Stores --------------------------------------------------------------------------------------------------------------


def degraded(minutes: float, store: object = "RedisStore", process: str = "aa", kind: str = "degraded") -> None:
    count = AuditEvent.objects.count()
    moment = NOW - timedelta(minutes=minutes)
    event(kind=f"store.{kind}", reason="", created_at=moment, uid=f"{process}-{count:x}", detail={"store": store})


def found_degraded() -> list[tuple[str, int, int]]:
    stores = tiles.degraded_stores(NOW)
    return [(each.store, round((NOW - each.since).total_seconds() / 60), each.processes) for each in stores]


@pytest.mark.django_db
def test_a_store_is_degraded_until_it_has_recovered_in_every_process() -> None:
    degraded(30)
    degraded(20, process="bb")
    degraded(10, kind="recovered")
    degraded(15, store="database", process="bb")
    assert found_degraded() == [("RedisStore", 20, 1), ("database", 15, 1)]
    degraded(5)
    assert found_degraded() == [("RedisStore", 20, 2), ("database", 15, 1)]
    degraded(1, process="aa", kind="recovered")
    degraded(1, process="bb", kind="recovered")
    assert found_degraded() == [("database", 15, 1)]


@pytest.mark.django_db
def test_a_store_that_went_away_long_ago_says_no_more_about_now() -> None:
    degraded(60 * 24 + 1)
    assert found_degraded() == []
    degraded(60 * 24 - 1)
    assert found_degraded() == [("RedisStore", 1439, 1)]


@pytest.mark.django_db
def test_a_detail_that_says_nothing_is_a_store_all_the_same() -> None:
    degraded(5, store=None)
    AuditEvent.objects.update(detail=["no", "dict"])
    assert found_degraded() == [("?", 5, 1)]
