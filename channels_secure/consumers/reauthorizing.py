"""Asking `authorize()` again while a socket is open: between messages, as an event of the inbox, never beside one."""

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.db import InterfaceError, OperationalError

from channels_secure.connections import faults
from channels_secure.connections.connection import own_task
from channels_secure.connections.validity import answer
from channels_secure.policy.decisions import Denial, Reason

if TYPE_CHECKING:
    from channels_secure.consumers.consumer import SecureJsonConsumer

logger = logging.getLogger("channels_secure")

# Known by its identity: nobody who writes into a channel layer can make it.
AUTHORIZE: Final[dict[str, Any]] = {"type": "channels_secure.authorize"}


def prepare(consumer: "SecureJsonConsumer", base: "type[SecureJsonConsumer]") -> None:
    """Let re-validation reach a consumer: its scope, and its `authorize()` where the class has one of its own."""
    validity = consumer.connection.validity
    validity.scope = consumer.scope
    if consumer.reauthorize and type(consumer).authorize is not base.authorize:
        validity.summon = partial(consumer.inbox.put_first, AUTHORIZE)


async def authorize(consumer: "SecureJsonConsumer") -> None:
    """Ask once more, under the deadline for handlers; False ends the socket, and so does whatever is raised.

    A database that is away is no answer: the socket stays until REVALIDATE_GRACE is over.
    """
    connection = consumer.connection
    asked, could_ask = connection.validity.take(), True
    connection.handler_since = time.monotonic()
    try:
        if not connection.ended and not await consumer.authorize():
            connection.sever(Denial(reason=Reason.PERMISSION_DENIED, detail="authorize"))
    except (OperationalError, InterfaceError) as error:
        could_ask = False
        logger.warning("authorize.unanswered", extra={"error": type(error).__name__, "connection_id": connection.id})
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and own_task().cancelling():
            raise
        faults.end(connection, error)
    finally:
        connection.handler_since = None
        answer(asked, could_ask)
        if connection.ended:
            connection.interrupt()
