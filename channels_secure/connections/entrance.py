"""The last two questions before an accept: may somebody anonymous enter, and which subprotocol is spoken."""

import logging
from typing import TYPE_CHECKING

from channels_secure.auth.subprotocols import SUBPROTOCOL
from channels_secure.policy.decisions import Denial, Reason

if TYPE_CHECKING:
    from channels_secure.connections.connection import Connection

logger = logging.getLogger("channels_secure")


def anonymous_denial(connection: "Connection") -> Denial | None:
    """Why an anonymous identity may not enter, now that it is known which consumer it asked for."""
    if connection.identity is None or not connection.identity.is_anonymous:
        return None
    if not connection.limits.allow_anonymous:
        return Denial(reason=Reason.UNAUTHENTICATED)
    if connection.handshake.origin_missing and connection.settings.allow_missing_origin != "always":
        return Denial(reason=Reason.ORIGIN_MISSING, visible=False)
    return None


def choose_subprotocol(connection: "Connection", chosen: str | None) -> str | None:
    """The application's choice wins; one that was not offered would break the handshake (RFC 6455 section 4.1)."""
    if chosen is not None and chosen in connection.offered:
        return chosen
    if chosen is not None:
        logger.warning("subprotocol.not_offered", extra={"connection_id": connection.id})
    return SUBPROTOCOL if SUBPROTOCOL in connection.handshake.subprotocols else None
