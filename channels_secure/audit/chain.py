"""The chain: rows are linked one after the other, by one writer at a time, never in a request's transaction.

Whoever stores rows takes the head's lock if nobody has it, and links what it stores as it goes. What is left is linked
later: rows of requests' transactions, sums of processes that have died, and rows of those who found the lock taken.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from django.db import DataError, IntegrityError, connections, router, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from channels_secure.audit import plain, rollups
from channels_secure.audit.sealing import FORGED, GENESIS, Seal, seals
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent, AuditHead

logger = logging.getLogger("channels_secure")

# Rows that wait to be linked are taken so many at a time.
BATCH = 500
# Seconds: how often a process looks for rows that wait, and tells the log where the chain ends.
CATCH_UP, ANNOUNCE = 5.0, 60.0
# After so long nobody adds to a sum any more, and whoever knew another key has had its turn: the process has died.
ABANDONED = timedelta(minutes=5)
# The last place that there is; on SQLite a text that somebody has put there counts as more.
LAST = 2**63 - 1
# What a database or its driver says about one row's content; anything else is about the database itself.
POISON = (DataError, IntegrityError, ValueError, TypeError, OverflowError)
# What else may be raised by a row that somebody has spoilt, and only when it is read.
UNREADABLE = (*POISON, AttributeError)
# What linking reads: the personal fields of a row, whatever they are, cannot be in its way.
COLUMNS = (
    *("uid", "kind", "reason", "created_at", "last_at", "count", "connection_id"),
    *("commitment", "actor_commitment", "hash"),
)


class _Clock:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.looked_at = self.announced_at = -math.inf


_clock = _Clock()
reset = _clock.reset


def seal() -> Seal:
    """The newest key's."""
    return seals(get_settings().audit_key)[0]


def is_genuine(event: AuditEvent) -> bool:
    """Whether a row that waits is what was recorded, sealed with any of the keys, or without one before there was."""
    return any(each.digest(event) == event.hash for each in (*seals(get_settings().audit_key), Seal()))


class Link:
    """The end of the chain, whose lock the running transaction holds."""

    def __init__(self, using: str, position: int, before: str) -> None:
        self.using, self.position, self.before = using, position, before
        self.counts: list[AuditEvent] = []
        self._began = position
        self._seal = seal()

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Give sealed events their places; the caller stores them."""
        for event in events:
            self._place(event, event.hash)

    def append_waiting(self, after: int = 0) -> int | None:
        """Link stored rows that wait, from a primary key on; returns the last of them when there may be more."""
        rows = list(self._locked().filter(pk__gt=after).only(*COLUMNS).order_by("pk")[:BATCH])
        now = timezone.now()
        linked = [row for row in rows if self._place_waiting(row, is_old=row.last_at < now - ABANDONED)]
        self._write(linked)
        return rows[-1].pk if len(rows) == BATCH else None

    def append_alone(self, key: int) -> None:
        """Link one row that waits."""
        now = timezone.now()
        for row in self._locked().filter(pk=key).only(*COLUMNS):
            self._write([row] if self._place_waiting(row, is_old=row.last_at < now - ABANDONED) else [])

    def append_unread(self, key: int) -> None:
        """Link a row that cannot even be read, as one that was forged."""
        logger.error("audit.forged", extra={"event": key})
        self._advance(FORGED)
        waiting(self.using).filter(pk=key).update(position=self.position, hash=self.before, is_open=False)

    def save(self) -> None:
        if self.position != self._began:
            AuditHead.objects.using(self.using).filter(pk=1).update(position=self.position, hash=self.before)
            rollups.count(self.counts, self.using)

    def _locked(self) -> QuerySet[AuditEvent]:
        # Whoever adds to a sum at this moment goes first, and must not change what is being linked.
        can_skip = connections[self.using].features.has_select_for_update_skip_locked
        return waiting(self.using).select_for_update(skip_locked=can_skip)

    def _place_waiting(self, row: AuditEvent, *, is_old: bool) -> bool:
        """Whether a row got its place; one that is sealed with a key unknown here is left to others for a while."""
        if is_genuine(row):
            self._place(row, row.hash)
            return True
        if is_old:
            logger.error("audit.forged", extra={"event": row.pk})
            self._place(row, FORGED)
        return is_old

    def _place(self, event: AuditEvent, digest: str) -> None:
        self._advance(digest)
        event.position, event.hash, event.is_open = self.position, self.before, False
        self.counts.append(event)

    def _advance(self, digest: str) -> None:
        self.position += 1
        self.before = self._seal.link(self.position, self.before, digest)

    def _write(self, rows: Sequence[AuditEvent]) -> None:
        # Django's own ways to update many rows take ten times as long.
        with connections[self.using].cursor() as cursor:
            quote, meta = connections[self.using].ops.quote_name, AuditEvent._meta
            columns = ", ".join(f"{quote(name)} = %s" for name in ("position", "hash", "is_open"))
            sql = f"UPDATE {quote(meta.db_table)} SET {columns} WHERE {quote('id')} = %s"  # noqa: S608 - our own names
            cursor.executemany(sql, [(row.position, row.hash, row.is_open, row.pk) for row in rows])


def take(using: str) -> Link | None:
    """Take the lock of the chain's end, inside a transaction; None when somebody else has it."""
    head = _locked(using)
    # Looked for first: to create what somebody is changing is to wait for that transaction's end.
    if head is None and not AuditHead.objects.using(using).filter(pk=1).exists():
        AuditHead.objects.using(using).bulk_create([AuditHead(pk=1, position=0, hash=GENESIS)], ignore_conflicts=True)
        head = _locked(using)
    if head is None:
        return None
    linked = AuditEvent.objects.using(using).filter(position__lte=LAST)
    last = linked.order_by("-position").values_list("position", "hash").first()
    if last is not None and last[0] is not None and last[0] > head.position:
        # The head was lost or put back; places must not be given twice.
        logger.error("audit.head_behind", extra={"position": head.position, "last": last[0]})
        return Link(using, last[0], last[1])
    return Link(using, head.position, head.hash)


def waiting(using: str) -> QuerySet[AuditEvent]:
    """Rows that can be linked."""
    ended = Q(is_open=False) | Q(last_at__lt=timezone.now() - ABANDONED)
    return AuditEvent.objects.using(using).filter(ended, position__isnull=True)


def is_due() -> bool:
    """Whether it is time to look for rows that wait, also when this process has recorded nothing."""
    return time.monotonic() - _clock.looked_at >= CATCH_UP


def catch_up(*, is_last: bool = False) -> None:
    """Link what waits, if it is time to look or will never be again, and tell the log where the chain ends.

    Raises:
        django.db.Error: the database is away.
    """
    if not is_last and not is_due():
        return
    _clock.looked_at = time.monotonic()
    link_waiting()
    if time.monotonic() - _clock.announced_at >= ANNOUNCE:
        _clock.announced_at = time.monotonic()
        announce()


def link_waiting() -> None:
    """Link all rows that wait, in batches, unless somebody else is at it.

    Raises:
        django.db.Error: the database is away.
    """
    using = router.db_for_write(AuditEvent)
    after: int | None = 0
    while after is not None:
        after = _link_batch(using, after)


def _link_batch(using: str, after: int) -> int | None:
    if not waiting(using).filter(pk__gt=after).exists():
        return None
    try:
        return _linked(using, lambda link: link.append_waiting(after))
    except UNREADABLE:
        pass
    # A row is spoilt, which must cost no other.
    keys = list(waiting(using).filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:BATCH])
    is_done = all(_link_alone(using, key) for key in keys)
    return keys[-1] if is_done and len(keys) == BATCH else None


def _link_alone(using: str, key: int) -> bool:
    try:
        _linked(using, lambda link: link.append_alone(key))
    except UNREADABLE:
        return _link_unread(using, key)
    return True


def _link_unread(using: str, key: int) -> bool:
    try:
        _linked(using, lambda link: link.append_unread(key))
    except UNREADABLE as error:
        # It is not the row: somebody has given away the last place that there is.
        logger.error("audit.unlinkable", extra={"event": key, "error": type(error).__name__})
        return False
    return True


def _linked(using: str, act: Callable[[Link], int | None]) -> int | None:
    with transaction.atomic(using=using):
        link = take(using)
        if link is None:
            return None
        result = act(link)
        link.save()
        return result


def announce() -> None:
    """Tell the log where the chain ends: a copy that who can change the database cannot change."""
    head = AuditHead.objects.using(router.db_for_write(AuditHead)).filter(pk=1).first()
    if head is not None:
        logger.info("audit.head", extra={"position": head.position, "hash": plain.text(head.hash)})


def _locked(using: str) -> AuditHead | None:
    heads = AuditHead.objects.using(using).filter(pk=1)
    if connections[using].features.has_select_for_update_skip_locked:
        return heads.select_for_update(skip_locked=True).first()
    # SQLite: a transaction that reads first and then writes fails at once where another has written in between.
    heads.update(position=F("position"))
    return heads.first()
