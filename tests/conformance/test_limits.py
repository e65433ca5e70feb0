"""Rows about how many may be connected: who is refused, and who makes room for whom."""

import asyncio
from typing import Any

import pytest

from channels_secure import database
from channels_secure.connections import registry
from channels_secure.testing import Outcome, SecureCommunicator
from tests.conformance import drive
from tests.conformance.handshakes import bearer
from tests.conformance.table import Request
from tests.conformance.test_faults import row, settings
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)
LIMITED = (4409, "connection_limit")
REPLACED = (4409, "connection_replaced")
HERE = "203.0.113.50"


async def opened(peers: list[SecureCommunicator]) -> list[Outcome]:
    return list(await asyncio.gather(*(peer.shake_hands() for peer in peers)))


async def close(peers: list[SecureCommunicator], outcomes: list[Outcome]) -> None:
    for peer, outcome in zip(peers, outcomes, strict=True):
        if outcome.accepted:
            await peer.disconnect()


@row(
    "connection-limit-address",
    51,
    "60 handshakes of one address at once, MAX_CONNECTIONS is 10; then as programs",
    "10 accepted, 50 refused: 4409 connection_limit, 429 for programs; another address is served",
)
async def test_the_limit_of_an_address_is_exact() -> None:
    with settings(MAX_CONNECTIONS={"user": None, "ip": 10}):
        world = await database.run(World)
        token = bearer(world.token())
        for origin, refusal in (("https://example.com", (None, *LIMITED)), (None, (429, None, ""))):
            request = Request(path="/rooms/", origin=origin, headers=token)
            peers = [drive.communicator(request, client=HERE) for _ in range(60)]
            outcomes = await opened(peers)
            assert [outcome.accepted for outcome in outcomes].count(True) == 10
            refused = [outcome for outcome in outcomes if not outcome.accepted]
            assert {(each.status, each.code, each.reason) for each in refused} == {refusal}
            other = drive.communicator(request, client="203.0.113.51")
            assert (await other.shake_hands()).accepted
            await other.disconnect()
            await close(peers, outcomes)
            assert len(registry()) == 0


@row(
    "connection-limit-racing",
    51,
    "53 handshakes of one user at once, MAX_CONNECTIONS is 3",
    "3 accepted, 50 refused; another user is served",
)
async def test_the_limit_of_a_user_is_exact() -> None:
    with settings(MAX_CONNECTIONS={"user": 3, "ip": None}):
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        peers = [drive.communicator(Request(path="/typed/", cookies=cookies)) for _ in range(53)]
        outcomes = await opened(peers)
        assert [outcome.accepted for outcome in outcomes].count(True) == 3
        assert {(each.code, each.reason) for each in outcomes if not each.accepted} == {LIMITED}
        other = drive.communicator(Request(path="/typed/", headers=bearer(world.token(world.bob))))
        assert (await other.shake_hands()).accepted
        await other.disconnect()
        await close(peers, outcomes)


@row(
    "close-oldest",
    51,
    "one socket more than MAX_CONNECTIONS of a user, CONNECTION_OVERFLOW is `close_oldest`",
    "let in; the user's oldest is closed with 4409 connection_replaced, and no other",
)
async def test_the_oldest_socket_of_a_user_makes_room() -> None:
    with settings(MAX_CONNECTIONS={"user": 2, "ip": None}, CONNECTION_OVERFLOW="close_oldest"):
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        other = drive.communicator(Request(path="/typed/", headers=bearer(world.token(world.bob))))
        oldest, middle, newest = (drive.communicator(Request(path="/typed/", cookies=cookies)) for _ in range(3))
        for peer in (other, oldest, middle, newest):
            assert (await peer.shake_hands()).accepted
        assert await oldest.closing(1) == REPLACED
        for peer in (other, middle, newest):
            await drive.send(peer, '{"type":"nothing"}')
            assert (await drive.receive(peer))["to"] == "nothing"
            await peer.disconnect()


@row(
    "close-oldest-of-another",
    51,
    "an address over its limit, `close_oldest`: a user without a socket there, then one with a socket",
    "4409 connection_limit for the first, nobody is cut; the second replaces its own",
)
async def test_nobody_replaces_the_socket_of_another() -> None:
    with settings(MAX_CONNECTIONS={"user": None, "ip": 2}, CONNECTION_OVERFLOW="close_oldest"):
        world = await database.run(World)

        def of(user: Any) -> SecureCommunicator:
            request = Request(path="/typed/", headers=bearer(world.token(user)))
            return drive.communicator(request, client=HERE)

        alice, bob = of(world.alice), of(world.bob)
        for peer in (alice, bob):
            assert (await peer.shake_hands()).accepted
        stranger = await of(world.dave).shake_hands()
        assert (stranger.accepted, stranger.code, stranger.reason) == (False, *LIMITED)
        again = of(world.bob)
        assert (await again.shake_hands()).accepted
        assert await bob.closing(1) == REPLACED
        for peer in (alice, again):
            await drive.send(peer, '{"type":"nothing"}')
            assert (await drive.receive(peer))["to"] == "nothing"
            await peer.disconnect()


@row(
    "close-oldest-refused",
    51,
    "a handshake that authorize() refuses, of a user at the limit, `close_oldest`",
    "403; the user's socket stays",
)
async def test_a_refused_handshake_replaces_nobody() -> None:
    with settings(MAX_CONNECTIONS={"user": 1, "ip": None}, CONNECTION_OVERFLOW="close_oldest"):
        world = await database.run(World)
        token = bearer(world.token())
        peer = drive.communicator(Request(path="/typed/", headers=token))
        assert (await peer.shake_hands()).accepted
        refused = await drive.communicator(Request(path="/authorize/false/", headers=token)).shake_hands()
        assert (refused.accepted, refused.code) == (False, 4403)
        await drive.send(peer, '{"type":"nothing"}')
        assert (await drive.receive(peer))["to"] == "nothing"
        await peer.disconnect()


@row(
    "close-oldest-anonymous",
    51,
    "an anonymous socket over the limit of its address, `close_oldest`: beside a user, then beside an anonymous one",
    "4409 connection_limit for both: somebody anonymous replaces nobody",
)
@pytest.mark.parametrize("user", ["alice", None])
async def test_nobody_anonymous_replaces_anybody(user: str | None) -> None:
    with settings(MAX_CONNECTIONS={"user": None, "ip": 1}, CONNECTION_OVERFLOW="close_oldest"):
        world = await database.run(World)
        headers = () if user is None else bearer(world.token(world.alice))
        first = drive.communicator(Request(headers=headers), client=HERE)
        assert (await first.shake_hands()).accepted
        outcome = await drive.communicator(Request(), client=HERE).shake_hands()
        assert (outcome.accepted, outcome.code, outcome.reason) == (False, *LIMITED)
        await drive.send(first, '{"type":"nothing"}')
        assert (await drive.receive(first))["to"] == "nothing"
        await first.disconnect()
