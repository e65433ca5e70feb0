"""Security schemes: those that the settings enable."""

from typing import Any

import pytest
from jsonschema import Draft7Validator
from pytest_django import Settings

from channels_secure.asyncapi import document
from channels_secure.auth.base import Identity
from channels_secure.policy.decisions import Denial
from channels_secure.policy.handshake import Handshake
from tests.asyncapi.conftest import errors
from tests.asyncapi.wire import DropIn, EverythingConsumer

SESSION = "channels_secure.auth.session.SessionAuthenticator"
TICKET = "channels_secure.auth.tickets.TicketAuthenticator"


class Mute:
    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None:
        return None


class Certified(Mute):
    security_schemes = {"certificate": {"type": "X509"}}


def schemes(settings: Settings, **keys: Any) -> dict[str, Any]:
    settings.CHANNELS_SECURE = keys
    found: dict[str, Any] = document([])["components"]["securitySchemes"]
    return found


def test_by_default_sessions_tickets_and_tokens_where_they_are_taken(settings: Settings) -> None:
    found = schemes(settings)
    assert list(found) == ["session", "ticket_query", "ticket_subprotocol", "token_header", "token_subprotocol"]
    assert found["session"]["name"] == "sessionid"
    assert found["token_header"]["scheme"] == "bearer"


def test_every_source_of_tokens_is_a_scheme(settings: Settings, official: Draft7Validator) -> None:
    keys = {"TOKEN_SOURCES": ["cookie", "query"], "TOKEN_COOKIE_NAME": "jwt", "TOKEN_QUERY_NAME": "t"}
    found = schemes(settings, **keys)
    places = {name: (scheme["in"], scheme["name"]) for name, scheme in found.items() if name.startswith("token")}
    assert places == {"token_cookie": ("cookie", "jwt"), "token_query": ("query", "t")}
    described = document([DropIn])
    query = described["channels"]["DropIn"]["bindings"]["ws"]["query"]
    assert set(query["properties"]) == {"t", "ticket"}
    assert errors(official, described) == []


def test_what_is_not_taken_is_not_offered(settings: Settings) -> None:
    assert list(schemes(settings, AUTHENTICATORS=[SESSION])) == ["session"]
    assert "query" not in document([DropIn])["channels"]["DropIn"]["bindings"]["ws"]
    assert schemes(settings, AUTHENTICATORS=[f"{__name__}.Mute"]) == {}
    assert schemes(settings, AUTHENTICATORS=[]) == {}


def test_a_project_says_how_its_own_authenticator_is_used(settings: Settings, official: Draft7Validator) -> None:
    assert schemes(settings, AUTHENTICATORS=[f"{__name__}.Certified"]) == {"certificate": {"type": "X509"}}
    assert errors(official, document([DropIn])) == []


def test_no_tokens_are_refreshed_where_none_are_taken(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"AUTHENTICATORS": [SESSION, TICKET]}
    messages = set(document([EverythingConsumer])["components"]["messages"])
    assert not messages & {"RefreshToken", "TokenRefreshed"}
    assert {"ClientPing", "ServerPong", "TokenExpiring"} <= messages


@pytest.mark.parametrize("anonymous", [True, False])
def test_whoever_may_come_without_credentials_needs_none(anonymous: bool) -> None:
    described = document([type("Open", (DropIn,), {"allow_anonymous": anonymous})])
    assert described["channels"]["Open"]["x-channels-secure"]["anonymous"] is anonymous
    assert ("security" in described["operations"]["Open.receive.value"]) is not anonymous
