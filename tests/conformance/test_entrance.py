"""Rows about the way in: wrong settings, authenticators that hang, what a stranger can make the package do."""

import logging
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.core.checks import run_checks
from django.test import override_settings
from django.urls import path

from channels_secure import database
from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.policy.decisions import Reason
from tests.conformance import drive
from tests.conformance.conftest import QuietLog
from tests.conformance.handshakes import bearer
from tests.conformance.table import Request
from tests.conformance.test_faults import row, rows_of, settings
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)
HERE, ELSEWHERE = "203.0.113.50", "203.0.113.51"


# Rows 4 and 10: settings ----------------------------------------------------------------------------------------------

WRONG_ORIGINS = {
    "https://exämple.com": "A-label",
    "https://*.exämple.com": "A-label",
    "*": "E003",
    "null": "E003",
    "https://example.com/path": "E003",
    "example.com": "E003",
}


@row(
    "setting-origins",
    10,
    "ALLOWED_ORIGINS with `https://exämple.com`, `*`, `null`, a path, no scheme",
    "the system check E003; for the first it names the A-label",
)
def test_wrong_origins_are_a_system_check() -> None:
    for text, said in WRONG_ORIGINS.items():
        with settings(ALLOWED_ORIGINS=[text]):
            found = [str(message) for message in run_checks(databases=[]) if "channels_secure.E003" in str(message)]
        assert len(found) == 1, text
        assert said in found[0]
    with settings(ALLOWED_ORIGINS=["https://xn--exmple-cua.com"]):
        assert not [message for message in run_checks(databases=[]) if "channels_secure.E003" in str(message)]


# Row 19 ---------------------------------------------------------------------------------------------------------------


@row(
    "authenticator-hangs",
    19,
    "an authenticator that waits for ever",
    "503 for a program, 4408 handshake_timeout for a browser, at HANDSHAKE_TIMEOUT; nothing registered, one row",
)
@pytest.mark.parametrize("origin", ["https://example.com", None], ids=["browser", "program"])
async def test_an_authenticator_that_hangs_is_a_refusal(origin: str | None, quiet: QuietLog) -> None:
    waiting = ["tests.conformance.live_app.WaitingAuthenticator"]
    with settings(HANDSHAKE_TIMEOUT=0.2, AUTHENTICATORS=waiting):
        peer = drive.communicator(Request(path="/open/?wait=1", origin=origin))
        outcome = await peer.shake_hands(1)
        assert not outcome.accepted
        if origin is None:
            assert outcome.status == 503
        else:
            assert (outcome.code, outcome.reason) == (4408, "handshake_timeout")
        drive.check_error_frame(outcome.error, Reason.HANDSHAKE_TIMEOUT, fatal=True)
        assert len(registry()) == 0
        assert await rows_of() == [("handshake.denied", "handshake_timeout", 1)]
        assert not quiet.errors()


# Row 24 ---------------------------------------------------------------------------------------------------------------


class Watched(SecureJsonConsumer):
    """Writes down what of it is run."""

    groups = ("watched",)
    ran: list[str] = []

    async def authorize(self) -> bool:
        self.ran.append("authorize")
        return True

    async def connect(self) -> None:
        self.ran.append("connect")
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.ran.append("receive_json")

    async def disconnect(self, code: int) -> None:
        self.ran.append("disconnect")


@row(
    "anonymous-runs-nothing",
    24,
    "no credential, from a browser, and a message sent with the upgrade",
    "4401; no method of the consumer is run, no group joined",
)
async def test_nothing_of_the_application_is_run_for_a_stranger() -> None:
    application = SecureMiddlewareStack(URLRouter([path("watched/", Watched.as_asgi())]))
    world = await database.run(World)
    with settings():
        Watched.ran.clear()
        peer = drive.communicator(Request(path="/watched/"), application=application)
        await peer.send_input({"type": "websocket.connect"})
        await drive.send(peer, "1")
        assert await peer.closing(drive.PATIENCE) == (4401, "unauthenticated")
        assert Watched.ran == []
        assert get_channel_layer().groups == {}
        token = bearer(world.token())
        peer = drive.communicator(Request(path="/watched/", headers=token), application=application)
        assert (await peer.shake_hands()).accepted
        await peer.disconnect()
        assert Watched.ran == ["authorize", "connect", "disconnect"], "the check above could not fail"


# Row 55 ---------------------------------------------------------------------------------------------------------------


@row(
    "handshake-rate-costs-nothing",
    55,
    "a handshake over the rate of its address, with a session cookie and a token",
    "refused before any credential is looked at",
)
async def test_a_handshake_over_its_rate_costs_no_query(caplog: pytest.LogCaptureFixture) -> None:
    with settings(HANDSHAKE_RATES={"ip": "1/m", "user": None}), override_settings(DEBUG=True):
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        request = Request(path="/typed/", cookies=cookies, headers=bearer(world.token()))
        # The one handshake that the rate leaves is a stranger's: with no socket open, no supervisor asks for anything.
        await drive.communicator(Request(path="/typed/", headers=bearer("wrong")), client=HERE).shake_hands()
        caplog.set_level(logging.DEBUG, logger="django.db.backends")
        for client, status, asks in ((HERE, 429, False), (ELSEWHERE, None, True)):
            caplog.clear()
            peer = drive.communicator(request, client=client)
            outcome = await peer.shake_hands()
            asked = [r.getMessage() for r in caplog.records if r.name == "django.db.backends"]
            assert outcome.status == status
            assert bool([text for text in asked if "django_session" in text or "auth_user" in text]) is asks
        await peer.disconnect()
