"""Negative controls: with its guard taken out, a case fails. What cannot fail shows nothing."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import path
from rest_framework_simplejwt.tokens import AccessToken

import tests.conformance.catalogue  # noqa: F401 - fills the table
from channels_secure import database, guards
from channels_secure.auth import claims, jwt, offers, session, shelves, tickets
from channels_secure.auth.base import digest_of
from channels_secure.auth.issuing import unseal
from channels_secure.consumers import SecureJsonConsumer, dispatch, handles, refreshing
from channels_secure.guards import DEFAULT_GUARDS
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.policy import messages, values
from tests.conformance import drive
from tests.conformance.table import SETTINGS, TABLE, Case, Handshake, Message, Refresh, configured
from tests.conformance.world import World
from tests.live import app as live

pytestmark = pytest.mark.django_db(transaction=True)


async def run(case: Case, application: Any = None) -> None:
    """Drive a row that is data under the settings in force."""
    if isinstance(case, Message):
        await drive.speak(case, application=application)
        return
    world = await database.run(World)
    if isinstance(case, Refresh):
        opened = await database.run(case.opened, world)
        await drive.refresh(case, opened, await database.run(case.frame, world))
        return
    assert isinstance(case, Handshake)
    request = await database.run(case.request, world)
    await drive.shake(case, request, http_response=True, application=application)


def settings_of(case: Case, **changes: Any) -> Any:
    return (
        configured(case, **changes)
        if isinstance(case, Handshake)
        else override_settings(CHANNELS_SECURE={**SETTINGS, **changes})
    )


async def fails(case: Case, application: Any = None) -> None:
    with pytest.raises((AssertionError, TimeoutError)):
        await run(case, application)
    await drive.settle()


# A guard of the handshake is left out ---------------------------------------------------------------------------------

BY_GUARD = {
    "origin-foreign": guards.origin,
    "origin-null": guards.origin,
    "origin-suffix": guards.origin,
    "origin-missing-never": guards.origin,
    "origin-twice-good-first": guards.origin,
    "origin-u-label-utf-8-sent": guards.origin,
    "cookies-300": guards.well_formed,
    "subprotocol-duplicate": guards.well_formed,
    "forwarded-nonsense-before-proxy": guards.well_formed,
    "query-token": guards.stray_token,
    "wss-plain": guards.transport,
    "wss-plain-foreign-proxy": guards.transport,
}


@pytest.mark.parametrize(("name", "guard"), BY_GUARD.items(), ids=BY_GUARD)
async def test_a_case_fails_without_its_guard(name: str, guard: Any) -> None:
    case = TABLE[name]
    with settings_of(case):
        await fails(case, drive.app([each for each in DEFAULT_GUARDS if each is not guard]))
        await run(case)


# A setting switches a guard off ---------------------------------------------------------------------------------------

SESSION_ONLY = {"AUTHENTICATORS": ["channels_secure.auth.session.SessionAuthenticator"]}
BY_SETTING: dict[str, dict[str, Any]] = {
    "session-valid": {"AUTHENTICATORS": []},
    "session-hash": {"AUTHENTICATORS": []},
    "token-valid": {"TOKEN_SOURCES": ["subprotocol"]},
    "two-users": SESSION_ONLY,
    "alg-none": SESSION_ONLY,
    "expired": SESSION_ONLY,
    "ticket-valid": {"AUTHENTICATORS": []},
    "ticket-used": SESSION_ONLY,
    "ticket-expired": SESSION_ONLY,
    "ticket-wrong-path-0": SESSION_ONLY,
    "ticket-in-both-places": SESSION_ONLY,
    "ticket-of-another-session": SESSION_ONLY,
    "refresh-valid": {"TOKEN_SOURCES": ["cookie"]},
    "refresh-too-often": {"REFRESH_RATE": None},
    "refresh-too-often-wrong": {"REFRESH_RATE": None},
    "anonymous-foreign": {"ALLOW_ANONYMOUS": True},
    "cookie-token-no-origin": {"ALLOW_MISSING_ORIGIN": "always", "TOKEN_SOURCES": ["header"]},
    "origin-missing-session": {"ALLOW_MISSING_ORIGIN": "always"},
    "origin-missing-anonymous": {"ALLOW_MISSING_ORIGIN": "always"},
    "origin-other-https://example.com:8443": {"ALLOWED_ORIGINS": ["https://example.com:8443"]},
    "wss-plain": {"REQUIRE_WSS": False},
    "forwarded-malformed-1": {"TRUSTED_PROXIES": []},
    "forwarded-one": {"TRUSTED_PROXIES": []},
    "forwarded-spoofed-left": {"TRUSTED_PROXIES": ["0.0.0.0/1", "192.0.2.0/24"]},
    "size-over-open": {"MAX_MESSAGE_SIZE": 1 << 20},
    "size-bytes-echo": {"MAX_MESSAGE_SIZE": 1 << 20},
    "depth-33": {"MAX_MESSAGE_DEPTH": 40},
    "depth-33-drop-in": {"MAX_MESSAGE_DEPTH": 40},
    "depth-33-unknown-member": {"MAX_MESSAGE_DEPTH": 40},
}


@pytest.mark.parametrize(("name", "setting"), BY_SETTING.items(), ids=BY_SETTING)
async def test_a_case_fails_when_its_guard_is_switched_off(name: str, setting: dict[str, Any]) -> None:
    case = TABLE[name]
    with settings_of(case, **setting):
        await fails(case)
    with settings_of(case):
        await run(case)


# A function of the package says yes -----------------------------------------------------------------------------------


def unverified(kind: Any, text: str, **_: Any) -> Any:
    return vars(jwt)["_Opened"](token=kind(text.encode("ascii"), verify=False))


async def agrees(*_: Any) -> bool:
    return True


def says(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


async def redeem_unbound(ticket: str, handshake: Any) -> Any:
    """A redemption that trusts whoever has the ticket."""
    content = await shelves.redeem(digest_of(ticket))
    grant = unseal(content or "", ticket)
    return tickets._refuse("") if grant is None else await database.run(tickets._identify, grant)


Part = tuple[Any, str, Any]
SIGNATURE: Part = (jwt, "_open", unverified)
CLAIMS: Part = (claims, "find_fault", says(""))
TOKEN_TYPE: Part = (AccessToken, "verify_token_type", says(None))
SESSION_HASH: Part = (session, "hash_matches", says(True))
EXPLICIT: Part = (offers.Offer, "is_ambient", True)
KEPT: Part = (shelves, "_delete", says(1))
UNBOUND: Part = (tickets.TicketAuthenticator, "_redeem", staticmethod(redeem_unbound))
STILL_ACTIVE: Part = (tickets, "_fault", says(""))
SAME_USER: Part = (refreshing, "_is_same_user", says(True))
PERMISSION: Part = (dispatch, "_permits", agrees)
WELL_FORMED: Part = (messages, "find_flaw", says(None))
WELL_FORMED_VALUE: Part = (values, "find_flaw", says(None))
BY_PART: dict[str, Part] = {
    "key-wrong": SIGNATURE,
    "alg-hs256-public-key": SIGNATURE,
    "nbf-future": SIGNATURE,
    "named-aud-wrong": SIGNATURE,
    "claim-exp-5": CLAIMS,
    "claim-jti-5": CLAIMS,
    "refresh-token": TOKEN_TYPE,
    "token-type-list": TOKEN_TYPE,
    "session-hash": SESSION_HASH,
    "explicit-wrong-session-right": EXPLICIT,
    "ticket-used": KEPT,
    "ticket-burnt-by-path": KEPT,
    "ticket-wrong-path-0": UNBOUND,
    "ticket-wrong-address-0": UNBOUND,
    "ticket-user-inactive": STILL_ACTIVE,
    "ticket-password-changed": STILL_ACTIVE,
    "refresh-key-wrong": SIGNATURE,
    "refresh-refresh-token": TOKEN_TYPE,
    "refresh-other-user": SAME_USER,
    "refresh-other-user-session": SAME_USER,
    "permission": PERMISSION,
    "duplicate-member": WELL_FORMED,
    "duplicate-nested": WELL_FORMED,
    "duplicate-ignored": WELL_FORMED,
    "number-1e999-ignored": WELL_FORMED,
    "text-nul": WELL_FORMED,
    "duplicate-top-drop-in": WELL_FORMED_VALUE,
    "text-nul-drop-in": WELL_FORMED_VALUE,
}


@pytest.mark.parametrize(("name", "part"), BY_PART.items(), ids=BY_PART)
async def test_a_case_fails_when_a_part_of_the_package_says_yes(
    name: str, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = TABLE[name]
    with settings_of(case):
        with monkeypatch.context() as patch:
            patch.setattr(*part)
            await fails(case)
        await run(case)


# A consumer declares nothing, or the package's consumer is not there --------------------------------------------------


class Credulous(SecureJsonConsumer):
    """The messages of the table, with no schema that says what may stand in them."""

    allow_anonymous = True

    @handles("chat.say")
    async def say(self, message: dict[str, Any]) -> None:
        await self.send_json({"type": "answer", "to": "chat.say", "message": message})

    @handles("count")
    async def count(self, message: dict[str, Any]) -> None:
        await self.send_json({"type": "answer", "to": "count", "message": message})

    @handles("nothing")
    async def nothing(self, message: dict[str, Any]) -> None:
        await self.send_json({"type": "answer", "to": "nothing", "message": msgspec.to_builtins(message)})


def instead(consumer: Any) -> Any:
    return SecureMiddlewareStack(URLRouter([path("open/", consumer), path("echo/", consumer)]))


BY_CONSUMER = {
    "schema-unknown-field": Credulous.as_asgi(),
    "schema-missing-field": Credulous.as_asgi(),
    "schema-bool-for-int": Credulous.as_asgi(),
    "schema-text-for-int": Credulous.as_asgi(),
    "schema-too-long": Credulous.as_asgi(),
    "type-'handle_admin'": live.Echo.as_asgi(),
    "type-'websocket.disconnect'": live.Echo.as_asgi(),
    "binary-open": live.plain,
    "binary-json-open": live.plain,
    "json-word": live.plain,
    "value-list": live.Echo.as_asgi(),
}


@pytest.mark.parametrize(("name", "consumer"), BY_CONSUMER.items(), ids=BY_CONSUMER)
async def test_a_case_fails_with_a_consumer_that_takes_everything(name: str, consumer: Any) -> None:
    case = TABLE[name]
    with settings_of(case, ALLOW_ANONYMOUS=True):
        await fails(case, instead(consumer))
        await run(case)
