"""What tokens say, and whom they name: every wrong one is refused alike, whatever is wrong with it."""

import logging
import math
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.utils import DatabaseError
from pytest_django import Settings
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, SlidingToken, UntypedToken

from channels_secure.auth.jwt import BLACKLIST_APP
from channels_secure.policy.decisions import Reason
from tests.auth.bearer import assert_refused, authenticator, bearer, denial, identity
from tests.auth.handshakes import answer_of
from tests.auth.tokens import MISSING, claims_of, private_pem, public_pem, sign, token_for
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db(transaction=True)

INVALID, EXPIRED = Reason.INVALID_CREDENTIALS, Reason.CREDENTIALS_EXPIRED


# Good tokens ---------------------------------------------------------------------------------------------------------


def test_an_access_token_names_its_user_its_end_and_its_id(user: User) -> None:
    token = AccessToken.for_user(user)
    found = identity(str(token))
    assert (found.user, found.kind, found.ambient, found.session_key) == (user, "jwt", False, None)
    assert (found.expires_at, found.jti) == (float(token["exp"]), token["jti"])
    assert (found.token_expires_at, found.session_expires_at) == (found.expires_at, None)
    assert (found.issued_at, found.fingerprint) == (float(token["iat"]), None)


@pytest.mark.parametrize("with_blacklist", [False, True])
def test_it_costs_one_query_and_one_where_there_is_a_blacklist(
    user: User, queries: list[str], settings: Settings, with_blacklist: bool
) -> None:
    if not with_blacklist:
        settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != BLACKLIST_APP]
    identity(token_for(user))
    assert len(queries) == 1 + with_blacklist


@pytest.mark.parametrize("as_type", [int, str])
def test_the_user_id_may_be_a_number_or_its_text(user: User, as_type: Callable[[object], object]) -> None:
    assert identity(token_for(user, user_id=as_type(user.pk))).user == user


def test_a_fractional_time_is_understood(user: User) -> None:
    end = math.floor(time.time()) + 300.5
    assert identity(token_for(user, exp=end)).expires_at == end


def test_an_rsa_signature_is_accepted_where_it_is_configured(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"ALGORITHM": "RS256", "SIGNING_KEY": private_pem(), "VERIFYING_KEY": public_pem()}
    assert identity(sign(claims_of(user), private_pem(), "RS256")).user == user


def test_the_signing_key_of_the_settings_counts(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"SIGNING_KEY": "k" * 64}
    assert identity(sign(claims_of(user), "k" * 64)).user == user
    assert_refused(token_for(user), "token_invalid")


def test_a_token_of_8_kb_is_accepted_and_a_longer_one_is_not(user: User) -> None:
    tokens = {len(token): token for count in range(5700, 6000) if (token := token_for(user, pad="x" * count))}
    longest, too_long = max(size for size in tokens if size <= 8192), min(size for size in tokens if size > 8192)
    assert too_long - longest <= 2
    assert identity(tokens[longest]).user == user
    assert_refused(tokens[too_long], "token_too_large")


# Types ---------------------------------------------------------------------------------------------------------------


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
def test_the_leeway_counts_and_the_socket_ends_with_it(user: User, settings: Settings, leeway: object) -> None:
    settings.SIMPLE_JWT = {"LEEWAY": leeway}
    end = ago(30)
    assert identity(token_for(user, exp=end)).expires_at == float(end) + 60
    assert identity(token_for(user, nbf=ago(-30), iat=ago(-30))).user == user
    assert_refused(token_for(user, exp=ago(90)), "token_expired", EXPIRED)
    assert_refused(token_for(user, nbf=ago(-90)), "token_invalid")


# Users ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spell", ["abc", " {}", "{} ", "+{}", "0{}", "{}.0", "' OR {}={} --", "{:99d}"])
def test_no_other_spelling_of_a_user_id_names_the_user(user: User, spell: str) -> None:
    assert denial(token_for(user, user_id=spell.format(user.pk, user.pk))).reason is INVALID


def test_digits_of_other_scripts_and_grouped_digits_name_nobody(make_user: MakeUser) -> None:
    make_user("first", pk=1)
    make_user("tenth", pk=10)
    for user_id in ("\u0661", "\uff11", "1_0", "9" * 30, 0, 2**63 - 1):
        assert denial(token_for(user_id=user_id)).reason is INVALID


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


def test_audience_and_issuer_are_honoured(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUDIENCE": ["chat", "mobile"], "ISSUER": "https://login.example.com"}
    assert identity(token_for(user, aud="chat", iss="https://login.example.com")).user == user
    assert identity(token_for(user, aud=["mail", "mobile"], iss="https://login.example.com")).user == user


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
