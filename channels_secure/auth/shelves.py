"""Where tickets wait until somebody redeems them: in the store that all processes share, or else in the database."""

import logging
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from django.db import Error as DatabaseTrouble
from django.db import router
from django.utils import timezone
from django.utils.asyncio import async_unsafe

from channels_secure import database
from channels_secure.exceptions import Unavailable
from channels_secure.models import Ticket
from channels_secure.stores import get_store
from channels_secure.stores.base import Tickets

logger = logging.getLogger("channels_secure")

T = TypeVar("T")
# What `pop` answers for a ticket that is still there although its time is over.
EXPIRED = ""
# Rows that the janitor deletes at once.
BATCH = 500


class DatabaseShelf:
    """The table `Ticket`, which serves every process without any shared store."""

    async def put(self, digest: str, content: str, lifetime: float) -> None:
        await database.write(self.put_now, digest, content, lifetime)

    def put_now(self, digest: str, content: str, lifetime: float) -> None:
        row = Ticket(digest=digest, content=content, expires_at=timezone.now() + timedelta(seconds=lifetime))
        row.save(using=router.db_for_write(Ticket), force_insert=True)

    async def pop(self, digest: str) -> str | None:
        # Asked first: whoever guesses tickets must not queue up where rows are changed.
        row = await database.run(_find, digest)
        if row is None or not await database.write(_delete, digest):
            return None
        return row.content if row.expires_at > timezone.now() else EXPIRED


def _find(digest: str) -> Ticket | None:
    # The primary: a replica may not know a ticket yet that was issued just now.
    return Ticket.objects.using(router.db_for_write(Ticket)).filter(pk=digest).first()


def _delete(digest: str) -> int:
    """How many rows went: the database counts a row for one of its racing deletions only."""
    return Ticket.objects.using(router.db_for_write(Ticket)).filter(pk=digest).delete()[0]


def delete_expired() -> int:
    """Delete some of the tickets that nobody has redeemed in time; returns how many, at most 500."""
    rows = Ticket.objects.using(router.db_for_write(Ticket))
    digests = list(rows.filter(expires_at__lte=timezone.now()).values_list("pk", flat=True)[:BATCH])
    return rows.filter(pk__in=digests).delete()[0] if digests else 0


@async_unsafe("Tickets are issued with aissue_ticket() inside a running event loop.")
def keep(digest: str, content: str, lifetime: float) -> None:
    """Store a ticket, from synchronous code; in the database with the caller's connection and transaction.

    Raises:
        Unavailable: the store or the database is away.
    """
    try:
        _shelf().put_now(digest, content, lifetime)
    except Unavailable:
        raise
    except Exception as error:
        raise _trouble(error) from error


async def akeep(digest: str, content: str, lifetime: float) -> None:
    """`keep()` from the event loop."""
    await _reaching(_shelf().put(digest, content, lifetime))


async def redeem(digest: str) -> str | None:
    """Take out what is stored for a ticket, which is used up by that whatever happens next.

    Raises:
        Unavailable: nobody can say whether it has been used.
    """
    return await _reaching(_shelf().pop(digest))


def _shelf() -> Tickets:
    shared: Tickets | None = getattr(get_store(), "tickets", None)
    return DatabaseShelf() if shared is None else shared


async def _reaching(call: Awaitable[T]) -> T:
    try:
        return await call
    except Unavailable:
        raise
    except Exception as error:
        raise _trouble(error) from error


def _trouble(error: Exception) -> Unavailable:
    where = "database" if isinstance(error, DatabaseTrouble) else "store"
    logger.error("tickets.unavailable", extra={"error": type(error).__name__})
    return Unavailable(f"the {where} that keeps tickets is away")
