"""Exports of the trail: page by page in constant memory, and never without an event that says so.

An export has every row that its filters let through and that was committed when it began, each once, in the order of
`created_at` and `id`; nothing that was inserted later, told by the `id`, not by the clock of whoever wrote it. A row
is given as it is when its page is read: a sum may have grown, a row that waited may have been linked by then, and what
is pruned meanwhile is missing.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Unpack

from django.db.models import Q, QuerySet

from channels_secure import database
from channels_secure.audit import chain, flushing
from channels_secure.audit.formats import Format
from channels_secure.audit.recorder import Facts, write
from channels_secure.models import AuditEvent

PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export that the trail knows of. `rows` is how many there were when it began."""

    shape: Format
    rows: int
    queryset: QuerySet[AuditEvent]

    def __iter__(self) -> Iterator[bytes]:
        """The file in pieces, each of which needs the database once."""
        yield self.shape.head
        after: tuple[datetime, int] | None = None
        while page := list(_page(self.queryset, after)):
            yield self.shape.body(page)
            after = page[-1].created_at, page[-1].pk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The same from the event loop, without holding up handshakes."""
        pieces = iter(self)
        while (piece := await database.review(next, pieces, None)) is not None:
            yield piece


def begin(rows: QuerySet[AuditEvent], shape: Format, *, filters: Mapping[str, Any], **facts: Unpack[Facts]) -> Export:
    """Write down who exports what, in the caller's transaction, and return the export.

    Args:
        rows: the rows chosen; their order does not matter.
        filters: how they were chosen, for the trail.
        facts: who exports.

    Raises:
        django.db.Error: it could not be written down, so nothing may be exported.
    """
    newest = AuditEvent.objects.using(rows.db).order_by("-id").values_list("id", flat=True).first() or 0
    chosen = rows.filter(id__lte=newest).order_by("created_at", "id")
    count = chosen.order_by().count()
    noted: Facts = {**facts, "detail": {"format": shape, "rows": count, "filters": dict(filters)}}
    write("audit.exported", **noted)
    return Export(shape=shape, rows=count, queryset=chosen)


def catch_up() -> None:
    """Store what this process has recorded, and link what waits; never inside a transaction.

    Raises:
        django.db.Error: the database is away.
    """
    flushing.flush_now()
    chain.link_waiting()


def _page(rows: QuerySet[AuditEvent], after: tuple[datetime, int] | None) -> QuerySet[AuditEvent]:
    if after is None:
        return rows[:PAGE]
    moment, key = after
    # The first condition is the index's range, the second passes over what the last page had of its last moment.
    return rows.filter(created_at__gte=moment).filter(Q(created_at__gt=moment) | Q(id__gt=key))[:PAGE]
