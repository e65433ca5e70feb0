"""The endpoint that gives out tickets: who gets one, who does not, and what each is told."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import AsyncClient, Client
from django.urls import reverse
from pytest_django import Settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from channels_secure import audit, views
from channels_secure.auth import shelves
from channels_secure.auth.base import Identity
from channels_secure.auth.tickets import TicketAuthenticator
from channels_secure.blocklist import block
from channels_secure.models import AuditEvent, Ticket
from channels_secure.revocation import revoke_token, revoke_user_tokens
from channels_secure.stores import get_store
from tests.auth.handshakes import answer_of, identity_of, shake
from tests.auth.tokens import token_for
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/ws-auth/ticket/"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refusals are written at the first request and not when the last test's was long enough ago."""
    monkeypatch.setattr(views, "_flushed_at", -1e9)
    yield
    audit.flush_now()


@pytest.fixture
def client(user: User) -> Client:
    """Alice's browser, which is asked for a CSRF token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def csrf(client: Client) -> dict[str, str]:
    client.cookies["csrftoken"] = token = "c" * 32
    return {"x-csrftoken": token}


def ask(client: Client, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
    return client.post(URL, headers={**csrf(client), **(headers or {})}, **options)


def ask_with(token: str, client: Client | None = None, **options: Any) -> Any:
    client = client or Client(enforce_csrf_checks=True)
    return client.post(URL, headers={"authorization": f"Bearer {token}"}, **options)


def redeemed(response: Any) -> Identity:
    assert response.status_code == 201, response.content
    return identity_of(TicketAuthenticator(), shake(query={"ticket": json.loads(response.content)["ticket"]}))


def assert_refused(response: Any, status: int, code: str) -> dict[str, Any]:
    """The error object of a refusal, for which no ticket was made."""
    error: dict[str, Any] = json.loads(response.content)
    assert (response.status_code, error["type"], error["code"], error["fatal"]) == (status, "error", code, True)
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert not Ticket.objects.exists()
    return error


def trail(**which: Any) -> list[AuditEvent]:
    audit.flush_now()
    return list(AuditEvent.objects.filter(**which))


# Who gets one --------------------------------------------------------------------------------------------------------


def test_the_endpoint_has_a_name() -> None:
    assert reverse("channels_secure:ticket") == URL


def test_a_session_with_a_csrf_token_gets_a_ticket(client: Client, user: User) -> None:
    response = ask(client)
    body = json.loads(response.content)
    assert (response.status_code, set(body), body["expires_in"]) == (201, {"ticket", "expires_in"}, 30)
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"] == "application/json"
    found = redeemed(response)
    assert (found.user, found.kind, found.session_key) == (user, "ticket", client.session.session_key)


def test_a_csrf_token_may_come_in_a_form(client: Client, user: User) -> None:
    token = csrf(client)["x-csrftoken"]
    response = client.post(URL, {"csrfmiddlewaretoken": token, "path": "/ws/"})
    assert redeemed(response).user == user


def test_an_access_token_gets_a_ticket_without_a_csrf_token(user: User) -> None:
    token = AccessToken.for_user(user)
    found = redeemed(ask_with(str(token)))
    assert (found.user, found.jti, found.session_key) == (user, token["jti"], None)
    assert (found.expires_at, found.issued_at) == (float(token["exp"]), float(token["iat"]))


def test_an_access_token_counts_beside_somebody_elses_session(client: Client, make_user: MakeUser) -> None:
    bob = make_user("bob")
    found = redeemed(ask_with(str(AccessToken.for_user(bob)), client))
    assert (found.user, found.session_key) == (bob, None)


def test_another_schemes_header_is_left_to_whoever_reads_it(client: Client, user: User) -> None:
    assert redeemed(ask(client, headers={"authorization": "Basic c3RhZ2luZzpzZWNyZXQ="})).user == user


def test_the_lifetime_is_told(client: Client, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TICKET_LIFETIME": 7.5}
    assert json.loads(ask(client).content)["expires_in"] == 7.5


async def test_an_asgi_server_answers_the_same() -> None:
    user = await User.objects.acreate_user("alice")
    client = AsyncClient(enforce_csrf_checks=True)
    response = await client.post(URL, headers={"authorization": f"Bearer {token_for(user)}"})
    assert response.status_code == 201
    ticket = json.loads(response.content)["ticket"]
    found = await TicketAuthenticator().authenticate(shake(query={"ticket": ticket}))
    assert isinstance(found, Identity)
    assert found.user == user


def test_it_works_with_atomic_requests(client: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection

    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert redeemed(ask(client)).user == user


# The body ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_a_path_binds_the_ticket(client: Client, content_type: str) -> None:
    response = ask(client, data='{"path": "/ws/other/"}', content_type=content_type)
    ticket = json.loads(response.content)["ticket"]
    answer = answer_of(TicketAuthenticator(), shake(query={"ticket": ticket}))
    assert getattr(answer, "detail", None) == "ticket_path"


@pytest.mark.parametrize("body", ["", " ", "{}", '{"path": null}'])
def test_the_path_may_be_left_out(client: Client, user: User, body: str) -> None:
    assert redeemed(ask(client, data=body, content_type="application/json")).user == user


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense", b"[]", b'"path"', b'{"path": 5}', b'{"path": ""}', b'{"path": "ws"}', b'{"path": "/ws/?a"}',
        b'{"pathh": "/ws/"}', b"\xff", b"{" * 10_000, b'{"path": "/' + b"x" * 20_000 + b'"}', b" " * 20_000,
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_a_bad_request(client: Client, body: bytes) -> None:
    error = assert_refused(ask(client, data=body, content_type="application/json"), 400, "bad_request")
    assert error["reconnect"] is False


def test_a_form_with_a_path_that_is_none_is_a_bad_request(client: Client) -> None:
    assert_refused(ask(client, data={"path": "elsewhere"}), 400, "bad_request")


# Who gets none -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_only_post_is_allowed(client: Client, method: str) -> None:
    response = getattr(client, method)(URL)
    assert (response.status_code, response["Allow"], response["Cache-Control"]) == (405, "POST", "no-store")
    assert "Access-Control-Allow-Origin" not in response


def test_somebody_anonymous_is_unauthenticated(user: User) -> None:
    response = ask(Client(enforce_csrf_checks=True))
    assert_refused(response, 401, "unauthenticated")
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_session_without_a_csrf_token_is_refused(client: Client) -> None:
    assert_refused(client.post(URL), 403, "permission_denied")
    assert_refused(client.post(URL, headers={"x-csrftoken": "wrong" * 8}), 403, "permission_denied")
    assert [event.detail["detail"][:5] for event in trail(kind="handshake.denied")] == ["csrf:", "csrf:"]


def test_another_websites_page_is_refused_in_spite_of_a_csrf_token(client: Client) -> None:
    assert_refused(ask(client, headers={"origin": "https://evil.example"}), 403, "permission_denied")


def test_no_other_website_may_read_the_answer(client: Client) -> None:
    response = ask(client, headers={"origin": "http://testserver"})
    assert response.status_code == 201
    assert "Access-Control-Allow-Origin" not in response


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer a.b.c", "bearer nonsense", "Bearer a b", "Bearer " + "x" * 10_000]
)
def test_a_wrong_bearer_is_refused_in_spite_of_a_good_session(client: Client, header: str) -> None:
    response = ask(client, headers={"authorization": header})
    assert_refused(response, 401, "invalid_credentials")
    assert [event.reason for event in trail(kind="credentials.failed")] == ["invalid_credentials"]


def test_other_tokens_than_access_tokens_are_refused(user: User) -> None:
    assert_refused(ask_with(str(RefreshToken.for_user(user))), 401, "invalid_credentials")


def test_an_expired_token_is_told_so(user: User) -> None:
    error = assert_refused(ask_with(token_for(user, exp=int(time.time()) - 5)), 401, "credentials_expired")
    assert error["reconnect"] is True


def test_a_bearer_is_refused_where_the_project_names_its_tokens_otherwise(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUTH_HEADER_TYPES": ("JWT",)}
    assert_refused(ask_with(token_for(user)), 401, "invalid_credentials")
    response = Client().post(URL, headers={"authorization": f"JWT {token_for(user)}"})
    assert redeemed(response).user == user


def test_a_bearer_is_refused_where_simplejwt_is_not_installed(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels_secure.auth.simplejwt.is_installed", lambda: False)
    assert_refused(ask_with(token_for(user), client), 401, "invalid_credentials")


def test_an_inactive_user_is_refused_also_by_a_backend_that_knows_them(client: Client, settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    session = client.session
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session.save()
    User.objects.update(is_active=False)
    assert_refused(ask(client), 401, "invalid_credentials")


def test_whom_no_session_logged_in_gets_no_ticket(user: User, settings: Settings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_ticket_endpoint.trust_everybody"]
    assert_refused(Client().post(URL), 401, "unauthenticated")


def trust_everybody(get_response: Any) -> Any:
    """A middleware that knows its users by something else than a session."""

    def respond(request: Any) -> Any:
        request.user = User.objects.get()
        return get_response(request)

    return respond


def test_a_project_where_every_view_needs_a_login_still_takes_tokens(user: User, settings: Settings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert redeemed(ask_with(token_for(user))).user == user


@pytest.mark.parametrize("by_token", [False, True])
def test_a_blocked_user_is_refused(client: Client, user: User, by_token: bool) -> None:
    block(user=user, duration=60)
    block(user=user, duration=3600)
    response = ask_with(token_for(user)) if by_token else ask(client)
    error = assert_refused(response, 403, "blocked")
    assert 3500 < error["retry_after"] <= 3600
    assert 3500 < int(response["Retry-After"]) <= 3600
    block(user=user)
    response = ask_with(token_for(user)) if by_token else ask(client)
    assert_refused(response, 403, "blocked")
    assert "Retry-After" not in response


def test_a_block_that_is_over_is_over(client: Client, user: User) -> None:
    row = block(user=user, duration=60)
    type(row).objects.update(expires_at=row.created_at - timedelta(seconds=1))
    assert redeemed(ask(client)).user == user


def test_revoked_tokens_are_refused_and_the_session_is_not(client: Client, user: User) -> None:
    first, second = str(AccessToken.for_user(user)), str(AccessToken.for_user(user))
    revoke_token(first)
    assert_refused(ask_with(first), 401, "invalid_credentials")
    revoke_user_tokens(user)
    assert_refused(ask_with(second), 401, "invalid_credentials")
    assert ask(client).status_code == 201


def test_a_user_may_ask_only_so_often(client: Client, user: User, make_user: MakeUser, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TICKET_RATE": "2/h"}
    assert [redeemed(response).kind for response in (ask(client), ask_with(token_for(user)))] == ["ticket"] * 2
    response = ask(client)
    error = assert_refused(response, 429, "rate_limited")
    assert 1700 < error["retry_after"] <= 1800
    assert 1700 < int(response["Retry-After"]) <= 1801
    assert ask_with(token_for(make_user("bob"))).status_code == 201


def test_the_rate_is_counted_where_a_store_that_processes_share_counts(
    client: Client, settings: Settings, redis_url: str
) -> None:
    settings.CHANNELS_SECURE = {
        "TICKET_RATE": "2/h",
        "STORE": {
            "BACKEND": "channels_secure.stores.redis.RedisStore",
            "LOCATION": redis_url,
            "PREFIX": f"test-{token_hex(4)}:",
            "SOCKET_TIMEOUT": 5.0,
        },
    }
    responses = [ask(client) for _ in range(3)]
    assert [response.status_code for response in responses] == [201, 201, 429]
    assert not Ticket.objects.exists()
    # A process that has counted nothing yet refuses too.
    get_store.cache_clear()
    assert_refused(ask(client), 429, "rate_limited")


def test_requests_that_are_refused_earlier_do_not_use_up_the_rate(client: Client, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TICKET_RATE": "1/h"}
    assert client.post(URL).status_code == 403
    assert ask(client, headers={"authorization": "Bearer a.b.c"}).status_code == 401
    assert ask(client).status_code == 201


def test_a_rate_can_be_switched_off_and_only_reported(client: Client, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TICKET_RATE": None}
    assert {ask(client).status_code for _ in range(40)} == {201}
    settings.CHANNELS_SECURE = {"TICKET_RATE": "1/h", "MODE": "report"}
    assert [ask(client).status_code for _ in range(2)] == [201, 201]
    assert [event.reason for event in trail(kind="policy.would_deny")] == ["rate_limited"]


def test_a_database_that_is_away_is_unavailable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(shelves.DatabaseShelf, "put_now", fail)
    response = ask(client)
    assert_refused(response, 503, "unavailable")
    assert int(response["Retry-After"]) >= 1
    # The trail does not tell of a ticket that was not given out.
    assert not trail(kind="ticket.issued")


# The audit trail -----------------------------------------------------------------------------------------------------


def test_a_ticket_is_recorded_and_not_shown(client: Client, user: User) -> None:
    response = ask(client, data='{"path": "/ws/chat/"}', content_type="application/json")
    (event,) = trail(kind="ticket.issued")
    assert (event.user, event.username, event.ip, event.path) == (user, "alice", "127.0.0.1", URL)
    assert event.detail == {"credentials": "session", "path": "/ws/chat/"}
    shown = json.dumps([str(value) for value in vars(event).values()])
    assert json.loads(response.content)["ticket"] not in shown
    assert str(client.session.session_key) not in shown


def test_the_address_is_the_one_behind_a_trusted_proxy(client: Client, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["127.0.0.1"]}
    ask(client, headers={"x-forwarded-for": "203.0.113.9, 198.51.100.7"})
    assert [event.ip for event in trail(kind="ticket.issued")] == ["198.51.100.7"]


def test_a_refusal_is_written_though_no_supervisor_runs(client: Client) -> None:
    client.post(URL)
    assert AuditEvent.objects.get().kind == "handshake.denied"


def test_a_flood_of_refusals_is_no_flood_of_writes(client: Client, django_assert_num_queries: Any) -> None:
    client.post(URL)
    with django_assert_num_queries(0):
        for _ in range(20):
            Client().post(URL)
    audit.flush_now()
    assert sum(event.count for event in AuditEvent.objects.all()) == 21
