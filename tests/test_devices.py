"""The endpoints of a user's own sockets: who may see and end what."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure import audit, blocklist, database
from channels_secure.auth.base import digest_of
from channels_secure.connections import registry
from channels_secure.models import AuditEvent, LiveConnection, LiveProcess, Revocation
from channels_secure.supervisor import presence
from tests.conftest import MakeUser
from tests.sockets import Echo, connect, quiet, told  # noqa: F401
from tests.test_presence import listed

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/ws-auth/connections/"


@pytest.fixture
def client(user: User) -> Client:
    """A browser in which Alice has logged in, and which Django treats as it treats any."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    return browser


@pytest.fixture
def process() -> LiveProcess:
    return LiveProcess.objects.create(id="mine", host="web1", pid=1, lease_until=timezone.now() + timedelta(minutes=1))


def open_socket(process: LiveProcess, name: str, user: User | None, **fields: Any) -> None:
    facts: dict[str, Any] = {
        "ip": "192.0.2.1",
        "path": "/ws/",
        "user_agent": "Netscape 4",
        "credentials": "session",
        "opened_at": timezone.now(),
        **fields,
    }
    LiveConnection.objects.create(connection_id=name, process=process, user=user, **facts)


def csrf(browser: Client | AsyncClient) -> dict[str, str]:
    """The header that a page of ours adds."""
    token = "a" * 32
    browser.cookies[django_settings.CSRF_COOKIE_NAME] = token
    return {"X-CSRFToken": token}


def bearer(user: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {AccessToken.for_user(user)}"}


def ended() -> set[str]:
    """The connections whose end has been ordered."""
    return set(Revocation.objects.filter(kind="connection").values_list("subject", flat=True))


def test_the_urls_have_names() -> None:
    assert reverse("channels_secure:connections") == LIST
    assert reverse("channels_secure:connection", args=["abc"]) == f"{LIST}abc/"


# Listing -------------------------------------------------------------------------------------------------------------


def test_a_user_sees_their_own_open_sockets_and_no_others(
    client: Client, user: User, make_user: MakeUser, process: LiveProcess
) -> None:
    when = timezone.now().replace(microsecond=0)
    key = client.session.session_key or ""
    open_socket(process, "here", user, session=digest_of(key), opened_at=when, heard_at=when)
    open_socket(process, "there", user, session=digest_of("other"), opened_at=when - timedelta(hours=1))
    open_socket(process, "bobs", make_user("bob"))
    open_socket(process, "nobodys", None)
    dead = LiveProcess.objects.create(id="dead", host="web2", pid=1, lease_until=when - timedelta(minutes=1))
    open_socket(dead, "lost", user)
    response = client.get(LIST)
    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
    first, second = response.json()["connections"]
    assert first == {
        "id": "here",
        "address": "192.0.2.1",
        "user_agent": "Netscape 4",
        "path": "/ws/",
        "credentials": "session",
        "since": when.isoformat(),
        "last_heard": when.isoformat(),
        "current": True,
    }
    assert (second["id"], second["current"], second["last_heard"]) == ("there", False, None)


def test_a_token_lists_too_and_has_no_current_session(user: User, process: LiveProcess) -> None:
    open_socket(process, "one", user, session="")
    response = Client(enforce_csrf_checks=True).get(LIST, headers=bearer(user))
    assert [row["current"] for row in response.json()["connections"]] == [False]


@pytest.mark.parametrize("path", [LIST, f"{LIST}one/"])
@pytest.mark.parametrize("method", ["get", "delete"])
def test_a_stranger_is_refused(method: str, path: str, user: User, process: LiveProcess) -> None:
    open_socket(process, "one", user)
    response = getattr(Client(enforce_csrf_checks=True), method)(path)
    assert response.status_code == (405 if (method, path) == ("get", f"{LIST}one/") else 401)
    assert response["Cache-Control"] == "no-store"
    assert response.json()["fatal"] is True
    assert not ended()


@pytest.mark.parametrize("method", ["get", "delete"])
def test_a_wrong_token_is_refused_whatever_cookie_comes_with_it(
    method: str, client: Client, user: User, process: LiveProcess
) -> None:
    open_socket(process, "one", user)
    headers = {**csrf(client), "Authorization": f"Bearer {AccessToken.for_user(user)}x"}
    response = getattr(client, method)(LIST, headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "invalid_credentials")
    assert not ended()
    audit.flush_now()
    assert AuditEvent.objects.get(kind="credentials.failed").detail["at"] == "connections"


def test_a_blocked_user_is_refused(client: Client, user: User) -> None:
    blocklist.block(user=user)
    response = client.get(LIST)
    assert (response.status_code, response.json()["code"]) == (403, "blocked")


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [(LIST, "post", "GET, DELETE"), (f"{LIST}one/", "get", "DELETE"), (f"{LIST}one/", "post", "DELETE")],
)
def test_another_method_is_not_allowed(path: str, method: str, allowed: str, client: Client) -> None:
    response = getattr(client, method)(path, headers=csrf(client))
    assert (response.status_code, response["Allow"]) == (405, allowed)


# Ending --------------------------------------------------------------------------------------------------------------


def test_a_user_ends_one_of_their_own(client: Client, user: User, process: LiveProcess) -> None:
    open_socket(process, "one", user)
    open_socket(process, "two", user)
    response = client.delete(f"{LIST}one/", headers=csrf(client))
    assert (response.status_code, response.json()) == (202, {"ended": ["one"]})
    assert ended() == {"one"}
    event = AuditEvent.objects.get(kind="connection.disconnected")
    assert (event.actor, event.connection_id) == ("alice", "one")


@pytest.mark.parametrize("name", ["bobs", "nobodys", "none", "x" * 300])
def test_what_is_not_ones_own_is_not_found(
    name: str, client: Client, make_user: MakeUser, process: LiveProcess
) -> None:
    open_socket(process, "bobs", make_user("bob"))
    open_socket(process, "nobodys", None)
    response = client.delete(f"{LIST}{name}/", headers=csrf(client))
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert not ended()
    assert not AuditEvent.objects.filter(kind="connection.disconnected").exists()


def test_a_user_ends_all_others(client: Client, user: User, make_user: MakeUser, process: LiveProcess) -> None:
    key = client.session.session_key or ""
    open_socket(process, "here", user, session=digest_of(key))
    for name in ("phone", "work"):
        open_socket(process, name, user, session=digest_of(name))
    open_socket(process, "bobs", make_user("bob"))
    response = client.delete(LIST, headers=csrf(client))
    assert response.status_code == 202
    assert set(response.json()["ended"]) == ended() == {"phone", "work"}


def test_with_a_token_the_socket_that_stays_is_named(user: User, make_user: MakeUser, process: LiveProcess) -> None:
    for name in ("one", "two", "three"):
        open_socket(process, name, user)
    browser = Client(enforce_csrf_checks=True)
    assert set(browser.delete(f"{LIST}?keep=two", headers=bearer(user)).json()["ended"]) == {"one", "three"}
    assert browser.delete(f"{LIST}?keep=two", headers=bearer(make_user("bob"))).json() == {"ended": []}
    assert ended() == {"one", "three"}


@pytest.mark.parametrize("path", [LIST, f"{LIST}one/"])
def test_another_site_cannot_end_anything(path: str, client: Client, user: User, process: LiveProcess) -> None:
    open_socket(process, "one", user)
    response = client.delete(path)
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")
    forged = client.delete(path, headers={**csrf(client), "X-CSRFToken": "b" * 32})
    assert forged.status_code == 403
    assert not ended()


@pytest.mark.usefixtures("quiet")
async def test_real_sockets_are_listed_and_end(user: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 0.05, "AUDIT_FLUSH_INTERVAL": 0.05}
    monkeypatch.setattr(presence, "LOOK_INTERVAL", 0.0)
    browser = AsyncClient(enforce_csrf_checks=True)
    await database.run(browser.force_login, user)
    cookies = {django_settings.SESSION_COOKIE_NAME: browser.cookies[django_settings.SESSION_COOKIE_NAME].value}
    here, phone = connect(Echo, cookies=cookies), connect(Echo, user=user, client="203.0.113.9")
    for socket in (here, phone):
        assert (await socket.shake_hands()).accepted
    await listed()
    shown = (await browser.get(LIST)).json()["connections"]
    assert {row["address"]: row["current"] for row in shown} == {"192.0.2.1": True, "203.0.113.9": False}
    response = await browser.delete(LIST, headers=csrf(browser))
    assert response.status_code == 202
    assert await told(phone) == ("disconnected", 4440)
    assert [connection.user_key for connection in registry()] == [str(user.pk)]
    await here.disconnect()
