"""Reading stored rows in pages: without a model's cost, in constant memory, and past rows that cannot be read."""

from collections.abc import Iterator
from datetime import UTC, datetime

from django.conf import settings
from django.db import DatabaseError
from django.db.models import QuerySet

from channels_secure.audit.examining import COLUMNS, UNREADABLE, Stored
from channels_secure.models import AuditEvent

# Rows in memory at a time.
PAGE = 2000


def rows_after(using: str, position: int, page_size: int = PAGE) -> Iterator[Stored]:
    """Linked rows in their order, read in pages."""
    table = AuditEvent.objects.using(using).order_by("position")
    while page := page_of(table.filter(position__gt=position), page_size):
        yield from page
        if not isinstance(last := page[-1].position, int):
            return
        position = last


def first_after(using: str, position: int) -> Stored | None:
    """The row that comes next in the chain."""
    return next(rows_after(using, position, 1), None)


def page_of(rows: QuerySet[AuditEvent], size: int) -> list[Stored]:
    """A page; where one row cannot be read, which must not hide the others, row by row."""
    try:
        return [Stored(*values) for values in rows.values_list(*COLUMNS)[:size]]
    except (*UNREADABLE, DatabaseError):
        keys = list(rows.values_list("pk", "position", "hash")[:size])
    page = []
    for key, position, found in keys:
        try:
            page += [Stored(*values) for values in rows.filter(pk=key).values_list(*COLUMNS)]
        except (*UNREADABLE, DatabaseError):
            page.append(_unreadable(key, position, found))
    return page


def _unreadable(key: int, position: int | None, found: str) -> Stored:
    """A row of which nothing more can be read: no seal fits it."""
    never = datetime.max.replace(tzinfo=UTC if settings.USE_TZ else None)
    return Stored(key, position, found, False, "", "", "", never, never, 0, None, *[""] * (len(COLUMNS) - 11))
