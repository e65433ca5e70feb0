"""What tokens say: every wrong one is refused alike, whatever is wrong with it, and none raises."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.utils import DatabaseError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, SlidingToken, UntypedToken

from channels_secure.auth.base import Identity
from channels_secure.auth.jwt import JWTAuthenticator
from channels_secure.policy.decisions import Denial, Reason
from tests.auth.handshakes import answer_of, denial_of, identity_of, shake
from tests.auth.tokens import MISSING, claims_of, part, private_pem, public_pem, sign, sign_raw, token_for
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db(transaction=True)

authenticator = JWTAuthenticator()
INVALID, EXPIRED = Reason.INVALID_CREDENTIALS, Reason.CREDENTIALS_EXPIRED


def bearer(token: str) -> Any:
    return shake(authorization=f"Bearer {token}")


def identity(token: str) -> Identity:
    return identity_of(authenticator, bearer(token))


def denial(token: str) -> Denial:
    return denial_of(authenticator, bearer(token))


def assert_refused(token: str, detail: str, reason: Reason = INVALID) -> None:
    answer = denial(token)
    assert (answer.reason, answer.detail, answer.ambient) == (reason, f"{detail} (header)", False)


# Good tokens ---------------------------------------------------------------------------------------------------------


def test_an_access_token_names_its_user_its_end_and_its_id(user: User) -> None:
    token = AccessToken.for_user(user)
    found = identity(str(token))
    assert (found.user, found.kind, found.ambient, found.session_key) == (user, "jwt", False, None)
    assert (found.expires_at, found.jti) == (float(token["exp"]), token["jti"])


def test_it_costs_one_query(user: User, queries: list[str]) -> None:
    identity(token_for(user))
    assert len(queries) == 1


@pytest.mark.parametrize("as_type", [int, str])
def test_the_user_id_may_be_a_number_or_its_text(user: User, as_type: Callable[[object], object]) -> None:
    assert identity(token_for(user, user_id=as_type(user.pk))).user == user


def test_a_fractional_time_is_understood(user: User) -> None:
    end = math.floor(time.time()) + 300.5
    assert identity(token_for(user, exp=end)).expires_at == end


# Signatures and headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "NonE", "NONE", "", None, 5, ["HS256"]])
def test_a_token_without_a_signature_is_refused(user: User, algorithm: object) -> None:
    unsigned = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims_of(user))}"
    assert_refused(f"{unsigned}.", "token_malformed")
    assert_refused(f"{unsigned}.{part(b'x')}", "token_invalid")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_with_the_right_key_is_refused(user: User, algorithm: str) -> None:
    assert_refused(sign(claims_of(user), "k" * 64, algorithm), "token_invalid")


def test_the_right_key_under_another_algorithm_is_refused(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"SIGNING_KEY": "k" * 64}
    assert identity(sign(claims_of(user), "k" * 64)).user == user
    assert_refused(sign(claims_of(user), "k" * 64, "HS512"), "token_invalid")


def test_another_key_is_refused(user: User) -> None:
    assert_refused(sign(claims_of(user), "another key, long enough for HMAC-SHA-256"), "token_invalid")


@pytest.fixture
def rs256(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"ALGORITHM": "RS256", "SIGNING_KEY": private_pem(), "VERIFYING_KEY": public_pem()}


def test_an_rsa_signature_is_accepted_where_it_is_configured(rs256: None, user: User) -> None:
    assert identity(sign(claims_of(user), private_pem(), "RS256")).user == user


def test_an_hmac_with_the_public_rsa_key_is_refused(rs256: None, user: User) -> None:
    payload = json.dumps(claims_of(user)).encode()
    for key in (public_pem(), public_pem().strip(), public_pem().encode()):
        assert_refused(sign_raw(payload, key), "token_invalid")


def test_an_hmac_that_claims_to_be_rsa_is_refused(rs256: None, user: User) -> None:
    payload = json.dumps(claims_of(user)).encode()
    assert_refused(sign_raw(payload, public_pem(), {"alg": "RS256"}), "token_invalid")


def test_an_rsa_signature_is_refused_where_hmac_is_configured(user: User) -> None:
    assert_refused(sign(claims_of(user), private_pem(), "RS256"), "token_invalid")


@pytest.mark.parametrize("critical", [["exp"], ["unknown"], [], "exp", [5], {}])
def test_a_critical_header_that_nobody_knows_is_refused(user: User, critical: object) -> None:
    payload = json.dumps(claims_of(user)).encode()
    header = {"alg": "HS256", "crit": critical, "exp": 1, "unknown": True}
    assert_refused(sign_raw(payload, header=header), "token_invalid")


@pytest.mark.parametrize(
    "header", [{"alg": "HS256", "kid": 5}, {"alg": "HS256", "kid": ["a"]}, ["HS256"], "HS256", {"typ": "JWT"}, 1e308]
)
def test_odd_headers_are_refused(user: User, header: object) -> None:
    assert_refused(sign_raw(json.dumps(claims_of(user)).encode(), header=header), "token_invalid")


def test_a_changed_claim_breaks_the_signature(user: User) -> None:
    head, _, signature = token_for(user).split(".")
    assert_refused(f"{head}.{part(claims_of(user, user_id='1'))}.{signature}", "token_invalid")


# Types ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RefreshToken, SlidingToken])
def test_tokens_of_another_type_are_refused(user: User, kind: Any) -> None:
    assert_refused(str(kind.for_user(user)), "token_type")


@pytest.mark.parametrize(
    "token_type", ["refresh", "Access", "access ", "", None, 1, ["access"], {"access": 1}, MISSING]
)
def test_a_wrong_type_claim_is_refused(user: User, token_type: object) -> None:
    assert_refused(token_for(user, token_type=token_type), "token_type")


def test_sliding_and_untyped_tokens_are_refused_even_where_rest_views_take_them(user: User, settings: Settings) -> None:
    names = ("AccessToken", "SlidingToken", "UntypedToken", "RefreshToken")
    settings.SIMPLE_JWT = {"AUTH_TOKEN_CLASSES": [f"rest_framework_simplejwt.tokens.{name}" for name in names]}
    for kind in (SlidingToken, UntypedToken, RefreshToken):
        assert_refused(str(kind.for_user(user)), "token_type")
    assert identity(token_for(user)).user == user


def test_without_a_class_of_access_tokens_everything_is_refused(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUTH_TOKEN_CLASSES": ["rest_framework_simplejwt.tokens.SlidingToken"]}
    assert_refused(token_for(user), "token_type")


class Withdrawn(AccessToken):
    """A project's own class that refuses more than simplejwt does."""

    def verify(self) -> None:
        super().verify()
        if self.payload.get("withdrawn"):
            raise TokenError("Token is blacklisted")


def test_a_token_class_of_the_project_has_its_say(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUTH_TOKEN_CLASSES": [f"{__name__}.Withdrawn"]}
    assert identity(token_for(user)).user == user
    assert_refused(token_for(user, withdrawn=True), "token_blacklisted")


# Time ----------------------------------------------------------------------------------------------------------------


def ago(seconds: float) -> int:
    return int(time.time() - seconds)


def test_a_token_whose_time_alone_is_over_has_expired(user: User) -> None:
    assert_refused(token_for(user, exp=ago(10)), "token_expired", EXPIRED)


def test_an_expired_token_that_is_wrong_in_another_way_is_invalid(user: User, make_user: MakeUser) -> None:
    sleeper = make_user("sleeper", is_active=False)
    over = ago(10)
    assert_refused(sign(claims_of(user, exp=over), "another key, long enough for HMAC-SHA-256"), "token_invalid")
    assert_refused(token_for(user, exp=over, token_type="refresh"), "token_type")
    assert_refused(token_for(user, exp=over, jti=MISSING), "token_id_missing")
    assert_refused(token_for(user, exp=over, user_id=True), "claims_invalid: user id")
    assert_refused(token_for(user, exp=over, nbf=ago(-60)), "token_invalid")
    assert_refused(token_for(user, exp=over, iat=ago(-60)), "token_invalid")
    assert_refused(token_for(sleeper, exp=over), "user_inactive")
    assert_refused(token_for(user, exp=over, user_id="999999"), "user_not_found")


def test_an_expired_token_for_someone_else_is_invalid(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUDIENCE": "chat", "ISSUER": "login"}
    right = {"aud": "chat", "iss": "login", "exp": ago(10)}
    assert_refused(token_for(user, **right), "token_expired", EXPIRED)
    assert_refused(token_for(user, **{**right, "aud": "mail"}), "token_invalid")
    assert_refused(token_for(user, **{**right, "iss": "other"}), "token_invalid")


def test_a_token_that_ended_long_before_the_epoch_is_invalid(user: User) -> None:
    for end in (0, -1, -(10**12)):
        assert denial(token_for(user, exp=end)).reason is INVALID


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_of_the_future_is_invalid(user: User, claim: str) -> None:
    assert_refused(token_for(user, **{claim: ago(-60)}), "token_invalid")


@pytest.mark.parametrize("leeway", [60, 60.0, timedelta(seconds=60)])
def test_the_leeway_counts_and_does_not_move_the_end(user: User, settings: Settings, leeway: object) -> None:
    settings.SIMPLE_JWT = {"LEEWAY": leeway}
    end = ago(30)
    assert identity(token_for(user, exp=end)).expires_at == float(end)
    assert identity(token_for(user, nbf=ago(-30), iat=ago(-30))).user == user
    assert_refused(token_for(user, exp=ago(90)), "token_expired", EXPIRED)
    assert_refused(token_for(user, nbf=ago(-90)), "token_invalid")


# Claims --------------------------------------------------------------------------------------------------------------


def test_missing_claims_are_refused(user: User) -> None:
    assert_refused(token_for(user, exp=MISSING), "token_invalid")
    assert_refused(token_for(user, jti=MISSING), "token_id_missing")
    assert_refused(token_for(user, token_type=MISSING), "token_type")
    assert_refused(token_for(user, user_id=MISSING), "claims_invalid: user id")


def test_audience_and_issuer_are_honoured(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUDIENCE": ["chat", "mobile"], "ISSUER": "https://login.example.com"}
    right = {"aud": "chat", "iss": "https://login.example.com"}
    assert identity(token_for(user, **right)).user == user
    for aud in ("mail", ["mail"], [], 5, [5], None, MISSING):
        assert_refused(token_for(user, **{**right, "aud": aud}), "token_invalid")
    for iss in ("https://login.example.com.evil.test", "", 5, ["https://login.example.com"], None, MISSING):
        assert_refused(sign_raw(json.dumps(claims_of(user, **{**right, "iss": iss})).encode()), "token_invalid")


@pytest.mark.parametrize(
    "end", [1e308, -1e308, 10**30, 10**400, True, "abc", "", "9999999999", [1], {}, None, 253402300800, 1e18]
)
def test_a_time_that_is_none_is_refused(user: User, end: object) -> None:
    assert denial(sign_raw(json.dumps(claims_of(user, exp=end)).encode())).reason is INVALID


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_time_that_is_no_number_is_refused(user: User, literal: str) -> None:
    payload = json.dumps(claims_of(user, exp="END")).replace('"END"', literal)
    assert denial(sign_raw(payload.encode())).reason is INVALID


@pytest.mark.parametrize("claim", ["nbf", "iat"])
@pytest.mark.parametrize("value", [1e308, "abc", [1], {}, None, 10**400])
def test_other_odd_times_are_refused(user: User, claim: str, value: object) -> None:
    assert denial(sign_raw(json.dumps(claims_of(user, **{claim: value})).encode())).reason is INVALID


ODD_USER_IDS = [
    True, False, 1.0, 1.5, [1], {}, {"pk": 1}, "", " ", "1\0", "abc", 2**63, 2**70, -1, -(2**70), "9" * 30, "9" * 5000,
    None, " 1", "1 ", "+1", "01", "1_0", "\u0661", "\ud800", "1\n", "x" * 256, "' OR 1=1 --",
]  # fmt: skip


@pytest.mark.parametrize("user_id", ODD_USER_IDS, ids=lambda value: repr(value)[:20])
def test_an_odd_user_id_is_refused_and_is_never_user_1(make_user: MakeUser, user_id: object) -> None:
    make_user("first", pk=1)
    make_user("tenth", pk=10)
    assert denial(token_for(make_user("alice"), user_id=user_id)).reason is INVALID


@pytest.mark.parametrize("jti", [True, 5, "", None, ["a"], {}, "a\0b", "x" * 256, "\ud800"])
def test_an_odd_token_id_is_refused(user: User, jti: object) -> None:
    assert denial(token_for(user, jti=jti)).reason is INVALID


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'"x"', b"5", b"null", b"\xff\xfe", b"{", b'{"a":1}', b"\0", b"[" * 5000]
)
def test_a_payload_that_is_no_claim_set_is_refused(payload: bytes) -> None:
    assert denial(sign_raw(payload or b" ")).reason is INVALID


def test_a_deep_payload_is_refused(user: User) -> None:
    body = json.dumps(claims_of(user))[:-1].encode()
    nested = body + b',"deep":' + b"[" * 2700 + b"]" * 2700 + b"}"
    assert denial(sign_raw(nested)).reason is INVALID


# Shape ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [9_000, 100_000, 1_000_000, 5_000_000])
def test_a_token_over_8_kb_is_refused_before_anything_is_verified(user: User, queries: list[str], size: int) -> None:
    head, _, signature = token_for(user).split(".")
    assert_refused(f"{head}.{'A' * size}.{signature}", "token_too_large")
    assert queries == []


def test_a_payload_200_000_deep_is_refused_before_anything_is_verified(user: User) -> None:
    assert_refused(sign_raw(b"[" * 200_000), "token_too_large")


def test_a_valid_token_of_8_kb_is_accepted_and_a_longer_one_is_not(user: User) -> None:
    tokens = {len(token): token for count in range(5700, 6000) if (token := token_for(user, pad="x" * count))}
    longest, too_long = max(size for size in tokens if size <= 8192), min(size for size in tokens if size > 8192)
    assert too_long - longest <= 2
    assert identity(tokens[longest]).user == user
    assert_refused(tokens[too_long], "token_too_large")


SPOILT = [
    "{0}=", "{0}==", "{0}.", ".{0}", "{0}.x", "{0}\u00e9", "{0}\0", "{0}\t", "{0} {0}", "{0}\n", "{0},", "{0}\u2028",
    "\u00a0{0}", "abc", "a.b", "..", "a..c", "", "{0}+", "{0}/", '"{0}"', "'{0}'", "Bearer {0}",
]  # fmt: skip


@pytest.mark.parametrize("form", SPOILT)
def test_what_is_not_three_parts_of_base64url_is_refused_before_anything_is_verified(
    user: User, queries: list[str], form: str
) -> None:
    # Put in place by hand: control bytes do not get past `Handshake.from_scope`.
    handshake = replace(shake(), authorization="Bearer " + form.format(token_for(user)))
    answer = denial_of(authenticator, handshake)
    assert (answer.reason, answer.detail) == (INVALID, "token_malformed (header)")
    assert queries == []


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True))
@hypothesis_settings(max_examples=200)
def test_no_text_raises_or_lets_anyone_in(text: str) -> None:
    answer = answer_of(authenticator, replace(shake(), authorization=f"Bearer {text}"))
    assert isinstance(answer, Denial)


# Users ---------------------------------------------------------------------------------------------------------------


def test_unknown_inactive_and_deleted_users_get_the_same_answer_for_the_same_work(
    make_user: MakeUser, queries: list[str]
) -> None:
    inactive, deleted = make_user("inactive", is_active=False), make_user("deleted")
    tokens = [token_for(inactive), token_for(deleted), token_for(inactive, user_id="999999")]
    deleted.delete()
    frames, work = [], []
    for token in tokens:
        queries.clear()
        answer = denial(token)
        assert answer.reason is INVALID
        frames.append(answer.frame(fatal=True))
        work.append(list(queries))
    assert frames[0] == frames[1] == frames[2]
    assert work[0] == work[1] == work[2]


def test_an_inactive_user_is_refused_even_where_simplejwt_does_not_mind(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"CHECK_USER_IS_ACTIVE": False}
    assert identity(token_for(user)).user == user
    User.objects.update(is_active=False)
    assert_refused(token_for(user), "user_inactive")


def test_a_changed_password_ends_tokens_where_simplejwt_is_told_to_look(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    token = str(AccessToken.for_user(user))
    assert identity(token).user == user
    user.set_password("battery staple")
    user.save()
    assert_refused(token, "password_changed")
    assert_refused(token_for(user), "password_changed")


def test_another_claim_and_another_field_name_the_user(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"USER_ID_FIELD": "username", "USER_ID_CLAIM": "sub"}
    assert identity(token_for(user, user_id=MISSING, sub="alice")).user == user
    assert_refused(token_for(user, user_id=MISSING, sub="bob"), "user_not_found")
    assert_refused(token_for(user), "claims_invalid: user id")


def test_other_claims_for_type_and_id_are_honoured(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"JTI_CLAIM": "tid", "TOKEN_TYPE_CLAIM": "kind"}
    assert identity(token_for(user, tid="t1", kind="access")).jti == "t1"
    assert_refused(token_for(user), "token_id_missing")
    settings.SIMPLE_JWT = {"JTI_CLAIM": None}
    assert identity(token_for(user, jti=MISSING)).jti is None


def test_settings_are_as_before_once_an_override_has_ended(user: User) -> None:
    assert identity(token_for(user)).jti is not None


def test_a_database_that_fails_is_no_wrong_credential(user: User) -> None:
    token = token_for(user)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE auth_user RENAME TO auth_user_away")
        try:
            with pytest.raises(DatabaseError):
                answer_of(authenticator, bearer(token))
        finally:
            cursor.execute("ALTER TABLE auth_user_away RENAME TO auth_user")
    assert identity(token).user == user


# Secrets -------------------------------------------------------------------------------------------------------------


def test_no_token_is_in_a_log_or_a_representation(user: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = [
        token_for(user),
        token_for(user, exp=ago(10)),
        token_for(user, exp=1e308),
        token_for(user, user_id=[1]),
        str(RefreshToken.for_user(user)),
        sign(claims_of(user), "another key, long enough for HMAC-SHA-256"),
    ]
    shown = [repr(bearer(token)) + repr(answer_of(authenticator, bearer(token))) for token in tokens]
    told = "".join(shown) + caplog.text + repr([vars(record) for record in caplog.records])
    for token in tokens:
        for secret in (token, token.split(".")[1], token.split(".")[2]):
            assert secret not in told
