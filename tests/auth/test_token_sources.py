"""Where tokens may be, and what several of them mean together."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from channels_secure import database
from channels_secure.auth.base import Identity
from channels_secure.auth.jwt import JWTAuthenticator
from channels_secure.auth.offers import Offer
from channels_secure.policy.decisions import Denial, Reason
from tests.auth.handshakes import answer_of, denial_of, identity_of, shake
from tests.auth.tokens import claims_of, ec_key, key_set, private_pem, public_pem, sign, token_for
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db(transaction=True)

authenticator = JWTAuthenticator()
ALL = ["header", "subprotocol", "cookie", "query"]


@pytest.fixture
def everywhere(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TOKEN_SOURCES": ALL}


def in_(source: str, token: str, **others: Any) -> Any:
    """A handshake with the token in this place."""
    places: dict[str, dict[str, Any]] = {
        "header": {"authorization": f"Bearer {token}"},
        "subprotocol": {"subprotocols": ["channels-secure.v1", f"channels-secure.bearer.{token}"]},
        "cookie": {"cookies": {"access_token": token}},
        "query": {"query": {"token": token}},
    }
    return shake(**{**places[source], **others})


# One token -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ALL)
def test_a_token_is_found_in_every_source_that_is_on(everywhere: None, user: User, source: str) -> None:
    found = identity_of(authenticator, in_(source, token_for(user)))
    assert (found.user, found.ambient) == (user, source == "cookie")


@pytest.mark.parametrize("source", ALL)
def test_a_wrong_token_is_refused_from_every_source_that_is_on(everywhere: None, user: User, source: str) -> None:
    token = sign(claims_of(user), "another key, long enough for HMAC-SHA-256")
    answer = denial_of(authenticator, in_(source, token))
    assert (answer.reason, answer.detail) == (Reason.INVALID_CREDENTIALS, f"token_invalid ({source})")
    assert answer.ambient == (source == "cookie")


@pytest.mark.parametrize("source", ["cookie", "query"])
def test_sources_that_are_off_by_default_are_not_looked_at(user: User, source: str, queries: list[str]) -> None:
    assert answer_of(authenticator, in_(source, token_for(user))) is None
    assert queries == []


@pytest.mark.parametrize("source", ALL)
def test_a_source_that_is_off_is_not_looked_at(user: User, settings: Settings, source: str) -> None:
    settings.CHANNELS_SECURE = {"TOKEN_SOURCES": [name for name in ALL if name != source]}
    assert answer_of(authenticator, in_(source, token_for(user))) is None


def test_nothing_offered_is_no_answer(everywhere: None, queries: list[str]) -> None:
    assert answer_of(authenticator, shake(subprotocols=["channels-secure.v1", "chat"])) is None
    assert answer_of(authenticator, shake(cookies={"access_token": ""})) is None
    assert queries == []


def test_the_names_of_cookie_and_parameter_can_be_set(user: User, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TOKEN_SOURCES": ALL, "TOKEN_QUERY_NAME": "jwt", "TOKEN_COOKIE_NAME": "__Host-jwt"}
    assert identity_of(authenticator, shake(query={"jwt": token_for(user)})).user == user
    assert identity_of(authenticator, shake(cookies={"__Host-jwt": token_for(user)})).user == user
    assert answer_of(authenticator, in_("query", token_for(user))) is None


# The header ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_case_insensitive(user: User, scheme: str) -> None:
    assert identity_of(authenticator, shake(authorization=f"{scheme} {token_for(user)}")).user == user


@pytest.mark.parametrize("value", ["Basic YWxpY2U6c2VjcmV0", "Digest x", "", "Bearerx y", "Negotiate abc.def.ghi"])
def test_another_scheme_is_not_a_token(value: str) -> None:
    assert answer_of(authenticator, shake(authorization=value)) is None


@pytest.mark.parametrize("value", ["Bearer", " Bearer ", "Bearer a b", "Bearer  a.b.c", "Bearer null", "Bearer a.b.c "])
def test_a_bearer_without_a_token_is_refused(value: str) -> None:
    answer = denial_of(authenticator, shake(authorization=value))
    assert (answer.reason, answer.detail) == (Reason.INVALID_CREDENTIALS, "token_malformed (header)")


@pytest.mark.parametrize("types", [("JWT", "Token"), ["JWT"], "JWT"])
def test_simplejwts_header_types_are_honoured(user: User, settings: Settings, types: Any) -> None:
    settings.SIMPLE_JWT = {"AUTH_HEADER_TYPES": types}
    assert identity_of(authenticator, shake(authorization=f"JWT {token_for(user)}")).user == user
    assert answer_of(authenticator, in_("header", token_for(user))) is None


# The subprotocol -----------------------------------------------------------------------------------------------------


def test_the_token_may_stand_alone_or_among_other_subprotocols(user: User) -> None:
    entry = f"channels-secure.bearer.{token_for(user)}"
    assert identity_of(authenticator, shake(subprotocols=[entry])).user == user
    assert identity_of(authenticator, shake(subprotocols=["chat", entry, "channels-secure.v1"])).user == user


def test_two_bearer_entries_are_a_bad_request(user: User, queries: list[str]) -> None:
    entry = f"channels-secure.bearer.{token_for(user)}"
    answer = denial_of(authenticator, shake(subprotocols=[entry, "channels-secure.bearer.x.y.z"]))
    assert (answer.reason, answer.detail) == (Reason.BAD_REQUEST, "several_tokens (subprotocol)")
    assert queries == []


def test_two_tokens_in_the_query_are_a_bad_request(everywhere: None, user: User) -> None:
    answer = denial_of(authenticator, shake(query={"token": [token_for(user), "x"]}))
    assert (answer.reason, answer.detail) == (Reason.BAD_REQUEST, "several_tokens (query)")


def test_an_empty_bearer_entry_is_refused() -> None:
    answer = denial_of(authenticator, shake(subprotocols=["channels-secure.bearer."]))
    assert answer.detail == "token_malformed (subprotocol)"


# The cookie ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [None, "null", "https://[::1", ""])
def test_a_cookie_token_counts_only_with_an_origin(
    everywhere: None, user: User, queries: list[str], origin: str | None
) -> None:
    answer = denial_of(authenticator, in_("cookie", token_for(user), origin=origin))
    assert (answer.reason, answer.ambient) == (Reason.ORIGIN_MISSING, True)
    assert queries == []


def test_an_explicit_token_needs_no_origin(everywhere: None, user: User) -> None:
    assert identity_of(authenticator, in_("header", token_for(user), origin=None)).user == user


# Several -------------------------------------------------------------------------------------------------------------


def test_tokens_of_different_users_are_ambiguous(everywhere: None, user: User, make_user: MakeUser) -> None:
    handshake = in_("header", token_for(user), cookies={"access_token": token_for(make_user("bob"))})
    assert denial_of(authenticator, handshake).reason is Reason.AMBIGUOUS_CREDENTIALS


def test_when_several_agree_the_first_to_end_counts(everywhere: None, user: User) -> None:
    early, late = claims_of(user), claims_of(user)
    late["exp"] += 600
    found = identity_of(authenticator, in_("header", sign(late), query={"token": sign(early)}))
    assert (found.user, found.expires_at, found.jti, found.kind) == (user, float(early["exp"]), late["jti"], "jwt")


@pytest.mark.parametrize("wrong", ["not a token", "a.b.c", "x" * 9000])
def test_a_wrong_explicit_token_is_refused_whatever_else_is_right(everywhere: None, user: User, wrong: str) -> None:
    handshake = in_("header", token_for(user), query={"token": wrong}, cookies={"access_token": token_for(user)})
    assert denial_of(authenticator, handshake).reason is Reason.INVALID_CREDENTIALS


@pytest.mark.parametrize("stale", ["not-a-token", "a.b.c"])
def test_a_wrong_cookie_counts_as_absent_beside_a_right_token(everywhere: None, user: User, stale: str) -> None:
    found = identity_of(authenticator, in_("header", token_for(user), cookies={"access_token": stale}))
    assert (found.user, found.ambient) == (user, False)


def test_a_cookie_and_an_explicit_token_of_one_user_are_explicit(everywhere: None, user: User) -> None:
    found = identity_of(authenticator, in_("header", token_for(user), cookies={"access_token": token_for(user)}))
    assert found.ambient is False


def test_an_offer_does_not_show_its_token() -> None:
    assert "s3cret" not in repr(Offer(token="s3cret", source="header"))


# Key sets over the network -------------------------------------------------------------------------------------------


class KeyServer:
    """A JWK set on a free port, which can be made to wait or to fail."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.asked = threading.Event()
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.set()
                outer.is_open.wait(10)
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(json.dumps(key_set()).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def key_server(settings: Settings) -> Iterator[KeyServer]:
    keys = KeyServer()
    settings.SIMPLE_JWT = {"ALGORITHM": "RS256", "JWK_URL": keys.url, "SIGNING_KEY": ""}
    yield keys
    keys.is_open.set()
    keys.server.shutdown()
    keys.server.server_close()


def signed_by(user: User, kid: str | None, key: Any = None, algorithm: str = "RS256") -> str:
    return sign(claims_of(user), key or private_pem(), algorithm, None if kid is None else {"kid": kid})


def test_a_key_of_the_set_verifies(key_server: KeyServer, user: User) -> None:
    assert identity_of(authenticator, in_("header", signed_by(user, "main"))).user == user


@pytest.mark.parametrize("kid", ["unknown", "other", None])
def test_a_token_that_names_another_key_is_refused(key_server: KeyServer, user: User, kid: str | None) -> None:
    assert denial_of(authenticator, in_("header", signed_by(user, kid))).reason is Reason.INVALID_CREDENTIALS


def test_a_key_of_the_set_for_another_algorithm_is_refused(key_server: KeyServer, user: User) -> None:
    token = signed_by(user, "other", ec_key(), "ES256")
    assert denial_of(authenticator, in_("header", token)).reason is Reason.INVALID_CREDENTIALS


def test_a_key_set_that_cannot_be_fetched_is_no_wrong_credential(key_server: KeyServer, user: User) -> None:
    key_server.status = 500
    answer = denial_of(authenticator, in_("header", signed_by(user, "main")))
    assert (answer.reason, answer.detail) == (Reason.UNAVAILABLE, "key_set_unavailable (header)")


async def test_a_slow_key_set_does_not_hold_up_the_packages_database_work(key_server: KeyServer) -> None:
    user = await User.objects.acreate(username="alice")
    handshake = in_("header", signed_by(user, "main"))
    key_server.is_open.clear()
    waiting = [
        asyncio.create_task(authenticator.authenticate(handshake)) for _ in range(sum(database.THREADS.values()) + 2)
    ]
    await asyncio.to_thread(key_server.asked.wait, 10)
    assert await database.run(User.objects.count) == 1
    assert not any(task.done() for task in waiting)
    key_server.is_open.set()
    answers: list[Identity | Denial | None] = await asyncio.gather(*waiting)
    assert all(isinstance(answer, Identity) and answer.user == user for answer in answers)


def test_a_public_key_in_the_settings_needs_no_network(settings: Settings, user: User) -> None:
    settings.SIMPLE_JWT = {"ALGORITHM": "RS256", "SIGNING_KEY": private_pem(), "VERIFYING_KEY": public_pem()}
    assert identity_of(authenticator, in_("header", signed_by(user, None))).user == user
