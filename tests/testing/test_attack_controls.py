"""Negative controls: with its one guard taken out, each attack gets through. What cannot fail shows nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import User
from django.test import override_settings
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure import admission, database, guards, receivers
from channels_secure.auth import jwt, session, shelves, tickets
from channels_secure.auth.base import Identity
from channels_secure.connections import entrance
from channels_secure.connections.budgets import Budgets, Conduct
from channels_secure.consumers import dispatch
from channels_secure.guards import DEFAULT_GUARDS
from channels_secure.middleware import HandshakeMiddleware
from channels_secure.policy import messages
from channels_secure.policy.handshake import Handshake
from channels_secure.testing import Attack, Verdict, attacks
from tests.sockets import quiet  # noqa: F401
from tests.testing.targets import EXAMPLE, Chat, HalfSecret

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]
SETTINGS = {"REQUIRE_WSS": True, "TRUSTED_PROXIES": [], "HANDSHAKE_RATES": {"ip": "6/m", "user": "5/m"}}
Part = tuple[Any, str, Any]


@dataclass(frozen=True, kw_only=True)
class Without:
    """A stack in which something is missing.

    Args:
        guards: are left out of the handshake's.
        parts: of the package that say yes to everything.
        consumer: stands in the place of the package's.
        around: is put around the stack.
    """

    guards: Iterable[Any] = ()
    parts: Iterable[Part] = ()
    consumer: Any = Chat
    around: Callable[[Any], Any] = lambda app: app

    def stack(self) -> Any:
        left = [each for each in DEFAULT_GUARDS if each not in tuple(self.guards)]
        return self.around(HandshakeMiddleware(self.consumer.as_asgi(), guards=left))


# What says yes -------------------------------------------------------------------------------------------------------


def says(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


async def agrees(*_: Any, **__: Any) -> None:
    """No denial."""


def alice() -> Identity:
    return Identity(user=User.objects.get(username="alice"), kind="session", session=session.session_store()())


def whoever(_key: str) -> Identity:
    return alice()


async def anything(_ticket: str, _handshake: Any) -> Identity:
    return await database.run(alice)


def unverified(kind: Any, text: str, **_: Any) -> Any:
    return vars(jwt)["_Opened"](token=kind(text.encode("ascii"), verify=False))


def active_or_not(token: Any, user_id: Any) -> Any:
    return User.objects.get(pk=user_id)


def believing(name: bytes) -> Callable[[Any], Any]:
    """A server, or a middleware, that takes a client's own header for its address."""

    def around(app: Any) -> Any:
        async def run(scope: Any, receive: Any, send: Any) -> None:
            pretended = dict(scope["headers"]).get(name)
            client = scope["client"] if pretended is None else (pretended.decode(), 0)
            await app({**scope, "client": client}, receive, send)

        return run

    return around


class Relay(AsyncJsonWebsocketConsumer):
    """Lets a client name the method that handles its message."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        method = getattr(self, str(content.get("type")).replace(".", "_"), None)
        await self.send_json({"called": callable(method)})


ORIGIN = Without(guards=[guards.origin])
MALFORMED = Without(guards=[guards.well_formed])
SESSION = Without(parts=[(session, "identify", whoever)])
SIGNATURE = Without(parts=[(jwt, "_open", unverified)])
WELL_FORMED = Without(parts=[(messages, "find_flaw", says(None))])
UNTOLD = Without(parts=[(receivers, "_after_commit", says(None))])
FOREIGN = Without(consumer=Relay)
CONTROLS: dict[str, Without] = {
    "cross-site-hijack": ORIGIN,
    "origin-null": ORIGIN,
    "origin-look-alike": ORIGIN,
    "origin-twice": ORIGIN,
    "origin-missing": Without(guards=[guards.origin], parts=[(Handshake, "origin_missing", False)]),
    "unencrypted": Without(guards=[guards.transport]),
    "not-logged-in": Without(parts=[(entrance, "anonymous_denial", says(None))]),
    "overloaded-request": MALFORMED,
    "repeated-headers": MALFORMED,
    "session-made-up": SESSION,
    "session-of-deactivated-user": SESSION,
    "session-of-old-password": Without(parts=[(session, "hash_matches", says(True))]),
    "token-alg-none": SIGNATURE,
    "token-foreign-key": SIGNATURE,
    "token-altered": SIGNATURE,
    "token-expired": SIGNATURE,
    "token-refresh-as-access": Without(parts=[(AccessToken, "verify_token_type", says(None))]),
    "token-of-deactivated-user": Without(parts=[(jwt, "_user", active_or_not)]),
    "token-in-query": Without(guards=[guards.stray_token]),
    "ticket-replay": Without(parts=[(shelves, "_delete", says(1))]),
    "ticket-made-up": Without(parts=[(tickets.TicketAuthenticator, "_redeem", staticmethod(anything))]),
    "ticket-of-deactivated-user": Without(parts=[(tickets, "_fault", says(""))]),
    "open-socket-deactivated": UNTOLD,
    "open-socket-logged-out": UNTOLD,
    "open-socket-forged-refresh": SIGNATURE,
    "frame-not-encrypted": Without(consumer=HalfSecret),
    "frame-binary": FOREIGN,
    "frame-oversize": Without(parts=[(dispatch, "is_too_big", says(False))]),
    "frame-deep-nesting": WELL_FORMED,
    "frame-not-json": FOREIGN,
    "frame-not-a-number": FOREIGN,
    "frame-duplicate-keys": WELL_FORMED,
    "frame-broken-text": WELL_FORMED,
    "frame-unknown-type": FOREIGN,
    "frame-inherited-name": FOREIGN,
    "message-flood": Without(parts=[(Budgets, "open", says(None))]),
    "nonsense-flood": Without(parts=[(Conduct, "is_spent", says(False))]),
    "mass-connections": Without(
        parts=[(admission, "claim_slot", says(None)), (admission, "claim_shared_slot", agrees)]
    ),
    "handshake-flood": Without(guards=[guards.address_attempts], parts=[(admission, "_user_attempts", agrees)]),
    "forged-address": Without(around=believing(b"x-forwarded-for")),
    "header-twins": Without(around=believing(b"x_forwarded_for")),
}


def test_every_attack_has_a_control() -> None:
    assert set(CONTROLS) == {attack.id for attack in attacks}


@pytest.mark.parametrize("attack", attacks)
async def test_without_its_guard_an_attack_gets_through(
    attack: Attack, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = CONTROLS[attack.id]
    with monkeypatch.context() as patch, override_settings(CHANNELS_SECURE=SETTINGS):
        for part in control.parts:
            patch.setattr(*part)
        result = await attack.attempt(control.stack(), "/ws/", user=user, message=EXAMPLE, patience=0.2)
    assert result.verdict is Verdict.GOT_THROUGH, result
