"""Sessions: who they name, what is wrong with them, and that a handshake leaves every one of them as it was."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from channels_secure import database
from channels_secure.auth.session import SessionAuthenticator, open_session
from channels_secure.policy.decisions import Reason
from tests.auth.handshakes import answer_of, denial_of, identity_of, shake

pytestmark = pytest.mark.django_db(transaction=True)

ENGINES = ("db", "cached_db", "cache", "file", "signed_cookies")
authenticator = SessionAuthenticator()


@pytest.fixture(params=ENGINES)
def engine(
    request: pytest.FixtureRequest, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Run the test with each of Django's session engines."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    # The engine keeps the setting on the class.
    monkeypatch.setattr(FileStore, "_storage_path", str(tmp_path), raising=False)
    yield request.param
    cache.clear()


def store(key: str | None = None) -> Any:
    """The session store of the moment."""
    from django.conf import settings

    return import_module(settings.SESSION_ENGINE).SessionStore(key)


def log_in(user: User, backend: str | None = None) -> str:
    """Log in as a browser would; the value of its session cookie."""
    client = Client()
    client.force_login(user, backend=backend)
    return client.cookies["sessionid"].value


def keep(**data: Any) -> str:
    """Save a session with this content; its key."""
    session = store()
    session.update(data)
    session.save()
    return str(session.session_key)


def change(key: str, **data: Any) -> None:
    session = store(key)
    session.update(data)
    session.save()


def rows() -> list[Any]:
    return list(Session.objects.order_by("pk").values_list())


def with_cookie(key: str) -> Any:
    return shake(cookies={"sessionid": key})


# Who is let in -------------------------------------------------------------------------------------------------------


def test_the_session_of_a_logged_in_user_names_the_user(engine: str, user: User) -> None:
    key = log_in(user)
    identity = identity_of(authenticator, with_cookie(key))
    assert (identity.user, identity.kind, identity.ambient, identity.jti) == (user, "session", True, None)
    assert identity.session_key == key
    assert identity.session["_auth_user_id"] == str(user.pk)


def test_a_handshake_costs_the_two_queries_that_django_needs(user: User, queries: list[str]) -> None:
    key = log_in(user)
    identity_of(authenticator, with_cookie(key))
    assert len(queries) == 2
    assert all(sql.startswith("SELECT") for sql in queries)


def test_another_cookie_name_is_honoured(user: User, settings: Settings) -> None:
    settings.SESSION_COOKIE_NAME = "__Host-session"
    client = Client()
    client.force_login(user)
    key = client.cookies["__Host-session"].value
    assert identity_of(authenticator, shake(cookies={"__Host-session": key})).user == user
    assert answer_of(authenticator, with_cookie(key)) is None


def test_a_session_of_a_rotated_secret_key_stays_valid_and_as_it_was(user: User, settings: Settings) -> None:
    key = log_in(user)
    before = rows()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the next key, long enough to be a key of this project"
    assert identity_of(authenticator, with_cookie(key)).user == user
    assert rows() == before


def test_the_loaded_session_can_be_saved_by_the_application(engine: str, user: User) -> None:
    session = identity_of(authenticator, with_cookie(log_in(user))).session
    session["last_room"] = "lobby"
    session.save()
    assert store(session.session_key)["last_room"] == "lobby"


def test_a_handshake_does_not_mark_the_session_as_modified(engine: str, user: User) -> None:
    assert identity_of(authenticator, with_cookie(log_in(user))).session.modified is False


# When it ends --------------------------------------------------------------------------------------------------------


def test_the_identity_ends_when_the_row_says(user: User) -> None:
    key = log_in(user)
    ends = timezone.now().replace(microsecond=0) + timedelta(hours=3)
    Session.objects.filter(pk=key).update(expire_date=ends)
    assert identity_of(authenticator, with_cookie(key)).expires_at == ends.timestamp()


def test_the_row_is_understood_without_time_zones_too(user: User, settings: Settings) -> None:
    settings.USE_TZ = False
    key = log_in(user)
    ends = datetime.now().replace(microsecond=0) + timedelta(hours=3)  # noqa: DTZ005 - what Django stores then
    Session.objects.filter(pk=key).update(expire_date=ends)
    assert identity_of(authenticator, with_cookie(key)).expires_at == ends.timestamp()


def test_an_expiry_that_the_application_set_is_honoured(engine: str, user: User) -> None:
    client = Client()
    client.force_login(user)
    session = client.session
    ends = timezone.now().replace(microsecond=0) + timedelta(minutes=7)
    session.set_expiry(ends)
    session.save()
    expires_at = identity_of(authenticator, with_cookie(str(session.session_key))).expires_at
    assert expires_at == ends.timestamp()


def test_a_session_that_ends_with_the_browser_ends_with_the_cookie_age(engine: str, user: User) -> None:
    client = Client()
    client.force_login(user)
    session = client.session
    session.set_expiry(0)
    session.save()
    before = timezone.now().timestamp()
    expires_at = identity_of(authenticator, with_cookie(str(session.session_key))).expires_at
    assert expires_at is not None
    assert -60 < expires_at - before - session.get_session_cookie_age() < 60


# Nobody --------------------------------------------------------------------------------------------------------------


def test_without_a_cookie_there_is_no_answer_and_no_query(queries: list[str]) -> None:
    assert answer_of(authenticator, shake()) is None
    assert answer_of(authenticator, shake(cookies={"other": "x"})) is None
    assert queries == []


def test_an_emptied_cookie_counts_as_none(queries: list[str]) -> None:
    assert answer_of(authenticator, with_cookie("")) is None
    assert queries == []


def test_a_session_that_nobody_logged_into_is_nobody(engine: str) -> None:
    assert answer_of(authenticator, with_cookie(keep(cart=[1, 2]))) is None


def test_nobody_gets_a_session_that_asks_the_store_on_first_use_only(engine: str, queries: list[str]) -> None:
    key = keep(cart=[1, 2])
    session = open_session(with_cookie(key))
    assert isinstance(session, SessionBase)
    assert not session.accessed
    assert session["cart"] == [1, 2]


@pytest.mark.parametrize("cookies", [{}, {"sessionid": ""}, {"sessionid": "short"}, {"sessionid": "../../etc/passwd"}])
def test_without_a_usable_cookie_the_session_is_empty(cookies: dict[str, str]) -> None:
    session = open_session(shake(cookies=cookies))
    assert session.session_key is None
    assert session.is_empty()


# Refusals ------------------------------------------------------------------------------------------------------------


def assert_refused(key: str, detail: str) -> None:
    denial = denial_of(authenticator, with_cookie(key))
    assert (denial.reason, denial.detail, denial.ambient) == (Reason.INVALID_CREDENTIALS, detail, True)


def test_an_unknown_session_is_refused(engine: str) -> None:
    assert_refused("abcdefghijklmnopqrstuvwxyz012345", "session_unknown")


def test_a_deleted_session_is_refused(user: User) -> None:
    key = log_in(user)
    store(key).delete()
    assert_refused(key, "session_unknown")


def test_an_expired_session_is_refused_and_not_deleted(user: User) -> None:
    key = log_in(user)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    before = rows()
    assert_refused(key, "session_unknown")
    assert rows() == before


@pytest.mark.parametrize("engine", ["file"], indirect=True)
def test_an_expired_file_is_refused_and_neither_deleted_nor_replaced(engine: str, user: User, tmp_path: Path) -> None:
    client = Client()
    client.force_login(user)
    session = client.session
    session.set_expiry(timezone.now() - timedelta(seconds=1))
    session.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert_refused(str(session.session_key), "session_unknown")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("engine", ["signed_cookies"], indirect=True)
def test_a_signed_cookie_does_not_outlive_the_expiry_that_it_holds(engine: str, user: User) -> None:
    client = Client()
    client.force_login(user)
    session = client.session
    session.set_expiry(datetime(2020, 1, 1, tzinfo=UTC))
    session.save()
    assert_refused(str(session.session_key), "session_expired")


@pytest.mark.parametrize("engine", ["signed_cookies"], indirect=True)
def test_a_forged_signed_cookie_is_refused(engine: str, user: User) -> None:
    key = log_in(user)
    assert_refused(key[:-1] + ("A" if key[-1] != "A" else "B"), "session_unknown")


def test_a_changed_password_ends_the_session(engine: str, user: User) -> None:
    key = log_in(user)
    user.set_password("battery staple")
    user.save()
    before = rows()
    assert_refused(key, "session_hash")
    assert rows() == before


def test_a_session_of_a_forgotten_secret_key_is_refused(user: User, settings: Settings) -> None:
    key = log_in(user)
    change(key, _auth_user_hash="0" * 64)
    assert_refused(key, "session_hash")


def test_a_session_without_a_hash_is_refused(user: User) -> None:
    key = log_in(user)
    change(key, _auth_user_hash="")
    assert_refused(key, "session_hash")


def test_an_inactive_user_is_refused(user: User) -> None:
    key = log_in(user)
    user.is_active = False
    user.save()
    assert_refused(key, "user_unknown")


def test_an_inactive_user_is_refused_where_the_backend_lets_everyone_in(user: User, settings: Settings) -> None:
    backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    settings.AUTHENTICATION_BACKENDS = [backend]
    user.is_active = False
    user.save()
    assert_refused(log_in(user, backend), "user_inactive")


def test_a_deleted_user_is_refused(user: User) -> None:
    key = log_in(user)
    user.delete()
    assert_refused(key, "user_unknown")


def test_a_backend_that_was_taken_out_is_refused(user: User, settings: Settings) -> None:
    key = log_in(user, "django.contrib.auth.backends.ModelBackend")
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
    assert_refused(key, "session_backend")


def test_a_session_without_a_backend_is_refused(user: User) -> None:
    assert_refused(keep(_auth_user_id=str(user.pk), _auth_user_hash="x"), "session_backend")


def test_a_user_id_of_another_user_model_is_refused() -> None:
    backend = "django.contrib.auth.backends.ModelBackend"
    key = keep(_auth_user_id="b1946ac9-2492-4d23-8a2a-2f2b1f9d0e11", _auth_user_backend=backend, _auth_user_hash="x")
    assert_refused(key, "user_unknown")


@pytest.mark.parametrize(
    "key",
    ["short", "../../etc/passwd", "a" * 41, "a" * 5000, "' OR 1=1 --", "ключключ", "abc%00defgh", "{}", "a.b.c.d.e.f"],
)
def test_a_malformed_key_is_refused_before_any_query(key: str, queries: list[str]) -> None:
    assert_refused(key, "session_key_malformed")
    assert queries == []


@pytest.mark.parametrize("engine", ["signed_cookies"], indirect=True)
@pytest.mark.parametrize("key", ["a" * 4097, "short", "with space inside"])
def test_a_malformed_signed_cookie_is_refused_before_it_is_unsigned(engine: str, key: str) -> None:
    assert_refused(key, "session_key_malformed")


def test_every_wrong_session_gets_the_same_answer_on_the_wire(user: User) -> None:
    wrong: list[Callable[[str], object]] = [
        lambda key: store(key).delete(),
        lambda key: change(key, _auth_user_hash="0" * 64),
        lambda key: User.objects.update(is_active=False),
        lambda key: User.objects.all().delete(),
    ]
    frames = []
    for spoil in wrong:
        key = log_in(user)
        spoil(key)
        frames.append(denial_of(authenticator, with_cookie(key)).frame(fatal=True))
    assert all(frame == frames[0] for frame in frames)


# Secrets -------------------------------------------------------------------------------------------------------------


def test_the_key_is_in_no_representation(user: User) -> None:
    key = log_in(user)
    handshake = with_cookie(key)
    identity = identity_of(authenticator, handshake)
    store(key).delete()
    denial = denial_of(authenticator, handshake)
    assert key not in repr(handshake) + repr(identity) + repr(denial)


def test_a_database_that_is_away_is_no_wrong_credential(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError, connections

    key = log_in(user)

    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused")

    # The connections of the package's threads are made anew for each job.
    database.shutdown()
    monkeypatch.setattr(type(connections["default"]), "get_new_connection", refuse)
    with pytest.raises(OperationalError):
        answer_of(authenticator, with_cookie(key))
