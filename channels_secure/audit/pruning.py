"""Pruning the trail: its oldest rows go, batch by batch, and each batch leaves a signed checkpoint in its transaction.

Only the beginning of the chain goes, and only rows that verify: who could make rows look old, or damage them and wait,
must not have pruning clear the traces away.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connections, router, transaction
from django.db.models import F
from django.utils import timezone

from channels_secure.audit import checkpoints, recorder
from channels_secure.audit.checkpoints import Base
from channels_secure.audit.examining import Examiner, Stored
from channels_secure.audit.faults import Fault
from channels_secure.audit.heads import Head
from channels_secure.audit.reading import first_after, rows_after
from channels_secure.audit.sealing import seals
from channels_secure.audit.verifying import verify
from channels_secure.conf import get_settings
from channels_secure.models import AuditCheckpoint, AuditEvent, AuditHead, AuditRollup

# Rows that go in one transaction.
BATCH = 1000
# Rollups name nobody and are few; two years let a chart compare a day with that of the year before.
ROLLUP_RETENTION = timedelta(days=730)


class PruningRefused(Exception):
    """What would have to go does not verify."""


@dataclass(slots=True, kw_only=True)
class Pruned:
    """What one run has deleted, or would delete.

    Args:
        position: the place of the last row that went; 0 when none did.
        stopped_by: the row at which it ended, if there was one.
        held_back: rows behind that one which are older than the limit; they go when it does.
    """

    rows: int = 0
    events: int = 0
    position: int = 0
    rollups: int = 0
    stopped_by: Stored | None = None
    held_back: int = 0


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The rows that go, the time that the last of them counts as, and what ended them."""

    last_at: datetime | None
    rows: list[Stored] = field(default_factory=list)
    stopped_by: Stored | None = None
    fault: Fault | None = None


def prune(days: int, *, actor: str, heads: Sequence[Head] = (), dry_run: bool = False, force: bool = False) -> Pruned:
    """Delete linked rows that are older than so many days, and rollups that are older than `ROLLUP_RETENTION`.

    Args:
        heads: heads that were kept elsewhere; the whole trail is verified with them first.
        force: also rows that do not verify.

    Raises:
        PruningRefused: one of them does not verify; what came before it is gone.
        django.db.Error: the database is away; the batches before are gone, and the rest verifies.
    """
    if heads and (faults := verify(heads, link=False).faults):
        raise PruningRefused(faults[0].message)
    run = _Run(days, actor, force, vouched=min((head.position for head in heads), default=0))
    try:
        while run.has_more:
            run.look() if dry_run else run.prune_batch()
        run.prune_rollups(is_dry=dry_run)
    finally:
        if run.pruned.rows and not dry_run:
            run.record()
    run.find_held_back()
    return run.pruned


class _Run:
    def __init__(self, days: int, actor: str, force: bool, vouched: int) -> None:
        self.using = router.db_for_write(AuditEvent)
        self.now = timezone.now()
        self.days, self.limit = days, self.now - timedelta(days=days)
        self.actor, self.force, self.vouched = actor, force, vouched
        self.keys = get_settings().audit_key
        self.examiner = Examiner(self.keys, 0, "", vouched)
        self.pruned, self.has_more = Pruned(), True
        self._checkpoint: AuditCheckpoint | None = None
        self._seen: Base | None = None

    def prune_batch(self) -> None:
        with transaction.atomic(using=self.using):
            # One run at a time goes on from the newest checkpoint; writers leave their rows unlinked meanwhile.
            _lock(self.using)
            base = checkpoints.base(self.using, self.examiner.seals)
            batch = self._next(base)
            if batch.rows:
                self._save_checkpoint(batch)
                gone = AuditEvent.objects.using(self.using).filter(position__gt=base.position)
                gone.filter(position__lte=batch.rows[-1].position).delete()
        self._count(batch)

    def look(self) -> None:
        """Count what the next batch would be."""
        base = self._seen or checkpoints.base(self.using, self.examiner.seals)
        batch = self._next(base)
        if batch.rows:
            last = batch.rows[-1]
            self._seen = Base(position=last.position or 0, hash=last.hash, last_at=batch.last_at)
        self._count(batch)

    def prune_rollups(self, *, is_dry: bool) -> None:
        table = AuditRollup.objects.using(self.using)
        old = table.filter(hour__lt=min(self.limit, self.now - ROLLUP_RETENTION)).order_by("hour")
        if is_dry:
            self.pruned.rollups = old.count()
            return
        while keys := list(old.values_list("pk", flat=True)[:BATCH]):
            self.pruned.rollups += table.filter(pk__in=keys).delete()[0]

    def record(self) -> None:
        pruned = self.pruned
        detail = {"rows": pruned.rows, "events": pruned.events, "days": self.days, "position": pruned.position}
        recorder.write("audit.pruned", actor=self.actor, detail={**detail, "forced": self.force})

    def find_held_back(self) -> None:
        stop = self.pruned.stopped_by
        if stop is not None:
            behind = AuditEvent.objects.using(self.using).filter(position__gt=stop.position)
            # Rows end no earlier than they begin, and there is an index for the beginning.
            self.pruned.held_back = behind.filter(created_at__lt=self.limit, last_at__lt=self.limit).count()

    def _next(self, base: Base) -> _Batch:
        """The rows to go next.

        Raises:
            PruningRefused: they do not verify.
        """
        following = first_after(self.using, base.position) if base.rank else None
        if not self.force and not self.examiner.trusts(base, following):
            raise PruningRefused(f"The checkpoint at {base.position} was not signed with AUDIT_KEY")
        self.examiner.position, self.examiner.before = base.position, base.hash
        batch = self._select(itertools.islice(rows_after(self.using, base.position, BATCH), BATCH), base.last_at)
        if batch.fault is not None and not batch.rows:
            raise PruningRefused(batch.fault.message)
        return batch

    def _select(self, rows: Iterable[Stored], last_at: datetime | None) -> _Batch:
        batch = _Batch(last_at=last_at)
        for row in rows:
            batch.fault = None if self.force else self.examiner.examine(row)
            if batch.fault is not None:
                break
            # A clock that was ahead must not hold everything up until its date has come.
            at = batch.last_at if row.last_at > self.now else row.last_at
            if at is None or at >= self.limit:
                batch.stopped_by = row
                break
            batch.rows.append(row)
            batch.last_at = at
        return batch

    def _save_checkpoint(self, batch: _Batch) -> None:
        """Extend this run's checkpoint, or begin it."""
        last, at = batch.rows[-1], batch.last_at or self.limit
        mine = self._checkpoint or AuditCheckpoint(rows=0, events=0, actor=self.actor, created_at=self.now)
        mine.position, mine.hash, mine.last_at = last.position or 0, last.hash, at
        mine.rows += len(batch.rows)
        mine.events += sum(row.count for row in batch.rows)
        mine.signature = checkpoints.signature(mine, seals(self.keys)[0])
        mine.save(using=self.using)
        self._checkpoint = mine

    def _count(self, batch: _Batch) -> None:
        self.pruned.rows += len(batch.rows)
        self.pruned.events += sum(row.count for row in batch.rows)
        if batch.rows:
            self.pruned.position = batch.rows[-1].position or 0
        self.pruned.stopped_by = batch.stopped_by
        self.has_more = bool(batch.rows) and batch.stopped_by is None


def _lock(using: str) -> None:
    """Wait for the chain's lock and take it until the transaction ends."""
    heads = AuditHead.objects.using(using).filter(pk=1)
    if connections[using].features.has_select_for_update:
        heads.select_for_update().first()
        return
    # SQLite: a transaction that reads first and then writes fails at once where another has written in between.
    heads.update(position=F("position"))
