"""Many come with one ticket at the same time: one of them gets in."""

import asyncio
import threading
from collections.abc import Iterator
from secrets import token_hex

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from channels_secure import database
from channels_secure.auth import shelves
from channels_secure.auth.base import Identity
from channels_secure.auth.tickets import TicketAuthenticator, aissue_ticket, issue_ticket
from channels_secure.models import Ticket
from channels_secure.stores import get_store
from tests.auth.handshakes import shake

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 300.0


async def race(tickets: list[str], racers: int) -> list[int]:
    """How many of the racing handshakes with each ticket were let in."""

    async def redeem(ticket: str) -> int:
        answer = await TicketAuthenticator().authenticate(shake(query={"ticket": ticket}))
        return isinstance(answer, Identity)

    answers = await asyncio.gather(*(redeem(ticket) for ticket in tickets for _ in range(racers)))
    return [sum(answers[start : start + racers]) for start in range(0, len(answers), racers)]


async def issue(count: int) -> list[str]:
    user = await User.objects.acreate_user("alice")
    # A busy machine takes more than the usual thirty seconds.
    return [await aissue_ticket(user, lifetime=3600) for _ in range(count)]


async def test_of_a_thousand_tickets_that_many_race_for_each_is_accepted_once() -> None:
    async with asyncio.timeout(PATIENCE):
        assert await race(await issue(1000), 4) == [1] * 1000
    assert not await Ticket.objects.aexists()


async def test_the_same_holds_where_a_store_that_processes_share_keeps_them(settings: Settings, redis_url: str) -> None:
    settings.CHANNELS_SECURE = {
        "STORE": {
            "BACKEND": "channels_secure.stores.redis.RedisStore",
            "LOCATION": redis_url,
            "PREFIX": f"test-{token_hex(4)}:",
            "SOCKET_TIMEOUT": PATIENCE,
        }
    }
    tickets = await issue(200)
    user = await User.objects.aget()
    tickets.append(await database.run(issue_ticket, user))
    assert not await Ticket.objects.aexists()
    async with asyncio.timeout(PATIENCE):
        assert await race(tickets, 4) == [1] * 201
    await get_store().rest()


@pytest.fixture
def both_have_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody deletes a row before both readers have read it: the worst that scheduling can do."""
    find, meeting = shelves._find, threading.Barrier(database.THREADS[database.READERS], timeout=PATIENCE)

    def find_together(digest: str) -> Ticket | None:
        row = find(digest)
        meeting.wait()
        return row

    monkeypatch.setattr(shelves, "_find", find_together)
    yield
    meeting.abort()


async def race_in_step(count: int) -> int:
    return sum([(await race([ticket], database.THREADS[database.READERS]))[0] for ticket in await issue(count)])


async def test_whoever_has_read_the_row_has_not_won_yet(both_have_read: None) -> None:
    assert await race_in_step(20) == 20


async def test_that_race_catches_a_redemption_that_does_not_count_what_it_deleted(
    both_have_read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = shelves._delete

    def delete_without_counting(digest: str) -> int:
        delete(digest)
        return 1

    monkeypatch.setattr(shelves, "_delete", delete_without_counting)
    assert await race_in_step(20) == 40
