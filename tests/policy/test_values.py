"""Frames for consumers that declare no types: every well-formed JSON value, and nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels_secure.policy.decisions import FieldError, Reason
from channels_secure.policy.messages import RefreshToken, Refused
from channels_secure.policy.values import VALUE, ValueDecoder
from tests.policy.documents import nested, oracle, values

decode = ValueDecoder(max_depth=8, controls=False, raw=False).decode
decode_raw = ValueDecoder(max_depth=8, controls=False, raw=True).decode
decode_with_controls = ValueDecoder(max_depth=8, controls=True, raw=False).decode


def why_refused(answer: Any) -> str:
    assert isinstance(answer, Refused)
    assert answer.denial.reason is Reason.INVALID_MESSAGE
    return answer.denial.errors[0].message


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "", "text: with {a} [colon]", [], {}, [1, [2]], {"a": {"b": [None]}}, {"type": 5}, {"": ":"}],
)
def test_every_json_value_is_a_message(value: Any) -> None:
    assert decode(json.dumps(value)) == (VALUE, None, value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "Not valid JSON"),
        (" ", "Not valid JSON"),
        ("{", "Not valid JSON"),
        ("{} {}", "Not valid JSON"),
        ("\ufeff{}", "Not valid JSON"),
        ('"\ud800"', "Not valid JSON"),
        ('"\\ud800"', "Not valid JSON"),
        ("NaN", "Not valid JSON"),
        ("[Infinity]", "Not valid JSON"),
        ("1e999", "Not valid JSON"),
        (nested(100_000), "Nested too deeply"),
        (nested(9), "Nested too deeply"),
        (nested(9, '{"a":', "}"), "Nested too deeply"),
        ('{"a":1,"a":1}', "Duplicate key"),
        ('{"a":1,"\\u0061":1}', "Duplicate key"),
        ('[{"a":[{"b":1,"b":1}]}]', "Duplicate key"),
        ('{"a":"\\u0000"}', "Contains a NUL character"),
        ('["\\u0000"]', "Contains a NUL character"),
        ('{"\\u0000":1}', "Contains a NUL character"),
        ("9007199254740992", "Number out of range"),
        ('{"a":-9007199254740992}', "Number out of range"),
        ('{"a":[' + "1" * 30 + "]}", "Number out of range"),
    ],
)
def test_what_is_not_well_formed_is_refused_with_the_reason(text: str, what: str) -> None:
    assert why_refused(decode(text)) == what
    assert why_refused(decode_raw(text)) == what


@given(values, st.integers(1, 6))
@example('{"a:b":1,"a":{}}', 1)
@example('{"":1,"a:":9007199254740993}', 6)
def test_a_value_is_taken_exactly_where_an_oracle_finds_no_flaw(text: str, max_depth: int) -> None:
    answer = ValueDecoder(max_depth=max_depth, controls=False, raw=False).decode(text)
    if oracle(text, max_depth):
        assert isinstance(answer, Refused)
    else:
        assert answer == (VALUE, None, json.loads(text))


@given(st.text() | values)
def test_any_text_is_answered(text: str) -> None:
    for decoder in (decode, decode_raw, decode_with_controls):
        answer = decoder(text)
        assert isinstance(answer, Refused) or len(answer) == 3


def test_a_consumer_that_decodes_itself_gets_the_checked_text() -> None:
    assert decode_raw(' {"a": 1.50}') == (VALUE, None, ' {"a": 1.50}')


def test_ping_and_pong_are_the_packages_frames_only_where_the_class_says_so() -> None:
    for kind in ("ping", "pong"):
        text = json.dumps({"type": kind, "id": 7, "more": True})
        assert decode(text) == (VALUE, None, {"type": kind, "id": 7, "more": True})
        answer = decode_with_controls(text)
        assert not isinstance(answer, Refused)
        assert answer[:2] == (kind, 7)
    assert decode_with_controls('{"type":"ping"}') == ("ping", None, {"type": "ping"})
    assert decode_with_controls('["ping"]') == (VALUE, None, ["ping"])
    assert decode_with_controls('{"type":["ping"]}') == (VALUE, None, {"type": ["ping"]})


def test_a_refresh_is_the_packages_frame_only_where_the_class_says_so() -> None:
    text = '{"type":"refresh_token","token":"a.b.c","id":7}'
    assert decode(text) == (VALUE, None, json.loads(text))
    assert decode_with_controls(text) == ("refresh_token", 7, RefreshToken("a.b.c", 7))


@pytest.mark.parametrize(("token", "words"), [("", "Required"), (',"token":5', "Expected `str`")])
def test_a_refresh_without_a_token_is_refused(token: str, words: str) -> None:
    answer = decode_with_controls(f'{{"type":"refresh_token","id":7{token}}}')
    assert isinstance(answer, Refused)
    assert (answer.denial.errors, answer.ref) == ((FieldError("token", words),), 7)


@pytest.mark.parametrize("bad", [True, 1.5, [], "x" * 65, 2**53])
def test_a_ping_with_an_odd_id_is_refused(bad: Any) -> None:
    answer = decode_with_controls(msgspec.json.encode({"type": "ping", "id": bad}).decode())
    assert isinstance(answer, Refused)
    assert answer.ref is None


def test_the_type_of_a_value_is_none_that_a_class_could_declare() -> None:
    assert VALUE == ""
