"""What an exception of application code means for its connection."""

import asyncio
import logging

from django.db import Error as DatabaseTrouble

from channels_secure.connections.connection import Connection
from channels_secure.exceptions import Denied, PeerGone
from channels_secure.policy.decisions import Denial, Reason

logger = logging.getLogger("channels_secure")


def end(connection: Connection, error: BaseException) -> None:
    """End a connection because of what its application raised; the client learns no more than a generic text."""
    if isinstance(error, PeerGone):
        connection.ended = True
        return
    if isinstance(error, Denied):
        denial = error.denial
    elif is_missing_route(error):
        denial = Denial(reason=Reason.NOT_FOUND)
    elif isinstance(error, DatabaseTrouble) and not connection.accepted:
        logger.error("database.unavailable", extra={"error": type(error).__name__})
        denial = Denial(reason=Reason.UNAVAILABLE, detail=type(error).__name__)
    else:
        logger.error("application.failed", exc_info=error, extra={"connection_id": connection.id})
        denial = Denial(reason=Reason.INTERNAL_ERROR, detail=type(error).__name__)
    if asyncio.current_task() is connection.task:
        connection.deny(denial)
    else:
        connection.sever(denial)


def is_missing_route(error: BaseException) -> bool:
    """Whether Channels' URLRouter found no route; it says so by a bare ValueError of its own module."""
    if not isinstance(error, ValueError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "channels.routing"
