"""Tickets through the whole stack: what the consumer sees of them, and what the client and the audit trail are told."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from channels_secure.auth.tickets import aissue_ticket
from channels_secure.blocklist import ablock
from channels_secure.models import Ticket
from channels_secure.revocation import arevoke_jti, arevoke_user_tokens
from channels_secure.testing import SecureCommunicator
from channels_secure.testing.communicator import Outcome
from tests.sockets import Echo, connect, only_connection, quiet, rows

__all__ = ["quiet"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


class Tell(Echo):
    """Tells what it sees of its own handshake."""

    allow_anonymous = False

    async def connect(self) -> None:
        await self.accept()
        headers = [value.decode() for _, value in self.scope["headers"]]
        await self.send_json(
            {
                "user": self.scope["user"].get_username(),
                "query": self.scope["query_string"].decode(),
                "subprotocols": self.scope["subprotocols"],
                "headers": headers,
                "session": await self.scope["session"].aget("_auth_user_id"),
            }
        )


async def alice() -> User:
    return await User.objects.acreate_user("alice", password="correct horse")


def come(ticket: str, *, query: str = "ticket={}", **options: Any) -> SecureCommunicator:
    return connect(Tell, f"/ws/?{query.format(ticket)}", **options)


async def refused(socket: SecureCommunicator) -> Outcome:
    outcome = await socket.shake_hands()
    assert not outcome.accepted
    return outcome


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("ticket={}", ""),
        ("a=1&ticket={}&b=%20x", "a=1&b=%20x"),
        ("%74icket={}", ""),
        ("a&ticke%74={}&", "a&"),
        ("a=ticket%3Dx&ticket={}&tickets=1", "a=ticket%3Dx&tickets=1"),
    ],
)
async def test_the_application_never_sees_a_ticket(query: str, left: str) -> None:
    ticket = await aissue_ticket(await alice())
    async with come(ticket, query=query) as socket:
        seen = await socket.receive_json_from()
    assert (seen["user"], seen["query"]) == ("alice", left)
    assert ticket not in json.dumps(seen)
    assert ticket not in repr(await rows())
    assert [event.detail.get("credentials") for event in await rows(kind="connection.accepted")] == ["ticket"]
    assert not [event for event in await rows() if ticket in json.dumps(event.detail) + event.path]


async def test_a_query_token_is_hidden_too_where_it_is_read(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TOKEN_SOURCES": ["query"]}
    ticket = await aissue_ticket(await alice())
    outcome = await refused(come(ticket, query="ticket={}&token=a.b.c"))
    assert outcome.error["code"] == "invalid_credentials"


async def test_a_ticket_as_a_subprotocol_is_neither_seen_nor_answered() -> None:
    ticket = await aissue_ticket(await alice())
    offered = ["channels-secure.v1", f"channels-secure.ticket.{ticket}"]
    socket = connect(Tell, "/ws/", subprotocols=offered)
    outcome = await socket.shake_hands()
    assert (outcome.accepted, outcome.subprotocol) == (True, "channels-secure.v1")
    seen = await socket.receive_json_from()
    assert seen["subprotocols"] == ["channels-secure.v1"]
    assert ticket not in json.dumps(seen)
    await socket.disconnect()


async def test_a_client_without_an_origin_may_come_with_a_ticket() -> None:
    user = await alice()
    async with come(await aissue_ticket(user), origin=None, cookies={"sessionid": "stale-cookie"}) as socket:
        assert (await socket.receive_json_from())["user"] == "alice"


async def test_the_socket_of_a_ticket_ends_with_the_session_it_was_issued_for() -> None:
    user, client = await alice(), Client()
    await client.aforce_login(user)
    key = (await client.asession()).session_key
    async with come(await aissue_ticket(user, session_key=key)) as socket:
        assert (await socket.receive_json_from())["session"] == str(user.pk)
        connection = only_connection()
        assert connection.session_digest is not None
        assert connection.expires_at is not None


async def test_a_used_a_forged_and_an_expired_ticket_are_told_the_same() -> None:
    user = await alice()
    used = await aissue_ticket(user)
    async with come(used) as socket:
        await socket.receive_json_from()
    expired = await aissue_ticket(user)
    await Ticket.objects.aupdate(expires_at="2020-01-01T00:00:00Z")
    wrong_path = await aissue_ticket(user, path="/elsewhere/")
    told = [await refused(come(ticket)) for ticket in (used, "T" * 43, "x", expired, wrong_path)]
    assert len({json.dumps(outcome.error) for outcome in told}) == 1
    assert {(outcome.code, outcome.reason) for outcome in told} == {(4401, "invalid_credentials")}
    details = [event.detail["detail"] for event in await rows(kind="credentials.failed")]
    assert details == ["ticket_unknown", "ticket_unknown", "ticket_malformed", "ticket_expired", "ticket_path"]


async def test_a_wrong_ticket_is_refused_in_spite_of_a_good_session() -> None:
    outcome = await refused(come("T" * 43, user=await alice()))
    assert outcome.error["code"] == "invalid_credentials"


async def test_two_tickets_are_a_bad_request() -> None:
    user = await alice()
    ticket, other = await aissue_ticket(user), await aissue_ticket(user)
    outcome = await refused(come(ticket, subprotocols=[f"channels-secure.ticket.{other}"]))
    assert (outcome.error["code"], outcome.code) == ("bad_request", 4400)


async def test_a_ticket_and_somebody_elses_session_are_ambiguous() -> None:
    ticket = await aissue_ticket(await alice())
    outcome = await refused(come(ticket, user=await User.objects.acreate_user("bob")))
    assert (outcome.error["code"], outcome.code) == ("ambiguous_credentials", 4401)


async def test_a_user_who_is_blocked_meanwhile_is_refused_and_the_ticket_burnt() -> None:
    user = await alice()
    ticket = await aissue_ticket(user)
    await ablock(user=user)
    assert (await refused(come(ticket))).error["code"] == "blocked"
    assert not await Ticket.objects.aexists()


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_revoking_the_token_revokes_its_ticket(all_of_them: bool) -> None:
    user = await alice()
    ticket = await aissue_ticket(user, jti="the-tokens-id", issued_at=1.0)
    await (arevoke_user_tokens(user) if all_of_them else arevoke_jti("the-tokens-id"))
    assert (await refused(come(ticket))).error["code"] == "invalid_credentials"
    assert not await Ticket.objects.aexists()


async def test_without_the_authenticator_a_ticket_opens_nothing(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"AUTHENTICATORS": ["channels_secure.auth.session.SessionAuthenticator"]}
    ticket = await aissue_ticket(await alice())
    assert (await refused(come(ticket))).error["code"] == "unauthenticated"
    assert await Ticket.objects.acount() == 1
