"""Waiting for a peer that reads slowly, on a server that does not make us wait.

uvicorn's `send` waits while the socket's buffer is full. Daphne's never does: it hands everything to Twisted, which
keeps it in memory for as long as the peer does not read. Here the sender looks at Twisted's buffer and waits; the
deadline for sends then ends the connection as it does elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Bytes that may wait in the server: what uvicorn allows, with room for a frame of the usual limit.
HIGH_WATER = 256 << 10
POLL = 0.01


def protocol_of(send: Send) -> Any:
    """The Twisted protocol behind Daphne's `send`; None where `send` is another's, who may have wrapped it."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    return protocol if hasattr(protocol, "transport") else None


async def wait(protocol: Any) -> None:
    """Wait while the peer has too much to read."""
    if unsent(protocol) > HIGH_WATER:
        # Twisted writes when the event loop comes round to it.
        await asyncio.sleep(0)
    while unsent(protocol) > HIGH_WATER:  # noqa: ASYNC110 - Twisted tells its one producer, which is not us
        await asyncio.sleep(POLL)


def outlast_answers(protocol: Any) -> None:
    """Let a closing socket of Daphne's stay until its goodbye is written, and not for autobahn's second at most.

    autobahn then drops it with whatever Twisted still holds, and an event loop that closes many sockets at once comes
    to the writing later than that.
    """
    protocol.closeHandshakeTimeout = 0


def unsent(protocol: Any) -> int:
    """Bytes in Twisted's buffer for a protocol's socket; 0 where it has none, as after the end."""
    transport = protocol.transport
    # TLS is a transport around the socket's.
    while transport is not None and not hasattr(transport, "dataBuffer"):
        transport = getattr(transport, "transport", None)
    if transport is None or not getattr(transport, "connected", True):
        return 0
    return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)
