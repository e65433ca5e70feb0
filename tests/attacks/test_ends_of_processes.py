"""What the audit trail has of sockets whose process ended under them."""

import asyncio
from typing import Any

import pytest

from channels_secure.connections import registry
from channels_secure.supervisor import record_ends
from channels_secure.testing import SecureCommunicator
from tests.sockets import Echo, connect, rows, until

pytestmark = pytest.mark.django_db(transaction=True)


class Slow(Echo):
    async def connect(self) -> None:
        await asyncio.Event().wait()


async def cut(socket: SecureCommunicator) -> None:
    """The event loop goes on in a test; its process would be over."""
    socket.future.cancel()
    await asyncio.wait({socket.future})


async def test_a_handshake_under_way_at_the_end_of_the_process_has_its_row() -> None:
    socket = connect(Slow)
    await socket.send_input({"type": "websocket.connect"})
    await until(lambda: len(registry()) == 1)
    record_ends()
    try:
        [row] = await rows()
    finally:
        await cut(socket)
    assert (row.kind, row.reason, row.ip) == ("handshake.denied", "server_restart", "192.0.2.1")
    assert row.detail["detail"] == "the process ended"


async def test_messages_refused_since_the_last_look_are_counted_at_the_end_of_the_process() -> None:
    class Hasty(Echo):
        message_rates = {"connection": "1/h", "user": None, "ip": None}
        error_budget = None

    socket = connect(Hasty)
    assert (await socket.shake_hands()).accepted
    for _ in range(5):
        await socket.send_json_to(1)
    for _ in range(5):
        await socket.receive_json_from()
    record_ends()
    try:
        found: list[Any] = await rows(kind="message.denied")
    finally:
        await cut(socket)
    assert sum(row.count for row in found) == 4
    assert {row.reason for row in found} == {"rate_limited"}
