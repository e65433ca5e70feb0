"""Storing rows so that one bad row costs nothing but itself, and linking them into the chain as they go."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.db import router, transaction
from django.utils import timezone

from channels_secure.audit import chain
from channels_secure.audit.chain import POISON, Link
from channels_secure.audit.sealing import Seal
from channels_secure.audit.volume import Row
from channels_secure.models import AuditEvent

logger = logging.getLogger("channels_secure")

# Rows that one transaction stores.
BATCH = 500


def store(rows: Sequence[Row]) -> int:
    """Store rows all together; when one of them is refused, halve until it stands alone.

    Returns how many events the table did not have before.

    Raises:
        django.db.Error: the database is away; rows that were stored before it went are marked so.
    """
    using = router.db_for_write(AuditEvent)
    try:
        return _store_all(rows, using)
    except POISON as error:
        if len(rows) == 1:
            return _store_poison(rows[0], using, error)
        middle = len(rows) // 2
        return store(rows[:middle]) + store(rows[middle:])
    except BaseException:
        # The answer to a commit may be what was lost.
        for row in rows:
            row.uncertain = True
        raise


def sealed(row: Row, seal: Seal | None = None) -> AuditEvent:
    """The model of a row, committed to its personal fields and sealed, but not linked."""
    seal = seal or chain.seal()
    event = _event_of(row)
    seal.commit(event)
    event.hash = seal.digest(event)
    return event


def moment(unix: float) -> datetime:
    aware = datetime.fromtimestamp(unix, UTC)
    # Not in the zone that a request may have activated in this thread.
    return aware if settings.USE_TZ else timezone.make_naive(aware, timezone.get_default_timezone())


def _event_of(row: Row) -> AuditEvent:
    # First whether the sum is over: what is added meanwhile is then either in the count, or leaves it open.
    is_open = row.is_open
    return AuditEvent(
        uid=row.uid,
        is_open=is_open,
        created_at=moment(row.created_at),
        last_at=moment(row.last_at),
        count=row.count,
        kind=row.kind,
        reason=row.reason,
        user_id=row.user_id,
        user_key=row.user_key,
        username=row.username,
        ip=row.ip,
        path=row.path,
        origin=row.origin,
        user_agent=row.user_agent,
        connection_id=row.connection_id,
        actor=row.actor,
        actor_from=row.actor_from,
        detail=row.detail,
    )


def _store_all(rows: Sequence[Row], using: str, *, is_linking: bool = True) -> int:
    seal, new = chain.seal(), 0
    with transaction.atomic(using=using):
        link = chain.take(using) if is_linking else None
        known = _known(rows, using)
        fresh = [(row, sealed(row, seal)) for row in rows if not row.written and row.uid not in known]
        if link is not None:
            link.append([event for _, event in fresh if not event.is_open])
        AuditEvent.objects.using(using).bulk_create([event for _, event in fresh])
        written = {row.uid: event.count for row, event in fresh}
        new = sum(written.values())
        for row in rows:
            if row.sums and row.uid not in written:
                written[row.uid], grown = _grow(row, using, seal, link)
                new += grown
        if link is not None:
            link.save()
    for row in rows:
        row.written = written.get(row.uid, row.written)
        row.stored, row.uncertain = True, False
    return new


def _known(rows: Sequence[Row], using: str) -> set[str]:
    """Those of the rows that are in the table though nobody told us."""
    doubtful = [row.uid for row in rows if row.uncertain and not row.written]
    if not doubtful:
        return set()
    return set(AuditEvent.objects.using(using).filter(uid__in=doubtful).values_list("uid", flat=True))


def _grow(row: Row, using: str, seal: Seal, link: Link | None) -> tuple[int, int]:
    """Bring a sum up to date; returns its count, and how many of these events the table did not have.

    Numbers are absolute and never become smaller, so that doing it twice, or with what was known earlier, changes
    nothing. A row that somebody has linked meanwhile, who took this process for dead, or that does not have the newest
    key's seal stays as it is, and what came since is another row, whose name follows from the first one's: to seal what
    stands there would make whatever an older key, or none, can write as good as recorded.
    """
    # Locked: it must not be linked while its count changes.
    table = AuditEvent.objects.using(using).select_for_update()
    now, uid, elsewhere = _event_of(row), row.uid, 0
    while (stored := table.filter(uid=uid).first()) is not None and not _may_grow(stored, seal):
        elsewhere += stored.count
        if stored.is_open and stored.position is None:
            # Nothing is added to it any more.
            table.filter(uid=uid).update(is_open=False)
        uid = f"{row.uid}.{elsewhere:x}"
    before = elsewhere if stored is None else elsewhere + stored.count
    total, count, is_new = now.count, max(now.count, before) - elsewhere, stored is None
    if not count:
        return total, 0
    if stored is None:
        now.uid, now.count, stored = uid, count, now
        seal.commit(stored)
    stored.count, stored.last_at, stored.is_open = count, max(stored.last_at, now.last_at), now.is_open
    stored.hash = seal.digest(stored)
    if link is not None and not stored.is_open:
        link.append([stored])
    changes = None if is_new else ["count", "last_at", "is_open", "hash", "position"]
    stored.save(using=using, force_insert=is_new, update_fields=changes)
    return total, elsewhere + count - before


def _may_grow(stored: AuditEvent, seal: Seal) -> bool:
    return stored.position is None and stored.hash == seal.digest(stored)


def _store_poison(row: Row, using: str, error: Exception) -> int:
    """A row that the database refuses: by itself, or else as a stub that still counts."""
    # What is refused may be its name, because the row is there, or its place in the chain.
    row.uncertain = True
    new = _store_alone(row, using)
    if new is None:
        _forget_texts(row, error)
        new = _store_alone(row, using)
    if new is None:
        row.stored = True
        logger.error("audit.row_lost", extra={"kind": row.kind, "count": row.count, "error": type(error).__name__})
    return new or 0


def _store_alone(row: Row, using: str) -> int | None:
    try:
        return _store_all([row], using, is_linking=False)
    except POISON:
        return None


def _forget_texts(row: Row, error: Exception) -> None:
    row.user_id, row.user_key = None, ""
    row.username = row.ip = row.path = row.origin = row.user_agent = row.connection_id = ""
    row.actor = row.actor_from = ""
    row.detail = {"refused": type(error).__name__}
