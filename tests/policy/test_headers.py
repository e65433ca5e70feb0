"""Raw headers: grouping, caps, cookies, subprotocols, and text made safe to show."""

from typing import Any

import pytest
from django.http.cookie import parse_cookie
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.policy.headers import (
    MAX_COOKIE_BYTES,
    MAX_COOKIE_ESCAPES,
    MAX_COOKIES,
    MAX_CREDENTIAL_LENGTH,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_SUBPROTOCOLS,
    read_cookies,
    read_headers,
    read_single,
    read_subprotocols,
    visible,
)
from tests.policy.timing import best_seconds

PADDING = (b"x-padding", b"x" * (MAX_HEADER_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("/ws/chat/lobby/", "/ws/chat/lobby/"),
        ("/ws/größe/", "/ws/größe/"),
        ("a\x00b", "a\\x00b"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x7f\x85\xa0", "\\x7f\\x85\\xa0"),
        ("\u202egnp", "\\u202egnp"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 253 + "..."),
        ("x" * 1_000_000, "x" * 253 + "..."),
    ],
)
def test_text_is_made_safe_to_show(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_a_header_is_shown_in_ascii() -> None:
    assert visible("größe\x00€\ud800", ascii_only=True) == "gr\\xf6\\xdfe\\x00\\u20ac\\ud800"


@given(st.text(), st.booleans())
def test_shown_text_is_one_short_printable_line(text: str, ascii_only: bool) -> None:
    shown = visible(text, ascii_only=ascii_only)
    assert shown.isprintable()
    assert len(shown) <= 256
    assert shown.isascii() or not ascii_only
    assert shown.encode().decode() == shown


def test_headers_are_grouped_by_name_in_order() -> None:
    flaws: list[str] = []
    raw = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"")]
    assert read_headers(raw, flaws) == {b"a": [b"1", b"3", b""], b"b": [b"2"]}
    assert flaws == []


@pytest.mark.parametrize(
    "raw",
    [
        None, 5, "headers", b"headers", [None], [5], [(b"a",)], [(b"a", b"b", b"c")], [("a", "b")], [(b"a", "b")],
        [(b"a", None)], [(b"a", 5)], [([], b"")], [(bytearray(b"a"), b"b")], ["ab"], {"a": "b"},
        [(b"a", b"b")] * (MAX_HEADERS + 1), [PADDING], [(b"x" * (MAX_HEADER_BYTES + 1), b"")],
        [(b"a", b"x" * 600)] * 128,
    ],
    ids=range(20),
)  # fmt: skip
def test_headers_that_cannot_be_read_are_a_flaw(raw: Any) -> None:
    flaws: list[str] = []
    assert read_headers(raw, flaws) == {}
    assert len(flaws) == 1


def test_credentials_and_origins_of_any_length_are_left_to_their_readers() -> None:
    flaws: list[str] = []
    raw = [(name, b"x" * 1_000_000) for name in (b"authorization", b"origin", b"sec-websocket-protocol")]
    assert set(read_headers(raw, flaws)) == {name for name, _ in raw}
    assert flaws == []


@pytest.mark.parametrize("name", [b"x_forwarded_for", b"x-forwarded_for", b"user_agent", b"my_header", b"_"])
def test_an_underscore_makes_another_name(name: bytes) -> None:
    flaws: list[str] = []
    raw = [(name, b"1.2.3.4"), (b"x-forwarded-for", b"5.6.7.8")]
    assert read_headers(raw, flaws) == {name: [b"1.2.3.4"], b"x-forwarded-for": [b"5.6.7.8"]}
    assert flaws == []


@pytest.mark.parametrize("byte", [*range(0x20), 0x7F])
def test_a_control_byte_makes_a_header_nothing(byte: int) -> None:
    flaws: list[str] = []
    assert read_single({b"host": [b"a" + bytes([byte]) + b"b"]}, b"host", 100, flaws) is None
    assert flaws == ["control bytes in host"]
    assert read_cookies([b"a=1; b=" + bytes([byte])], flaws) == {}
    assert flaws[1:] == ["control bytes in cookie"]


def test_a_header_that_must_be_single_is_nothing_when_it_is_repeated() -> None:
    flaws: list[str] = []
    assert read_single({b"host": [b"a", b"a"]}, b"host", 100, flaws) is None
    assert read_single({}, b"host", 100, flaws) is None
    assert flaws == ["more than one host"]


COOKIES = [
    "", ";", "; ;", "a=1", "a=1; b=2", "a=1;b=2;a=3", "a", "=a", "a=", "=", "a=b=c", ' a = "1" ', 'a="x;y"',
    'a="\\"q\\""', 'a="\\101\\012"', 'a="\\400"', 'a="\\\\"', 'a="', 'a=""', 'a="\\', 'a="\\"', "a=1,b=2", "é=ü",
    "\xa0a\xa0=\x85",
    "a=" + '"' + "\\\\" * 50 + '"',
]  # fmt: skip


@pytest.mark.parametrize("header", COOKIES)
def test_cookies_are_read_as_django_reads_them(header: str) -> None:
    flaws: list[str] = []
    assert read_cookies([header.encode("latin-1")], flaws) == parse_cookie(header)
    assert flaws == []


latin_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))
cookie_text = st.text('ab01=;, "\\é', max_size=40)


@given(st.lists(latin_text | cookie_text, max_size=4))
def test_the_cookies_of_all_lines_are_read_together_as_django_reads_one(lines: list[str]) -> None:
    flaws: list[str] = []
    assert read_cookies([line.encode("latin-1") for line in lines], flaws) == parse_cookie("; ".join(lines))
    assert flaws == []


@pytest.mark.parametrize(
    "values",
    [
        [b"a=" + b"x" * MAX_COOKIE_BYTES],
        [b";" * MAX_COOKIES],
        [b"a=1"] * (MAX_COOKIES + 1),
        [b"x" * MAX_COOKIE_BYTES] * 2,
        [b"\\" * (MAX_COOKIE_ESCAPES + 1)],
    ],
    ids=range(5),
)
def test_too_many_cookies_are_a_flaw(values: list[bytes]) -> None:
    flaws: list[str] = []
    assert read_cookies(values, flaws) == {}
    assert flaws == ["too many cookies"]


def test_as_many_cookies_as_a_browser_keeps_are_read() -> None:
    flaws: list[str] = []
    header = "; ".join(f"name{number}={'x' * 100}" for number in range(180))
    assert read_cookies([header.encode()], flaws) == parse_cookie(header)
    assert flaws == []


def test_quoting_costs_little() -> None:
    # http.cookies is quadratic in these before Python 3.11.10 (CVE-2024-7592).
    header = b'a="' + b"\\" * MAX_COOKIE_ESCAPES + b"x" * (MAX_COOKIE_BYTES - MAX_COOKIE_ESCAPES - 4) + b'"'
    assert len(read_cookies([header], [])["a"]) == MAX_COOKIE_BYTES - MAX_COOKIE_ESCAPES // 2 - 4
    assert best_seconds(lambda: read_cookies([header], [])) < 0.01


@pytest.mark.parametrize("raw", [[], (), ["v1"], ["v1", "channels-secure.bearer.a-b_c.d"], ["!#$%&'*+.^_`|~-09AZaz"]])
def test_subprotocols_are_read_in_order(raw: Any) -> None:
    flaws: list[str] = []
    assert read_subprotocols(raw, flaws) == tuple(raw)
    assert flaws == []


def test_a_long_subprotocol_is_cut_and_left_to_its_authenticator() -> None:
    flaws: list[str] = []
    assert read_subprotocols(["x" * 1_000_000], flaws) == ("x" * MAX_CREDENTIAL_LENGTH,)
    assert flaws == []


@pytest.mark.parametrize(
    "raw",
    [
        "v1", b"v1", {"v1": 1}, 5, [b"v1"], [None], [""], ["v1", ""], ["v1", "v1"], ["v 1"], ["v1,v2"], ["v1\n"], ["é"],
        ["\ud800"], ["a/b"], ['"v1"'], ["v(1)"], [f"v{number}" for number in range(MAX_SUBPROTOCOLS + 1)],
        [f"v{number}" for number in range(1000)], [f"{number}" * 20_000 for number in range(5)],
    ],
    ids=range(20),
)  # fmt: skip
def test_other_subprotocols_are_a_flaw(raw: Any) -> None:
    flaws: list[str] = []
    assert read_subprotocols(raw, flaws) == ()
    assert len(flaws) == 1
