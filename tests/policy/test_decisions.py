"""The one table of refusals, held against the contract's."""

import json

import pytest

from channels_secure.policy.decisions import DEFAULT_RETRY_AFTER, RULES, Denial, FieldError, Reason

each_reason = pytest.mark.parametrize("reason", list(Reason), ids=str)

# What clients outside this repository rely on: close code, HTTP status, reconnect.
PROMISED = {
    "wss_required": (4403, 403, "no"),
    "origin_not_allowed": (4403, 403, "no"),
    "origin_missing": (4403, 403, "no"),
    "origin_malformed": (4403, 403, "no"),
    "blocked": (4423, 403, "no"),
    "unauthenticated": (4401, 401, "no"),
    "invalid_credentials": (4401, 401, "no"),
    "ambiguous_credentials": (4401, 400, "no"),
    "credentials_expired": (4419, 401, "yes"),
    "credentials_revoked": (4401, None, "no"),
    "session_ended": (4401, None, "yes"),
    "permission_denied": (4403, 403, "no"),
    "not_found": (4404, 404, "no"),
    "bad_request": (4400, 400, "no"),
    "unavailable": (4503, 503, "later"),
    "connection_limit": (4409, 429, "later"),
    "connection_replaced": (4409, None, "no"),
    "rate_limited": (4429, 429, "later"),
    "too_many_errors": (4400, None, "no"),
    "invalid_message": (4400, None, "no"),
    "unknown_type": (4400, None, "no"),
    "unsupported_data": (4415, None, "no"),
    "message_too_big": (4413, None, "no"),
    "heartbeat_timeout": (4408, 503, "yes"),
    "idle_timeout": (4408, 503, "yes"),
    "handshake_timeout": (4408, 503, "yes"),
    "slow_consumer": (4504, None, "yes"),
    "disconnected": (4440, None, "no"),
    "internal_error": (4500, 500, "yes"),
    "handler_timeout": (4500, 500, "yes"),
    "server_restart": (4505, None, "yes"),
}


def test_the_table_is_the_promised_one() -> None:
    assert {reason.value: (rule.close, rule.status, rule.reconnect) for reason, rule in RULES.items()} == PROMISED


def test_every_reason_has_a_rule_and_every_rule_a_reason() -> None:
    assert set(RULES) == set(Reason)


@each_reason
def test_every_close_code_can_be_sent_by_every_server(reason: Reason) -> None:
    """RFC 6455 section 7.4.2 leaves 4000-4999 to applications; Daphne raises on most others."""
    assert 4000 <= RULES[reason].close <= 4999
    # A close reason has 123 bytes.
    assert len(reason.value.encode()) <= 123


@each_reason
@pytest.mark.parametrize("fatal", [True, False])
def test_every_frame_has_code_message_and_fatal_and_says_whether_to_come_back(reason: Reason, fatal: bool) -> None:
    frame = Denial(reason=reason).frame(fatal=fatal)
    assert frame["type"] == "error"
    assert frame["code"] == reason.value
    assert frame["fatal"] is fatal
    assert frame["message"].endswith(".")
    assert ("reconnect" in frame) is fatal
    assert json.loads(json.dumps(frame)) == frame
    assert set(frame) <= {"type", "code", "message", "fatal", "reconnect", "retry_after"}


@each_reason
def test_only_those_who_may_come_later_are_told_when(reason: Reason) -> None:
    frame = Denial(reason=reason).frame(fatal=True)
    assert ("retry_after" in frame) is (PROMISED[reason.value][2] == "later")
    assert frame["reconnect"] is (PROMISED[reason.value][2] != "no")
    assert frame.get("retry_after", DEFAULT_RETRY_AFTER) == DEFAULT_RETRY_AFTER


def test_a_wait_is_told_in_milliseconds_and_is_never_none_at_all() -> None:
    assert Denial(reason=Reason.RATE_LIMITED, retry_after=3.20049).frame(fatal=False)["retry_after"] == 3.2
    assert Denial(reason=Reason.RATE_LIMITED, retry_after=0.0).frame(fatal=False)["retry_after"] == 0.001


def test_a_block_that_expires_can_be_waited_out_and_no_other() -> None:
    for_ever = Denial(reason=Reason.BLOCKED).frame(fatal=True)
    assert for_ever["reconnect"] is False
    assert "retry_after" not in for_ever
    for_an_hour = Denial(reason=Reason.BLOCKED, retry_after=3600.0).frame(fatal=True)
    assert for_an_hour["reconnect"] is True
    assert for_an_hour["retry_after"] == 3600


def test_a_frame_carries_what_was_wrong_and_the_id_it_answers() -> None:
    denial = Denial(reason=Reason.INVALID_MESSAGE, errors=(FieldError("text", "Required"), FieldError("", "Unknown")))
    frame = denial.frame(ref=0, fatal=False)
    assert frame["errors"] == [{"path": "text", "message": "Required"}, {"path": "", "message": "Unknown"}]
    assert frame["ref"] == 0
    assert Denial(reason=Reason.INVALID_MESSAGE).frame(ref="", fatal=False)["ref"] == ""


def test_the_detail_for_the_audit_trail_is_not_told() -> None:
    denial = Denial(reason=Reason.INVALID_CREDENTIALS, detail="signature of user 7")
    assert "user 7" not in json.dumps(denial.frame(ref=1, fatal=True))


def test_an_application_may_say_it_in_its_own_words() -> None:
    assert Denial(reason=Reason.PERMISSION_DENIED, message="Not in this room.").frame(fatal=False)["message"] == (
        "Not in this room."
    )


def test_refusals_that_end_a_socket_are_never_the_answer_to_one_message() -> None:
    """An answer says that the socket stays open; what is told only to open sockets that end must not be one."""
    for reason in (Reason.BLOCKED, Reason.MESSAGE_TOO_BIG, Reason.UNSUPPORTED_DATA, Reason.TOO_MANY_ERRORS):
        assert not RULES[reason].answerable
    for reason in (Reason.INVALID_MESSAGE, Reason.UNKNOWN_TYPE, Reason.RATE_LIMITED, Reason.PERMISSION_DENIED):
        assert RULES[reason].answerable
