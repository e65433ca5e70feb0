"""Peers that vanish with a full buffer on Daphne: nobody waits for what can never be sent."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure

from channels_secure.connections.backpressure import HIGH_WATER, unsent, wait

FULL = HIGH_WATER + 1
# Twisted leaves these untyped.
REACTOR: Any = MemoryReactor
FAILURE: Any = Failure


def transport(*, connected: bool) -> Any:
    """Twisted's own, with a buffer, before or after the end of its socket."""
    made: Any = FileDescriptor(reactor=REACTOR())
    made.connected = 1
    made.write(b"x" * FULL)
    if not connected:
        made.connectionLost(FAILURE(ConnectionLost()))
    return made


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def wrap(request: pytest.FixtureRequest) -> Any:
    """What makes the protocol of a transport; with TLS there is another one around it."""
    if not request.param:
        return lambda inner: SimpleNamespace(transport=inner)
    return lambda inner: SimpleNamespace(transport=SimpleNamespace(transport=inner))


def test_what_waits_for_a_connected_peer_is_counted(wrap: Any) -> None:
    assert unsent(wrap(transport(connected=True))) == FULL


def test_what_waits_for_a_peer_that_has_vanished_is_nothing(wrap: Any) -> None:
    gone = transport(connected=False)
    assert gone._tempDataLen == FULL, "Twisted keeps what it could not send"
    assert unsent(wrap(gone)) == 0


async def test_a_sender_who_waits_is_let_go_when_the_peer_vanishes(wrap: Any) -> None:
    inner = transport(connected=True)
    sender = asyncio.create_task(wait(wrap(inner)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not sender.done()
    inner.connectionLost(FAILURE(ConnectionLost()))
    async with asyncio.timeout(1):
        await sender
