"""Who is blocked does not get in, and does not stay: rows of the address and of the user, through the communicator."""

import logging

import pytest
from django.test import override_settings

from channels_secure import blocklist, database
from channels_secure.policy.decisions import RULES, Reason
from tests.conformance import drive
from tests.conformance.handshakes import bearer
from tests.conformance.table import Request
from tests.conformance.test_faults import row, rows_of, settings
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = {"POLICY_REFRESH_INTERVAL": 0.05}


@row(
    "blocked-address",
    50,
    "a blocked network, from addresses inside it in several spellings",
    "403 before accept for every one, browser or not; its neighbours are served",
)
async def test_a_blocked_address_is_refused_in_every_spelling() -> None:
    with settings(**QUICK):
        await blocklist.ablock(network="203.0.113.64/26")
        await blocklist.ablock(network="2001:db8:5::9")
        for address, accepted in {
            "203.0.113.64": False,
            "203.0.113.127": False,
            "::ffff:203.0.113.99": False,
            "::ffff:cb00:7163": False,
            "2001:db8:5::1": False,
            "2001:db8:5:0:ffff::": False,
            "203.0.113.63": True,
            "203.0.113.128": True,
            "2001:db8:5:1::9": True,
        }.items():
            peer = drive.communicator(Request(), client=address)
            outcome = await peer.shake_hands()
            assert outcome.accepted is accepted, (address, outcome)
            if accepted:
                await peer.disconnect()
            else:
                assert outcome.status == 403
                drive.check_error_frame(outcome.error, Reason.BLOCKED, fatal=True)
        denied = await rows_of("handshake.denied")
        assert {reason for _, reason, _ in denied} == {"blocked"}
        assert sum(count for _, _, count in denied) == 6


@row(
    "blocked-address-behind-proxy",
    50,
    "a blocked address that a trusted proxy names, and one that a stranger names",
    "403 for the first; the second is about the stranger's own address",
)
async def test_a_block_follows_the_client_through_a_proxy() -> None:
    with settings(**QUICK, TRUSTED_PROXIES=["192.0.2.0/24"]):
        await blocklist.ablock(network="6.6.6.6")
        for client, forwarded, accepted in (
            ("192.0.2.1", b"6.6.6.6", False),
            ("192.0.2.1", b"7.7.7.7, 6.6.6.6", False),
            ("192.0.2.1", b"::ffff:6.6.6.6", False),
            ("192.0.2.1", b"6.6.6.6, 7.7.7.7", True),
            ("198.51.100.1", b"6.6.6.6", True),
            ("6.6.6.6", b"7.7.7.7", False),
        ):
            peer = drive.communicator(Request(headers=((b"x-forwarded-for", forwarded),)), client=client)
            outcome = await peer.shake_hands()
            assert outcome.accepted is accepted, (client, forwarded)
            if accepted:
                await peer.disconnect()


@row(
    "forwarded-rate",
    48,
    "handshakes of one client through a trusted proxy, with changing lies to the left of it",
    "one budget, the client's own; the proxy's other clients are served",
)
async def test_a_rate_follows_the_client_through_a_proxy() -> None:
    with settings(TRUSTED_PROXIES=["192.0.2.0/24"], HANDSHAKE_RATES={"ip": "2/m", "user": None}):
        outcomes = []
        for forwarded in (b"6.6.6.6", b"1.1.1.1, 6.6.6.6", b"2.2.2.2, ::ffff:6.6.6.6", b"6.6.6.6, 7.7.7.7"):
            peer = drive.communicator(Request(headers=((b"x-forwarded-for", forwarded),)), client="192.0.2.1")
            outcome = await peer.shake_hands()
            outcomes.append(outcome.status)
            if outcome.accepted:
                await peer.disconnect()
        assert outcomes == [None, None, 429, None]


@row(
    "blocked-address-costs-nothing",
    50,
    "a blocked address with a session cookie and a token",
    "refused before any credential is looked at",
)
async def test_a_blocked_address_costs_no_query(caplog: pytest.LogCaptureFixture) -> None:
    with settings(), override_settings(DEBUG=True):
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        request = Request(path="/typed/", cookies=cookies, headers=bearer(world.token()))
        await blocklist.ablock(network="203.0.113.7")
        await blocklist.refresh()
        caplog.set_level(logging.DEBUG, logger="django.db.backends")
        for client, status, asks in (("203.0.113.7", 403, False), ("203.0.113.8", None, True)):
            caplog.clear()
            peer = drive.communicator(request, client=client)
            outcome = await peer.shake_hands()
            asked = [r.getMessage() for r in caplog.records if r.name == "django.db.backends"]
            assert outcome.status == status
            assert bool([text for text in asked if "django_session" in text or "auth_user" in text]) is asks
        await peer.disconnect()


@row(
    "blocked-user",
    50,
    "a blocked user with a session, with a token, from a browser and from a program",
    "4423 on an accepted socket for the browser, 403 for the program; another user is served",
)
async def test_a_blocked_user_is_refused_whatever_the_credential() -> None:
    with settings(**QUICK):
        world = await database.run(World)
        await blocklist.ablock(user=world.alice)
        cookies = await database.run(world.session, world.alice)
        token = bearer(world.token())
        for request in (
            Request(path="/typed/", cookies=cookies),
            Request(path="/typed/", headers=token),
            Request(path="/typed/", cookies=cookies, headers=token),
            Request(path="/open/", cookies=cookies),
            Request(path="/foreign/", cookies=cookies),
        ):
            outcome = await drive.communicator(request).shake_hands()
            assert (outcome.accepted, outcome.code, outcome.reason) == (False, RULES[Reason.BLOCKED].close, "blocked")
            drive.check_error_frame(outcome.error, Reason.BLOCKED, fatal=True)
        program = await drive.communicator(Request(path="/typed/", origin=None, headers=token)).shake_hands()
        assert (program.accepted, program.status) == (False, 403)
        other = drive.communicator(Request(path="/typed/", headers=bearer(world.token(world.bob))))
        assert (await other.shake_hands()).accepted
        await other.disconnect()


@row(
    "blocked-while-open",
    50,
    "a user and an address are blocked while their sockets are open, one of them in a handler that hangs",
    "4423 blocked within a second of the commit; another's socket is served",
)
async def test_open_sockets_of_the_blocked_are_cut() -> None:
    with settings(**QUICK, ALLOW_ANONYMOUS=True):
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        bystander = drive.communicator(Request(path="/echo/"))
        idle = drive.communicator(Request(path="/typed/", cookies=cookies))
        busy = drive.communicator(Request(path="/odd/", cookies=cookies))
        foreign = drive.communicator(Request(path="/foreign/", cookies=cookies))
        address = drive.communicator(Request(path="/echo/"), client="203.0.113.9")
        for peer in (bystander, idle, busy, foreign, address):
            assert (await peer.shake_hands()).accepted
        await drive.send(busy, '{"type":"hang"}')
        await blocklist.ablock(user=world.alice)
        await blocklist.ablock(network="203.0.113.9")
        for peer in (idle, busy, foreign, address):
            assert await peer.closing(1) == (4423, "blocked")
        await drive.send(bystander, "1")
        assert await drive.receive(bystander) == 1
        await bystander.disconnect()
        closed = [reason for kind, reason, _ in await rows_of("connection.closed")]
        assert sorted(closed) == ["", "blocked", "blocked", "blocked", "blocked"]
