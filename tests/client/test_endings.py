"""What a close code, an error frame or an HTTP answer means to a client."""

import json
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.client.endings import MAX_RETRY_AFTER, Again, Ending, of_close, of_frame, of_response
from channels_secure.policy.decisions import RULES, Denial, Reason

NOW = 1_700_000_000.0


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("wait", [None, 3.5])
def test_a_goodbye_is_obeyed_as_the_server_says_it(reason: Reason, wait: float | None) -> None:
    denial = Denial(reason=reason, retry_after=wait)
    ending = of_frame(denial.frame(fatal=True))
    assert ending is not None
    assert (ending.again is Again.YES) == denial.reconnect
    assert (ending.reason, ending.code, ending.retry_after) == (reason, denial.rule.close, denial.wait)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_goodbye_without_the_word_reconnect_means_what_the_table_says(reason: Reason) -> None:
    frame = Denial(reason=reason).frame(fatal=True)
    del frame["reconnect"]
    ending = of_frame(frame)
    assert ending is not None
    assert (ending.again is Again.YES) == (RULES[reason].reconnect != "no")


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"type": "error", "code": "blocked", "fatal": False},
        {"type": "error", "code": "blocked"},
        {"type": "error", "code": 4403, "fatal": True},
        {"type": "chat", "code": "blocked", "fatal": True},
        {"type": "error", "code": "blocked", "fatal": 1},
    ],
)
def test_other_frames_are_no_goodbye(frame: dict[str, Any]) -> None:
    assert of_frame(frame) is None


def test_a_reason_of_a_newer_server_is_obeyed_too() -> None:
    frame = {"type": "error", "code": "moon_phase", "message": "Wait.", "fatal": True, "reconnect": True}
    assert of_frame(frame) == Ending(again=Again.YES, reason="moon_phase", message="Wait.")
    del frame["reconnect"]
    assert of_frame(frame) == Ending(again=Again.NO, reason="moon_phase", message="Wait.")


@pytest.mark.parametrize("reason", list(Reason))
def test_a_close_reason_alone_means_what_the_table_says(reason: Reason) -> None:
    """uvicorn sends the slug, also where a project has other codes for it."""
    for code in (RULES[reason].close, 4999):
        assert (of_close(code, reason.value).again is Again.YES) == (RULES[reason].reconnect != "no")


@pytest.mark.parametrize(
    ("code", "again"),
    [
        (None, Again.YES),  # lost
        (1001, Again.YES),
        (1006, Again.YES),
        (1009, Again.YES),
        (1011, Again.YES),
        (1012, Again.YES),
        (1000, Again.NO),
        (1008, Again.NO),
        (3000, Again.NO),  # the application's own
        (4000, Again.NO),
        (4999, Again.NO),
        (4401, Again.NO),  # `session_ended` would be yes, `credentials_revoked` is no
        (4403, Again.NO),
        (4408, Again.YES),
        (4409, Again.NO),  # two clients that replace each other would do so for ever
        (4419, Again.YES),
        (4423, Again.NO),
        (4429, Again.YES),
        (4440, Again.NO),
        (4500, Again.YES),
        (4503, Again.YES),
        (4504, Again.YES),
        (4505, Again.YES),
    ],
)
def test_a_close_code_alone_is_read_with_care(code: int | None, again: Again) -> None:
    assert of_close(code).again is again


def test_only_a_server_that_goes_takes_everybody_along() -> None:
    shared = {code for code in range(1000, 5000) if of_close(code).shared}
    assert shared == {1001, 1012, 1013, 4505}
    assert of_close(4999, "server_restart").shared
    without_time = of_frame({"type": "error", "code": "server_restart", "fatal": True, "reconnect": True})
    with_time = of_frame(Denial(reason=Reason.SERVER_RESTART, retry_after=4.0).frame(fatal=True))
    assert (without_time and without_time.shared, with_time and with_time.shared) == (True, False)


def test_only_a_close_with_1000_and_no_reason_is_clean() -> None:
    assert [code for code in (None, *range(1000, 5000)) if of_close(code).is_clean] == [1000]


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (403, Again.DOUBTFUL),  # Daphne's, for everything
        (200, Again.DOUBTFUL),
        (101, Again.DOUBTFUL),
        (301, Again.NO),
        (307, Again.NO),
        (400, Again.NO),
        (401, Again.NO),
        (404, Again.NO),
        (408, Again.YES),
        (425, Again.YES),
        (429, Again.YES),
        (500, Again.YES),
        (502, Again.YES),
        (503, Again.YES),
        (504, Again.YES),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"code":"blocked"}'])
def test_a_status_without_a_word_of_ours(status: int, again: Again, body: bytes) -> None:
    assert of_response(status, {}, body, now=NOW) == Ending(again=again, status=status)


@pytest.mark.parametrize("reason", [reason for reason in Reason if RULES[reason].status])
def test_a_body_of_ours_counts_more_than_its_status(reason: Reason) -> None:
    denial = Denial(reason=reason)
    body = json.dumps(denial.frame(fatal=True)).encode()
    for status in (RULES[reason].status or 0, 403):
        ending = of_response(status, {}, body, now=NOW)
        assert (ending.status, ending.code, ending.reason) == (status, None, reason)
        assert (ending.again is Again.YES) == denial.reconnect


def test_the_body_says_when_more_exactly_than_the_header() -> None:
    body = json.dumps(Denial(reason=Reason.RATE_LIMITED, retry_after=1.25).frame(fatal=True)).encode()
    assert of_response(429, {"Retry-After": "2"}, body, now=NOW).retry_after == 1.25
    bare = json.dumps({"type": "error", "code": "rate_limited", "fatal": True, "reconnect": True}).encode()
    assert of_response(429, {"Retry-After": "2"}, bare, now=NOW).retry_after == 2.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("120", 120.0),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (formatdate(NOW - 30, usegmt=True), None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("٣", None),
        ("9" * 5000, MAX_RETRY_AFTER),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_retry_after_is_seconds_or_a_date(name: str, value: str, seconds: float | None) -> None:
    assert of_response(503, {name: value}, b"", now=NOW).retry_after == seconds


@pytest.mark.parametrize("odd", [-1, float("nan"), "5", True, None, [], {}])
def test_odd_times_are_none(odd: Any) -> None:
    ending = of_frame({"type": "error", "code": "rate_limited", "fatal": True, "retry_after": odd})
    assert ending is not None
    assert ending.retry_after is None


@pytest.mark.parametrize("odd", [float("inf"), 1e308, 10**400])
def test_no_server_keeps_anybody_away_for_ever(odd: float) -> None:
    ending = of_frame({"type": "error", "code": "rate_limited", "fatal": True, "retry_after": odd})
    assert ending is not None
    assert ending.retry_after == MAX_RETRY_AFTER


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FRAMES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("error") | JSON,
        "code": st.sampled_from([reason.value for reason in Reason]) | JSON,
        "fatal": st.just(True) | JSON,
        "reconnect": JSON,
        "retry_after": JSON,
        "message": JSON,
    },
)


@given(
    status=st.integers(100, 599),
    headers=st.dictionaries(st.just("retry-after") | st.text(), st.text()),
    body=st.binary() | FRAMES.map(lambda frame: json.dumps(frame).encode()),
)
def test_nothing_that_a_server_answers_raises(status: int, headers: dict[str, str], body: bytes) -> None:
    ending = of_response(status, headers, body, now=NOW)
    assert ending.retry_after is None or 0 <= ending.retry_after <= MAX_RETRY_AFTER
    assert isinstance(str(ending), str)
