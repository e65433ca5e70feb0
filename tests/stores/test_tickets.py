"""Tickets in the shared store: out once, for whoever is first."""

import asyncio
from typing import Any

import pytest

from channels_secure.exceptions import Unavailable
from channels_secure.stores.base import Tickets
from channels_secure.stores.redis import RedisStore


@pytest.fixture
def tickets(redis_store: RedisStore) -> Tickets:
    assert redis_store.tickets is not None
    return redis_store.tickets


async def test_a_ticket_is_taken_out_once(tickets: Tickets) -> None:
    await tickets.put("digest", "content ä", 30)
    assert [await tickets.pop("digest") for _ in range(3)] == ["content ä", None, None]


async def test_of_racing_redemptions_one_wins(tickets: Tickets) -> None:
    for number in range(20):
        await tickets.put(f"digest{number}", "content", 30)
        answers = await asyncio.gather(*(tickets.pop(f"digest{number}") for _ in range(16)))
        assert sorted(answers, key=str) == [None] * 15 + ["content"]


async def read_then_delete(tickets: Tickets, client: Any, key: str) -> bool:
    found = client.get(key)
    await asyncio.sleep(0)
    client.delete(key)
    return found is not None


async def test_the_race_would_be_won_twice_by_reading_first_and_deleting_later(
    tickets: Tickets, client: Any, prefix: str
) -> None:
    """The control of the race above."""
    await tickets.put("digest", "content", 30)
    (key,) = client.scan_iter(f"{prefix}*")
    answers = await asyncio.gather(*(read_then_delete(tickets, client, key.decode()) for _ in range(16)))
    assert sum(answers) > 1


async def test_a_ticket_expires_by_itself(tickets: Tickets, client: Any, prefix: str) -> None:
    await tickets.put("digest", "content", 30)
    (key,) = client.scan_iter(f"{prefix}*")
    assert 29_000 < client.pttl(key) <= 30_000


async def test_a_ticket_is_never_overwritten(tickets: Tickets) -> None:
    await tickets.put("digest", "first", 30)
    await tickets.put("digest", "second", 30)
    assert await tickets.pop("digest") == "first"


def test_synchronous_code_puts_tickets_without_an_event_loop(redis_url: str, prefix: str, client: Any) -> None:
    tickets = RedisStore(location=redis_url, prefix=prefix).tickets
    assert tickets is not None
    tickets.put_now("digest", "content", 30)
    (key,) = client.scan_iter(f"{prefix}*")
    assert client.get(key) == b"content"


async def test_without_a_server_nothing_is_issued_and_nothing_redeemed() -> None:
    tickets = RedisStore(location="redis://127.0.0.1:1/0").tickets
    assert tickets is not None
    for _ in range(10):
        with pytest.raises(Unavailable):
            await tickets.pop("digest")
        with pytest.raises(Unavailable):
            await tickets.put("digest", "content", 30)
        with pytest.raises(Unavailable):
            tickets.put_now("digest", "content", 30)
