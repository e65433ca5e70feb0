"""Text and details from anywhere become storable, showable and loggable."""

import json
from enum import StrEnum
from typing import Any

import pytest
from django.utils.safestring import SafeString, mark_safe
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.audit import plain


class Slug(StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ordinary text, ü and 日本", "ordinary text, ü and 日本"),
        ("a\x00b", "a\\x00b"),
        ("line\r\nfeed", "line\\x0d\\x0afeed"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("next\u2028line", "next\\u2028line"),
        (b"bytes \xff", "bytes \\xff"),
        (None, ""),
        (17, "17"),
        (Slug.ONE, "one"),
    ],
)
def test_what_cannot_be_shown_becomes_visible(value: Any, shown: str) -> None:
    assert plain.text(value) == shown


def test_text_is_cut_with_a_mark() -> None:
    cut = plain.text("x" * 1_000_000)
    assert len(cut) == plain.TEXT_LENGTH
    assert cut.endswith(plain.MARK)


def test_text_of_just_the_length_is_whole() -> None:
    assert plain.text("x" * plain.TEXT_LENGTH) == "x" * plain.TEXT_LENGTH


@pytest.mark.parametrize("value", [Slug.ONE, mark_safe("<b>")])
def test_the_type_is_a_plain_string(value: str) -> None:
    assert type(plain.text(value)) is str
    assert not isinstance(plain.text(value), SafeString)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(categories=None), max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5) | st.integers(), inner),
    max_leaves=10,
)


@given(st.text(st.characters(categories=None), max_size=600) | st.binary(max_size=600), st.integers(10, 300))
def test_any_text_fits_and_encodes_and_stays_on_one_line(value: str | bytes, length: int) -> None:
    shown = plain.text(value, length)
    assert len(shown) <= length
    assert len(shown.splitlines()) <= 1
    assert "\x00" not in shown
    assert shown.encode("utf-8")[:0] == b""


@given(st.dictionaries(st.text(max_size=5), anything, max_size=5))
def test_any_detail_is_bounded_json_that_postgresql_takes(value: dict[str, Any]) -> None:
    stored = json.dumps(plain.detail(value), allow_nan=False, ensure_ascii=False)
    assert len(stored.encode("utf-8")) < 64 * 1024
    assert "\\u0000" not in stored


def test_numbers_that_no_column_holds_become_text() -> None:
    made = plain.detail({"nan": float("nan"), "inf": float("inf"), "big": 10**5000, "fine": 2**62, "true": True})
    assert made == {"nan": "nan", "inf": "inf", "big": hex(10**5000)[:256], "fine": 2**62, "true": True}


def test_a_deep_and_wide_detail_is_cut_with_a_mark() -> None:
    deep: dict[str, Any] = {}
    deep["again"] = deep
    assert plain.detail(deep) == {"again": {"again": {"again": plain.MARK}}}
    wide = plain.detail({str(number): number for number in range(1000)})
    assert len(wide) == plain.MAX_VALUES + 1
    assert wide[plain.MARK] is True


def test_the_longest_detail_is_short() -> None:
    rows = [["\x00" * 10_000] * 100] * 100
    worst = {f"{number}" + "\x00" * 1_000: rows for number in range(100)}
    assert len(json.dumps(plain.detail(worst))) < 32 * 1024


def test_nothing_is_an_empty_object() -> None:
    assert plain.detail(None) == {}
