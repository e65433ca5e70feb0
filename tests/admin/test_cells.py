"""How moments, spans and rates are shown."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from channels_secure.admin import cells

NOW = datetime(2026, 11, 21, 9, 41, 7, tzinfo=UTC)


def plain(text: str) -> str:
    return text.replace("\xa0", " ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (1, "1 second"), (59.9, "59 seconds"), (60, "1 minute"), (7300, "2 hours"), (-5, "0 seconds")],
)
def test_a_span_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert plain(cells.span(NOW - timedelta(seconds=seconds), NOW)) == words
    assert plain(cells.ago(NOW - timedelta(seconds=seconds), NOW)) == f"{words} ago"


def test_what_has_ended_is_over() -> None:
    assert plain(cells.ahead(NOW + timedelta(seconds=90), NOW)) == "in 1 minute"
    assert cells.ahead(NOW, NOW) == cells.ahead(NOW - timedelta(seconds=1), NOW) == "over"


@pytest.mark.parametrize(
    ("count", "seconds", "rate"),
    [
        (0, 600, "0.0"),
        (100, 600, "10.0"),
        (100, 599.999, "10.0"),
        (7, 2, "7.0"),
        (7, -9, "7.0"),
        (99_999, 60, "99,999.0"),
    ],
)
def test_a_rate_is_an_average_and_never_that_of_less_than_a_minute(
    count: int, seconds: float, rate: str, settings: object
) -> None:
    settings.USE_THOUSAND_SEPARATOR = True  # type: ignore[attr-defined]
    assert cells.per_minute(count, NOW - timedelta(seconds=seconds), NOW) == rate


def test_lines_are_text_and_empty_ones_are_left_out() -> None:
    assert cells.stacked("<b>", "", None, "x") == '<div class="cs-line">&lt;b&gt;</div><div class="cs-line">x</div>'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.5, "0 s ago"),
        (-59.9, "59 s ago"),
        (-60, "1 min ago"),
        (-3599, "59 min ago"),
        (-7300, "2 h ago"),
        (-172_799, "47 h ago"),
        (-172_800, "2 d ago"),
        (90, "in 1 min"),
    ],
)
def test_a_moment_is_told_from_now_and_says_its_time_to_who_points_at_it(seconds: float, words: str) -> None:
    when = NOW + timedelta(seconds=seconds)
    shown = plain(cells.moment(when, NOW))
    assert f">{words}<" in shown
    assert f'title="{when:%Y-%m-%d %H:%M:%S}"' in shown


def test_a_moment_in_full_has_both() -> None:
    shown = re.sub("<[^>]*>", "", plain(cells.at(NOW - timedelta(hours=3), NOW)))
    assert shown == "2026-11-21 06:41:07 (3 hours ago)"
    assert "(in 3 hours)" in plain(cells.at(NOW + timedelta(hours=3), NOW))
