"""Broadcasts in bursts, and one that no server can send: who reads is not cut, and nobody falls silent unnoticed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from channels.layers import get_channel_layer

from channels_secure.connections import outbox
from channels_secure.groups import BROADCAST, broadcast
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import Echo, connect, logged, only_connection, quiet, rows  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

Change = Callable[[Callable[[Any], Awaitable[None]], Any], Awaitable[None]]


class Member(Echo):
    groups = ["lobby"]


def serving(change: Change) -> SecureCommunicator:
    """A member behind a server whose `send` does something more."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def changed(event: Any) -> None:
            await change(send, event)

        await guarded(Member.as_asgi())(scope, receive, changed)

    return SecureCommunicator(application, "/ws/")


async def drains(send: Callable[[Any], Awaitable[None]], event: Any) -> None:
    """As every server's `send` while it waits for its turn to write, though the peer reads."""
    await asyncio.sleep(0)
    await send(event)


async def encodes(send: Callable[[Any], Awaitable[None]], event: Any) -> None:
    """As every server's `send`: what it sends is UTF-8."""
    (event.get("text") or "").encode()
    await send(event)


@pytest.mark.parametrize("count", [outbox.MAX_FRAMES + 1, outbox.MAX_FRAMES * outbox.BURST])
async def test_a_burst_while_a_frame_is_being_sent_cuts_nobody_who_reads(count: int) -> None:
    """The loop is busy: everything is posted before the sender has its next turn."""
    socket = serving(drains)
    assert (await socket.shake_hands()).accepted
    connection = only_connection()
    connection.post('"first"')
    while not connection.sending:
        await asyncio.sleep(0)
    for n in range(count):
        connection.post(str(n))
    assert not connection.ended
    assert await socket.receive_json_from() == "first"
    assert [await socket.receive_json_from() for _ in range(count)] == list(range(count))
    await socket.disconnect()


async def test_a_burst_has_an_end_too() -> None:
    """What waits in memory is bounded, whoever is late."""
    socket = connect(Member)
    assert (await socket.shake_hands()).accepted
    connection = only_connection()
    posted = 0
    while not connection.ended:
        connection.post(str(posted))
        posted += 1
    assert posted == outbox.MAX_FRAMES * outbox.BURST + 1
    await socket.closing()
    assert [row.reason for row in await rows(kind="connection.closed")] == ["slow_consumer"]


async def test_a_broadcast_that_no_server_can_send_ends_the_connection_aloud(caplog: pytest.LogCaptureFixture) -> None:
    """A lone surrogate may come through the layer: from another process, in an event that is not our own."""
    socket = serving(encodes)
    assert (await socket.shake_hands()).accepted
    await get_channel_layer().group_send("lobby", {"type": BROADCAST, "text": '"\ud800"'})
    assert await socket.closing(1) == (4500, "internal_error")
    assert "broadcast.failed" in logged(caplog)
    [closed] = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["detail"]) == ("internal_error", "a broadcast could not be sent")


async def test_the_package_itself_sends_no_lone_surrogate() -> None:
    socket = serving(encodes)
    assert (await socket.shake_hands()).accepted
    with pytest.raises(UnicodeEncodeError):
        await broadcast("lobby", {"text": "\ud800"})
    await broadcast("lobby", {"text": "well"})
    assert await socket.receive_json_from() == {"text": "well"}
    await socket.disconnect()
