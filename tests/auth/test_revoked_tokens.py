"""Tokens that were good: simplejwt's blacklist, and a password that has changed since (CHECK_REVOKE_TOKEN)."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure.auth.jwt import BLACKLIST_APP, blacklisted, password_fingerprint
from tests.auth.bearer import assert_refused, identity
from tests.auth.tokens import MISSING, token_for

pytestmark = pytest.mark.django_db(transaction=True)


def blacklist(token: AccessToken) -> None:
    """What `BlacklistMixin.blacklist()` does for refresh tokens."""
    row = OutstandingToken.objects.create(
        jti=token["jti"], token=str(token), created_at=token.current_time, expires_at=token.current_time
    )
    BlacklistedToken.objects.create(token=row)


@pytest.fixture
def token(user: User) -> AccessToken:
    return AccessToken.for_user(user)


def test_a_blacklisted_access_token_is_refused(token: AccessToken) -> None:
    identity(str(token))
    blacklist(token)
    assert_refused(str(token), "token_blacklisted")


def test_without_its_app_there_is_no_blacklist_and_no_query(
    token: AccessToken, settings: Settings, queries: list[str]
) -> None:
    blacklist(token)
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != BLACKLIST_APP]
    assert blacklisted([token["jti"]]) == set()
    identity(str(token))
    assert not any("blacklist" in query for query in queries)


def test_many_tokens_are_looked_up_at_once(user: User, django_assert_num_queries: Any) -> None:
    tokens = [AccessToken.for_user(user) for _ in range(3)]
    blacklist(tokens[0])
    blacklist(tokens[2])
    with django_assert_num_queries(1):
        found = blacklisted([*(token["jti"] for token in tokens), "unknown"])
    assert found == {tokens[0]["jti"], tokens[2]["jti"]}


def test_a_token_from_before_the_password_changed_is_refused_where_simplejwt_checks_that(
    user: User, settings: Settings
) -> None:
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    token = str(AccessToken.for_user(user))
    assert identity(token).fingerprint == password_fingerprint(user)
    user.set_password("another one")
    user.save()
    assert_refused(token, "password_changed")
    assert identity(str(AccessToken.for_user(user))).fingerprint == password_fingerprint(user)


def test_a_token_that_says_nothing_of_the_password_is_refused_there(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    assert_refused(token_for(user), "password_changed")


def test_a_fingerprint_is_kept_only_where_it_is_checked_and_is_never_shown(user: User, settings: Settings) -> None:
    token = token_for(user, hash_password="fingerprint of a password")
    assert identity(token).fingerprint is None
    assert password_fingerprint(user) is None
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    found = identity(str(AccessToken.for_user(user)))
    assert found.fingerprint is not None
    assert found.fingerprint not in repr(found)


@pytest.mark.parametrize("iat", [MISSING, "soon", True, None, -5, float("nan"), [1]])
def test_a_token_that_does_not_say_when_it_was_issued_is_as_old_as_can_be(user: User, iat: object) -> None:
    token = token_for(user, iat=iat)
    if iat in (MISSING, True) or iat == -5:
        assert identity(token).issued_at == 0.0
    else:
        # PyJWT takes it for no token at all, or simplejwt does.
        assert_refused(token, "token_invalid")
