"""Rows about decisions that must stand: tickets that a store or a process takes along, and who is told to go."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis

from channels_secure import blocklist, database
from channels_secure.auth.tickets import aissue_ticket
from channels_secure.connections import registry
from channels_secure.models import Ticket
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.stores import get_store
from tests.conformance import drive
from tests.conformance.table import LIVE_SETTINGS, Request, Verdict
from tests.conformance.test_faults import row, settings
from tests.conformance.test_servers import QUICK, shake
from tests.conformance.test_servers import row as live_row
from tests.conformance.tickets import INVALID, at
from tests.conformance.visiting import check_log, upgrade
from tests.conformance.world import World
from tests.live.servers import LiveServer, ServerKind
from tests.services import own_redis

pytestmark = pytest.mark.django_db(transaction=True)
ACCEPTED = Verdict()


# Tickets --------------------------------------------------------------------------------------------------------------


async def shake_hands(path: str, required: Verdict) -> None:
    peer = drive.communicator(Request(path=path))
    outcome = await peer.shake_hands()
    drive.check_outcome(outcome, required, http_response=True)
    if outcome.accepted:
        await peer.disconnect()


@row(
    "ticket-store-flushed",
    40,
    "FLUSHALL between the issue of a ticket and its use",
    "refused as any unknown ticket; one that is issued afterwards opens",
)
async def test_a_ticket_that_the_store_forgot_opens_nothing() -> None:
    with own_redis() as server:
        store = {
            "BACKEND": "channels_secure.stores.redis.RedisStore",
            "LOCATION": server.url,
            "SOCKET_TIMEOUT": 5.0,
        }
        with settings(STORE=store):
            world = await database.run(World)
            lost, kept = [await aissue_ticket(world.alice) for _ in range(2)]
            await shake_hands(at(kept), ACCEPTED)
            with Redis.from_url(server.url) as client:
                client.flushall()
            await shake_hands(at(lost), INVALID)
            await shake_hands(at(await aissue_ticket(world.alice)), ACCEPTED)
            assert [entry["reason"] for entry in await drive.take_rows({lost})].count("invalid_credentials") == 1
            await drive.settle()
            await get_store().rest()


@live_row(
    "live-ticket-killed",
    41,
    "SIGKILL of a process that has redeemed a ticket and not accepted the socket yet",
    "the ticket stays burnt at the other process; a new one opens there",
)
def test_a_ticket_stays_burnt_when_its_process_dies(
    kind: ServerKind, server: Callable[..., LiveServer], world: World
) -> None:
    options = {**LIVE_SETTINGS, **QUICK, "ALLOW_ANONYMOUS": False, "HANDSHAKE_TIMEOUT": 20}
    doomed, other = (server(kind, settings={**options, "MAX_MESSAGE_SIZE": 1_000 + number}) for number in range(2))
    ticket = world.ticket()
    with doomed.connect() as raw:
        raw.send_raw(upgrade(at(ticket, "/authorize/hang/")))
        wait_until_redeemed(doomed)
        doomed.stop(first=signal.SIGKILL)
    with other.connect() as raw:
        assert shake(raw, Request(path=at(ticket))).status == 101
        closing = raw.read_until_closed()
        assert (closing.code, closing.json_frames()[-1]["code"]) == (4401, "invalid_credentials")
    with other.connect() as raw:
        assert shake(raw, Request(path=at(world.ticket()))).status == 101
        raw.send_json({"type": "nothing"})
        assert raw.read_json()["type"] == "answer"
    check_log(other)
    assert not [secret for secret in world.secrets if secret in doomed.log() + other.log()]


def wait_until_redeemed(server: LiveServer) -> None:
    deadline = time.monotonic() + 10
    while Ticket.objects.exists():
        assert time.monotonic() < deadline, server.log()
        with suppress(Exception):
            server.process.wait(timeout=0.02)


# Those who come back --------------------------------------------------------------------------------------------------


@row(
    "reconnect-loop",
    89,
    "a user is blocked, and the client reconnects 100 times at once with its session, 20 a minute are allowed",
    "20 are told that they are blocked, 80 are refused from memory; no store of sessions or users is asked for these",
)
async def test_a_blocked_client_that_reconnects_in_a_loop_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with settings(HANDSHAKE_RATES={"ip": "20/m", "user": None}), override_settings(DEBUG=True):
        world = await database.run(World)
        request = Request(path="/typed/", cookies=await database.run(world.session, world.alice))
        peer = drive.communicator(request, client="203.0.113.9")
        assert (await peer.shake_hands()).accepted
        await blocklist.ablock(user=world.alice)
        frame = await drive.receive(peer)
        drive.check_error_frame(frame, Reason.BLOCKED, fatal=True)
        assert frame["reconnect"] is False
        assert await peer.closing() == (4423, "blocked")
        caplog.set_level(logging.DEBUG, logger="django.db.backends")
        refused = [await knock(request, caplog) for _ in range(100)]
    assert [reason for reason, _ in refused] == ["blocked"] * 19 + ["rate_limited"] * 81
    assert all(asked for reason, asked in refused if reason == "blocked"), "the check below could not fail"
    assert not any(asked for reason, asked in refused if reason == "rate_limited")
    denied = [entry for entry in await drive.take_rows() if entry["kind"] == "handshake.denied"]
    assert sum(entry["count"] for entry in denied) == 100
    assert len(denied) <= 42


async def knock(request: Request, caplog: pytest.LogCaptureFixture) -> tuple[str, bool]:
    """Why it was refused, and whether the database was asked for a session or a user."""
    caplog.clear()
    outcome = await drive.communicator(request, client="203.0.113.9").shake_hands()
    asked = [record.getMessage() for record in caplog.records if record.name == "django.db.backends"]
    return outcome.error["code"], any("django_session" in text or "auth_user" in text for text in asked)


# A peer whose server does not let go ----------------------------------------------------------------------------------


class Deaf:
    """A server's `send` that, from some moment on, neither returns nor heeds a cancellation, as some do."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.is_deaf = False
        self.released = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def deaf(event: Any) -> None:
            while self.is_deaf and not self.released.is_set():
                with suppress(asyncio.CancelledError):
                    await self.released.wait()
            await send(event)

        await self.application(scope, receive, deaf)


@row(
    "severed-deaf-send",
    80,
    "a socket is severed while the server's send neither returns nor heeds a cancellation",
    "the application has ended within a second, and nothing is left registered",
)
async def test_a_send_that_heeds_no_cancellation_delays_nothing() -> None:
    with settings():
        deaf = Deaf(drive.app())
        peer = drive.communicator(Request(), application=deaf)
        assert (await peer.shake_hands()).accepted
        (connection,) = registry()
        deaf.is_deaf = True
        assert connection.sever(Denial(reason=Reason.BLOCKED, detail="test"))
        try:
            async with asyncio.timeout(1):
                await asyncio.shield(peer.future)
            assert len(registry()) == 0
        finally:
            deaf.released.set()
            await asyncio.wait({peer.future})
        (closed,) = [entry for entry in await drive.take_rows() if entry["kind"] == "connection.closed"]
        assert closed["reason"] == "blocked"
