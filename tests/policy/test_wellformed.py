"""What JSON parsers disagree about is found, whatever it is wrapped in."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels_secure.policy import wellformed
from channels_secure.policy.wellformed import (
    BAD_NUMBER,
    DUPLICATE,
    MAX_INTEGER,
    NOT_JSON,
    NUL,
    TOO_DEEP,
    find_flaw,
    is_suspicious,
)
from tests.policy.documents import nested, oracle, values
from tests.policy.timing import best_seconds

MEANS = {DUPLICATE: "duplicate", TOO_DEEP: "depth", NUL: "nul", BAD_NUMBER: "number"}


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ('{"a":1,"a":2}', DUPLICATE),
        ('{"a":1,"\\u0061":2}', DUPLICATE),
        ('{"x":{"a":1,"b":2,"a":3}}', DUPLICATE),
        ('[{"":1,"":2}]', DUPLICATE),
        ('"a\\u0000b"', NUL),
        ('{"\\u0000":1}', NUL),
        ('[[["\\u0000"]]]', NUL),
        ("9007199254740992", BAD_NUMBER),
        ("-9007199254740992", BAD_NUMBER),
        ("1" * 5000, BAD_NUMBER),
        ("-" + "1" * 5000, BAD_NUMBER),
        ("1e999", BAD_NUMBER),
        ("-1e999", BAD_NUMBER),
        ("1" * 400 + ".0", BAD_NUMBER),
        ("NaN", BAD_NUMBER),
        ("[Infinity]", BAD_NUMBER),
        ('{"a":-Infinity}', BAD_NUMBER),
        (nested(9), TOO_DEEP),
        (nested(9, '{"a":', "}"), TOO_DEEP),
        (nested(100_000), TOO_DEEP),
        (nested(100_000, '{"a":', "}"), TOO_DEEP),
        ("", NOT_JSON),
        ("{", NOT_JSON),
        ("{'a':1}", NOT_JSON),
        ('"a\x00b"', NOT_JSON),
        ('"a\nb"', NOT_JSON),
        ("[1,]", NOT_JSON),
        ("01", NOT_JSON),
        ("1 2", NOT_JSON),
        ("[" * 100_000, TOO_DEEP),
    ],
)
def test_a_flaw_is_found_and_named(text: str, flaw: str) -> None:
    assert find_flaw(text, 8) == flaw


@pytest.mark.parametrize(
    "text",
    [
        "null", "0", "-0", "-0.0", "1e308", "1e-999", "9007199254740991", "-9007199254740991", '""', "[]", "{}",
        nested(8),
        nested(8, '{"a":', "}", "[1]").replace("[1]", "1"), '{"a":{"a":{"a":1}}}', '[{"a":1},{"a":2}]',
        '{"a":1,"A":2,"a ":3}', '"\\\\u0000"', '{"a\\u0301":1,"\\u00e1":2}', '"\\u001f\\u007f"', '[":::","{{{[[["]',
    ],
)  # fmt: skip
def test_what_is_well_formed_has_no_flaw(text: str) -> None:
    assert find_flaw(text, 8) is None


@given(values, st.integers(1, 6))
@example('{"a":"\\u0000","\\u0061":1e999}', 1)
def test_a_flaw_is_found_exactly_where_an_oracle_finds_one(text: str, max_depth: int) -> None:
    flaws = oracle(text, max_depth)
    found = find_flaw(text, max_depth)
    assert found is None if not flaws else MEANS[found or ""] in flaws


@given(values, st.integers(1, 6))
def test_a_text_that_is_not_suspicious_breaks_neither_depth_nor_range(text: str, max_depth: int) -> None:
    """The cheap test may be wrong only towards suspicion: parsers that it is used with refuse `NaN` themselves."""
    if not is_suspicious(text, max_depth):
        assert not oracle(text.replace("NaN", "0").replace("-Infinity", "0"), max_depth) & {"depth", "number"}


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        assert find_flaw(text, 32) is not None
    else:
        assert find_flaw(text, 32) in {None, *MEANS}


def test_the_largest_integer_is_the_one_every_language_reads_alike() -> None:
    assert MAX_INTEGER == 2**53 - 1


@pytest.mark.parametrize("text", [nested(30_000), '{"a":' * 13_000, "1" * 65_536, "[" + "1," * 32_000 + "1]"])
def test_64_kilobytes_of_malice_cost_milliseconds(text: str) -> None:
    assert best_seconds(lambda: find_flaw(text, 32)) < 0.05


def test_every_flaw_has_its_words() -> None:
    words = {value for name, value in vars(wellformed).items() if name.isupper() and isinstance(value, str)}
    assert words == {*MEANS, NOT_JSON}
