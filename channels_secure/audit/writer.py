"""Storing rows so that one bad row costs nothing but itself."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.db import DataError, IntegrityError, router, transaction
from django.utils import timezone

from channels_secure.audit.volume import Row
from channels_secure.models import AuditEvent

logger = logging.getLogger("channels_secure")

# What a database or its driver says about one row's content; anything else is about the database itself.
POISON = (DataError, IntegrityError, ValueError, TypeError, OverflowError)


def store(rows: Sequence[Row]) -> None:
    """Store rows all together; when one of them is refused, halve until it stands alone.

    Raises:
        django.db.Error: the database is away; rows that were stored before it went are marked so.
    """
    using = router.db_for_write(AuditEvent)
    try:
        _store_all(rows, using)
    except POISON as error:
        if len(rows) == 1:
            _store_poison(rows[0], using, error)
            return
        middle = len(rows) // 2
        store(rows[:middle])
        store(rows[middle:])


def event_of(row: Row) -> AuditEvent:
    return AuditEvent(
        created_at=moment(row.created_at),
        last_at=moment(row.last_at),
        count=row.count,
        kind=row.kind,
        reason=row.reason,
        user_id=row.user_id,
        username=row.username,
        ip=row.ip,
        path=row.path,
        origin=row.origin,
        user_agent=row.user_agent,
        connection_id=row.connection_id,
        actor=row.actor,
        detail=row.detail,
    )


def moment(unix: float) -> datetime:
    aware = datetime.fromtimestamp(unix, UTC)
    return aware if settings.USE_TZ else timezone.make_naive(aware)


def _store_all(rows: Sequence[Row], using: str) -> None:
    sums = [row for row in rows if row.sums]
    with transaction.atomic(using=using):
        AuditEvent.objects.using(using).bulk_create([event_of(row) for row in rows if not row.sums])
        # A minute has some thirty of these at most; saved singly they get their keys on every database.
        keys = [_store_sum(row, using) for row in sums]
    for row, key in zip(sums, keys, strict=True):
        row.pk = key
    for row in rows:
        row.stored = True


def _store_sum(row: Row, using: str) -> int:
    """Bring a sum up to date, or insert it; numbers are absolute, so that doing it twice changes nothing."""
    if row.pk is not None:
        known = AuditEvent.objects.using(using).filter(pk=row.pk)
        if known.update(count=row.count, last_at=moment(row.last_at)):
            return int(row.pk)
    event = event_of(row)
    event.save(using=using, force_insert=True)
    return event.pk


def _store_poison(row: Row, using: str, error: Exception) -> None:
    """A row that the database refuses: without its user, who may be gone, else as a stub that still counts."""
    for remedy in (_forget_user, _forget_texts):
        remedy(row, error)
        try:
            _store_all([row], using)
        except POISON:
            continue
        return
    row.stored = True
    logger.error("audit.row_lost", extra={"kind": row.kind, "count": row.count, "error": type(error).__name__})


def _forget_user(row: Row, _error: Exception) -> None:
    row.user_id = None


def _forget_texts(row: Row, error: Exception) -> None:
    row.username = row.ip = row.path = row.origin = row.user_agent = row.connection_id = row.actor = ""
    row.detail = {"refused": type(error).__name__}
