"""Around an accept: may somebody anonymous enter, which subprotocol is spoken, and what is said first."""

import logging
import time
from typing import TYPE_CHECKING, Any

from channels_secure.auth.subprotocols import SUBPROTOCOL
from channels_secure.exceptions import PeerGone
from channels_secure.policy.decisions import Denial, Reason

if TYPE_CHECKING:
    from channels_secure.connections.connection import Connection, Event, Receive, Send

logger = logging.getLogger("channels_secure")


async def refuse_unguarded(receive: "Receive", send: "Send") -> None:
    """Close a socket of which nobody has asked anything: its route is outside the stack."""
    logger.error("consumer.unguarded: wrap the WebSocket routes in SecureMiddlewareStack")
    await receive()
    await send({"type": "websocket.close", "code": Denial(reason=Reason.INTERNAL_ERROR).rule.close})


async def accept(connection: "Connection", event: "Event") -> None:
    """Accept as the application asked, unless somebody anonymous may not enter.

    It is recorded first, so that no crash comes between what the peer knows and what the trail has. A peer that has
    left meanwhile then has a beginning and an end there all the same.

    Raises:
        PeerGone: the socket has ended.
        RuntimeError: it was accepted or refused before.
    """
    if connection.accepted or connection.beginning_recorded:
        raise RuntimeError("the connection has been accepted already")
    if connection.end_recorded:
        raise RuntimeError("the connection has been refused already")
    denial = anonymous_denial(connection)
    if denial is not None:
        connection.deny(denial)
        raise PeerGone
    if connection.before_accept is not None:
        connection.before_accept(connection)
    await connection.transmit({**event, "subprotocol": choose_subprotocol(connection, event.get("subprotocol"))})
    connection.accepted = True
    connection.sent = 0
    connection.heard_at = time.monotonic()
    if connection.on_accept is not None:
        connection.on_accept(connection)
    if connection.limits.send_hello:
        await connection.send_frame(hello(connection))
    if connection.outbox is not None:
        connection.outbox.resume()


def anonymous_denial(connection: "Connection") -> Denial | None:
    """Why an anonymous identity may not enter, now that it is known which consumer it asked for."""
    if connection.identity is None or not connection.identity.is_anonymous:
        return None
    if not connection.limits.allow_anonymous:
        return Denial(reason=Reason.UNAUTHENTICATED)
    if connection.handshake.origin_missing and connection.settings.allow_missing_origin != "always":
        return connection.unless_reported(Denial(reason=Reason.ORIGIN_MISSING, visible=False))
    return None


def choose_subprotocol(connection: "Connection", chosen: str | None) -> str | None:
    """The application's choice wins; one that was not offered would break the handshake (RFC 6455 section 4.1)."""
    if chosen is not None and chosen in connection.offered:
        return chosen
    if chosen is not None:
        logger.warning("subprotocol.not_offered", extra={"connection_id": connection.id})
    return SUBPROTOCOL if SUBPROTOCOL in connection.offered else None


def hello(connection: "Connection") -> dict[str, Any]:
    """The first frame of a socket that was let in: what its client needs to know of the limits."""
    left = None if connection.expires_at is None else max(0, round(connection.expires_at - time.monotonic()))
    return {
        "type": "hello",
        "connection_id": connection.id,
        "heartbeat_interval": connection.limits.deadlines.heartbeat,
        "max_message_size": connection.limits.max_message_size,
        "expires_in": left,
    }
