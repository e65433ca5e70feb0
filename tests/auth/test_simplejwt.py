"""Where simplejwt is not installed nothing of it is imported, and nobody comes with a token."""

import sys
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User

from channels_secure import admission
from channels_secure.auth import simplejwt

JWT = "channels_secure.auth.jwt.JWTAuthenticator"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(simplejwt, "find_spec", {}.get)
    # Importing it is an error from here on, as it is without simplejwt.
    monkeypatch.delattr("channels_secure.auth.jwt", raising=False)
    monkeypatch.setitem(sys.modules, "channels_secure.auth.jwt", None)
    simplejwt.is_installed.cache_clear()
    yield
    simplejwt.is_installed.cache_clear()


@pytest.mark.usefixtures("absent")
def test_without_it_no_token_is_read_and_none_is_blacklisted() -> None:
    assert simplejwt.identify_bearer("Bearer a.b.c") is None
    assert simplejwt.blacklisted(["jti"]) == set()
    assert simplejwt.password_fingerprint(User(password="x")) is None
    assert JWT not in admission.default_authenticators()


def test_with_it_tokens_are_accepted() -> None:
    assert simplejwt.is_installed()
    assert JWT in admission.default_authenticators()


def test_no_token_is_no_query() -> None:
    # pytest-django refuses any query of a test without the database.
    assert simplejwt.blacklisted(set()) == set()
