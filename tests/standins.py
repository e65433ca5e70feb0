"""Connections that no handshake has made, for what looks at thousands of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from channels_secure.auth.base import Identity
from channels_secure.conf import get_settings
from channels_secure.connections import Connection
from channels_secure.limits import limits_of
from channels_secure.middleware import read_handshake


def scope_of(address: str = "192.0.2.1") -> dict[str, Any]:
    return {"type": "websocket", "path": "/ws/", "headers": [], "query_string": b"", "client": [address, 1]}


def stand_in(
    scope: dict[str, Any], send: Callable[[Any], Awaitable[None]], identity: Identity | None = None, **more: Any
) -> Connection:
    """An open connection, in no registry, whose peer says nothing and is told by `send`."""
    settings = get_settings()

    async def receive() -> Any:
        await asyncio.Event().wait()

    connection = Connection(
        handshake=read_handshake(scope, settings),
        scope=scope,
        server_receive=receive,
        server_send=send,
        settings=settings,
        limits=limits_of(settings),
        **more,
    )
    connection.accepted = True
    if identity is not None:
        connection.identify(identity)
    return connection
