"""A sender that lets others run between two frames is not a peer that does not read."""

import asyncio

import pytest

from channels_secure.connections import outbox
from channels_secure.connections.connection import YIELD_MASK
from tests.sockets import Echo, connect, only_connection, quiet  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


async def test_a_burst_after_a_busy_turn_of_the_loop_cuts_nobody_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the turn took in which the sender stepped aside: its frame had been sent before."""
    monkeypatch.setattr(outbox, "STALL", 0.0)
    async with connect(Echo) as socket:
        connection = only_connection()
        connection.sent = YIELD_MASK
        connection.post('"first"')
        while connection.sent == YIELD_MASK:
            await asyncio.sleep(0)
        for n in range(outbox.MAX_FRAMES + 1):
            connection.post(str(n))
        assert not connection.ended
        assert await socket.receive_json_from() == "first"
        assert [await socket.receive_json_from() for _ in range(65)] == list(range(65))
