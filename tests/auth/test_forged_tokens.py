"""Tokens that are refused before anyone looks for their user; none of these tests may touch the database."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from rest_framework_simplejwt.tokens import RefreshToken, SlidingToken

from channels_secure import database
from channels_secure.policy.decisions import Denial, Reason
from tests.auth.bearer import assert_refused, authenticator, denial
from tests.auth.handshakes import answer_of, denial_of, shake
from tests.auth.tokens import MISSING, claims_of, part, private_pem, public_pem, sign, sign_raw, token_for


def encoded(**changes: Any) -> bytes:
    return json.dumps(claims_of(**changes)).encode()


def assert_claims_refused(token: str) -> None:
    """Refused for what it says; a look into the database, which these tests block, would be another detail."""
    answer = denial(token)
    assert answer.reason is Reason.INVALID_CREDENTIALS
    assert answer.detail.startswith(("token_invalid", "claims_invalid", "token_expired"))
    assert "RuntimeError" not in answer.detail


def test_a_token_that_is_not_refused_before_shows_in_the_detail_here() -> None:
    assert_refused(token_for(), "claims_invalid: RuntimeError")


# Signatures and headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "NonE", "NONE", "", None, 5, ["HS256"]])
def test_a_token_without_a_signature_is_refused(algorithm: object) -> None:
    unsigned = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims_of())}"
    assert_refused(f"{unsigned}.", "token_malformed")
    assert_refused(f"{unsigned}.{part(b'x')}", "token_invalid")


def test_another_algorithm_with_the_right_key_is_refused(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"SIGNING_KEY": "k" * 64}
    for algorithm in ("HS384", "HS512"):
        assert_refused(sign(claims_of(), "k" * 64, algorithm), "token_invalid")


def test_another_key_is_refused() -> None:
    assert_refused(sign(claims_of(), "another key, long enough for HMAC-SHA-256"), "token_invalid")


@pytest.fixture
def rs256(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"ALGORITHM": "RS256", "SIGNING_KEY": private_pem(), "VERIFYING_KEY": public_pem()}


def test_an_hmac_with_the_public_rsa_key_is_refused(rs256: None) -> None:
    for key in (public_pem(), public_pem().strip(), public_pem().encode()):
        assert_refused(sign_raw(encoded(), key), "token_invalid")


def test_an_hmac_that_claims_to_be_rsa_is_refused(rs256: None) -> None:
    assert_refused(sign_raw(encoded(), public_pem(), {"alg": "RS256"}), "token_invalid")


def test_an_rsa_signature_is_refused_where_hmac_is_configured() -> None:
    assert_refused(sign(claims_of(), private_pem(), "RS256"), "token_invalid")


@pytest.mark.parametrize("critical", [["exp"], ["unknown"], [], "exp", [5], {}])
def test_a_critical_header_that_nobody_knows_is_refused(critical: object) -> None:
    header = {"alg": "HS256", "crit": critical, "exp": 1, "unknown": True}
    assert_refused(sign_raw(encoded(), header=header), "token_invalid")


@pytest.mark.parametrize(
    "header", [{"alg": "HS256", "kid": 5}, {"alg": "HS256", "kid": ["a"]}, ["HS256"], "HS256", {"typ": "JWT"}, 1e308]
)
def test_odd_headers_are_refused(header: object) -> None:
    assert_refused(sign_raw(encoded(), header=header), "token_invalid")


def test_a_changed_claim_breaks_the_signature() -> None:
    head, _, signature = token_for().split(".")
    assert_refused(f"{head}.{part(claims_of(user_id='2'))}.{signature}", "token_invalid")


# Types ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RefreshToken, SlidingToken])
def test_tokens_of_another_type_are_refused(kind: Any) -> None:
    token = kind()
    token["user_id"] = "1"
    assert_refused(str(token), "token_type")


@pytest.mark.parametrize(
    "token_type", ["refresh", "Access", "access ", "", None, 1, ["access"], {"access": 1}, MISSING]
)
def test_a_wrong_type_claim_is_refused(token_type: object) -> None:
    assert_refused(token_for(token_type=token_type), "token_type")


# Claims --------------------------------------------------------------------------------------------------------------


def test_missing_claims_are_refused() -> None:
    assert_refused(token_for(exp=MISSING), "token_invalid")
    assert_refused(token_for(jti=MISSING), "token_id_missing")
    assert_refused(token_for(user_id=MISSING), "claims_invalid: user id")


def test_wrong_audiences_and_issuers_are_refused(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUDIENCE": ["chat", "mobile"], "ISSUER": "https://login.example.com"}
    right: dict[str, Any] = {"aud": "chat", "iss": "https://login.example.com"}
    for aud in ("mail", ["mail"], [], 5, [5], None, MISSING):
        assert_refused(token_for(**{**right, "aud": aud}), "token_invalid")
    for iss in ("https://login.example.com.evil.test", "", 5, ["https://login.example.com"], None, MISSING):
        assert_refused(sign_raw(encoded(**{**right, "iss": iss})), "token_invalid")


@pytest.mark.parametrize(
    "end", [1e308, -1e308, 10**30, 10**400, True, "abc", "", "9999999999", [1], {}, None, 253402300800, 1e18]
)
def test_a_time_that_is_none_is_refused(end: object) -> None:
    assert_claims_refused(sign_raw(encoded(exp=end)))


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_time_that_is_no_number_is_refused(literal: str) -> None:
    assert_claims_refused(sign_raw(encoded(exp="END").replace(b'"END"', literal.encode())))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
@pytest.mark.parametrize("value", [1e308, "abc", [1], {}, None, 10**400])
def test_other_odd_times_are_refused(claim: str, value: object) -> None:
    assert_claims_refused(sign_raw(encoded(**{claim: value})))


ODD_USER_IDS = [
    True, False, 1.0, 1.5, [1], {}, {"pk": 1}, "", "1\0", "1\n", "\ud800", 2**63, 2**70, -1, -(2**70), "9" * 5000, None,
    "x" * 256,
]  # fmt: skip


@pytest.mark.parametrize("user_id", ODD_USER_IDS, ids=lambda value: repr(value)[:20])
def test_an_odd_user_id_is_not_looked_for(user_id: object) -> None:
    assert_refused(token_for(user_id=user_id), "claims_invalid: user id")


@pytest.mark.parametrize("jti", [True, 5, "", None, ["a"], {}, "a\0b", "x" * 256, "\ud800"])
def test_an_odd_token_id_is_refused(jti: object) -> None:
    assert_claims_refused(token_for(jti=jti))


@pytest.mark.parametrize("payload", [b" ", b"[]", b'"x"', b"5", b"null", b"\xff\xfe", b"{", b"{}", b"\0", b"[" * 5000])
def test_a_payload_that_is_no_claim_set_is_refused(payload: bytes) -> None:
    assert_claims_refused(sign_raw(payload))


def test_a_payload_too_deep_for_some_parsers_is_refused_like_others() -> None:
    # Python's own parser raises RecursionError at this depth before 3.13 and reads it since.
    assert_claims_refused(sign_raw(encoded(exp="abc")[:-1] + b',"deep":' + b"[" * 2700 + b"]" * 2700 + b"}"))


# Shape ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def idle() -> Iterator[None]:
    """Nothing is handed to the threads that verify."""
    database.shutdown()
    yield
    assert not database.is_running()


@pytest.mark.parametrize("size", [9_000, 100_000, 1_000_000, 5_000_000])
def test_a_token_over_8_kb_is_refused_before_anything_is_verified(idle: None, size: int) -> None:
    head, _, signature = token_for().split(".")
    assert_refused(f"{head}.{'A' * size}.{signature}", "token_too_large")


def test_a_payload_200_000_deep_is_refused_before_anything_is_verified(idle: None) -> None:
    assert_refused(sign_raw(b"[" * 200_000), "token_too_large")


SPOILT = [
    "{0}=", "{0}==", "{0}.", ".{0}", "{0}.x", "{0}\u00e9", "{0}\0", "{0}\t", "{0} {0}", "{0}\n", "{0},", "{0}\u2028",
    "\u00a0{0}", "abc", "a.b", "..", "a..c", "", "{0}+", "{0}/", '"{0}"', "'{0}'", "Bearer {0}",
]  # fmt: skip


@pytest.mark.parametrize("form", SPOILT)
def test_what_is_not_three_parts_of_base64url_is_refused_before_anything_is_verified(idle: None, form: str) -> None:
    # Put in place by hand: control bytes do not get past `Handshake.from_scope`.
    handshake = replace(shake(), authorization="Bearer " + form.format(token_for()))
    answer = denial_of(authenticator, handshake)
    assert (answer.reason, answer.detail) == (Reason.INVALID_CREDENTIALS, "token_malformed (header)")


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True))
@hypothesis_settings(max_examples=200)
def test_no_text_raises_or_lets_anyone_in(text: str) -> None:
    answer = answer_of(authenticator, replace(shake(), authorization=f"Bearer {text}"))
    assert isinstance(answer, Denial)
    assert "RuntimeError" not in answer.detail
