"""Verifying the trail: every linked row from the newest checkpoint to the end, and those that wait to be linked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import router
from django.utils import timezone

from channels_secure.audit import chain, checkpoints
from channels_secure.audit.checkpoints import Base
from channels_secure.audit.examining import UNREADABLE, Examiner, Stored, all_seals
from channels_secure.audit.faults import Fault, Wrong, missing
from channels_secure.audit.heads import Head
from channels_secure.audit.reading import PAGE, first_after, page_of, rows_after
from channels_secure.audit.sealing import GENESIS
from channels_secure.audit.tracing import place_of
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent, AuditHead

# A row that waits longer is not linked by anybody.
PATIENCE = timedelta(minutes=10)


@dataclass(slots=True, kw_only=True)
class Report:
    """What verification has found.

    Args:
        start: the place of the newest checkpoint, after which rows were verified; 0 for the beginning.
        rows, events: that verified, and how many events they stand for.
        erased: of these, the rows whose personal fields were erased.
        by_key: rows by key of `AUDIT_KEY`, newest first; where there is a key, the last number is of those without.
        head: where the chain ends now.
        waiting, late: rows that are not linked yet, and those that have waited for longer than `PATIENCE`.
    """

    start: int = 0
    rows: int = 0
    events: int = 0
    erased: int = 0
    by_key: list[int] = field(default_factory=list)
    head: Head = field(default_factory=lambda: Head(position=0, hash=GENESIS))
    waiting: int = 0
    late: int = 0
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def verify(heads: Sequence[Head] = (), *, link: bool = True, everything: bool = False) -> Report:
    """Verify the trail, in constant memory and without holding any lock.

    Args:
        heads: heads that were kept elsewhere, which the chain must go through.
        link: first link what waits to be linked.
        everything: go on after the first fault.

    Raises:
        django.db.Error: the database is away.
    """
    using = router.db_for_write(AuditEvent)
    verification = _Verification(using, heads)
    # Before anybody links: what is linked next puts a lost head right.
    about_head = verification.fault_of_head()
    if link:
        chain.link_waiting()
    for fault in verification.faults():
        verification.report.faults.append(fault)
        if not everything:
            break
    if about_head is not None and (everything or not verification.report.faults):
        verification.report.faults.append(about_head)
    return verification.finish()


class _Verification:
    def __init__(self, using: str, heads: Sequence[Head]) -> None:
        keys = get_settings().audit_key
        self.using, self.seals = using, all_seals(keys)
        # The lowest: of several, the one that was taken when the key came vouches, and not the newest from the log.
        self.vouched = min((head.position for head in heads), default=0)
        self.base = self._base()
        self.kept: dict[int, set[str]] = {}
        for head in heads:
            self.kept.setdefault(head.position, set()).add(head.hash)
        self.examiner = Examiner(keys, self.base.position, self.base.hash, self.vouched)
        self.report = Report(start=self.base.position)

    def faults(self) -> Iterator[Fault]:
        """What is wrong, in the order of the chain; then what waits."""
        yield from self._faults_of_base()
        for row in rows_after(self.using, self.base.position):
            if row.position != self.examiner.position + 1 and self._was_pruned(row):
                continue
            fault = self.examiner.examine(row)
            if fault is not None:
                yield self._traced(fault, row)
            if row.position in self.kept:
                yield from self._compare(row.position, row.hash)
        for position in sorted(self.kept):
            if position > self.examiner.position:
                message = f"The trail ends at row {self.examiner.position}, and had a row {position}: its end was cut"
                yield Fault(what=Wrong.MISSING, message=message, position=self.examiner.position + 1)
        yield from self._faults_of_waiting()

    def finish(self) -> Report:
        report, examiner = self.report, self.examiner
        report.rows, report.events, report.erased = examiner.rows, examiner.events, examiner.erased
        report.by_key = examiner.by_key
        report.head = Head(position=examiner.position, hash=examiner.before)
        if report.late:
            minutes = int(PATIENCE.total_seconds() // 60)
            report.warnings.append(f"{report.late} rows wait to be linked for longer than {minutes} minutes.")
        if not self.base.is_whole:
            report.warnings.append("The checkpoints do not account for all rows that are gone: one of them is missing.")
        return report

    def fault_of_head(self) -> Fault | None:
        """What is wrong with the head, which says where the chain ends."""
        linked = AuditEvent.objects.using(self.using).filter(position__lte=chain.LAST)
        last = linked.order_by("-position").values_list("position", flat=True).first()
        # In this order: the head only ever goes on.
        head = AuditHead.objects.using(self.using).filter(pk=1).first()
        end = last or self.base.position
        if head is None:
            return Fault(what=Wrong.HEAD, message="The head of the chain is missing") if end else None
        if head.position < end:
            message = f"The head says that the chain ends at row {head.position}, and it goes on to {end}"
            return Fault(what=Wrong.HEAD, message=message, position=head.position)
        stands = AuditEvent.objects.using(self.using).filter(position=head.position).values_list("hash", flat=True)
        known = stands.first()
        if known is None and (base := self._base()).position == head.position:
            known = base.hash
        if known is None:
            return missing(end + 1, head.position)
        if known != head.hash:
            message = f"The head has another hash than row {head.position}"
            return Fault(what=Wrong.HEAD, message=message, position=head.position)
        return None

    def _base(self) -> Base:
        return checkpoints.base(self.using, self.seals)

    def _trusts(self, base: Base) -> bool:
        return self.examiner.trusts(base, first_after(self.using, base.position) if base.rank else None)

    def _faults_of_base(self) -> Iterator[Fault]:
        position = self.base.position
        if not self._trusts(self.base):
            message = f"The checkpoint at {position} was not signed with AUDIT_KEY: it is forged, or of another key"
            yield Fault(what=Wrong.CHECKPOINT, message=message, position=position)
        strays = AuditEvent.objects.using(self.using).filter(position__lte=position).order_by("position")
        for place, key in strays.values_list("position", "pk")[:1]:
            message = f"Row {place} (id {key}) stands before the beginning of the trail"
            yield Fault(what=Wrong.FORGED, message=message, position=place, event=key)
        yield from self._compare(position, self.base.hash)
        for kept in sorted(self.kept):
            if kept < position:
                message = f"Row {kept} was pruned, so that its head proves nothing any more: keep a newer one"
                yield Fault(what=Wrong.HEAD, message=message, position=kept)

    def _was_pruned(self, row: Stored) -> bool:
        """Whether a row has been pruned since it was read; where others are missing for that, go on behind them."""
        now = self._base()
        if self._trusts(now) and now.position > self.examiner.position:
            self.base = now
            self.examiner.position, self.examiner.before = now.position, now.hash
        return isinstance(row.position, int) and row.position <= self.base.position

    def _compare(self, position: int, found: str) -> Iterator[Fault]:
        for kept in self.kept.get(position, ()):
            if kept != found:
                message = f"Row {position} has another hash than the head that was kept: the trail was rewritten"
                yield Fault(what=Wrong.HEAD, message=message, position=position)

    def _traced(self, fault: Fault, row: Stored) -> Fault:
        """The same, or where the row was moved from."""
        if fault.what is not Wrong.ALTERED:
            return fault
        try:
            origin = place_of(self.using, row, self.seals, self.base)
        except UNREADABLE:
            return fault
        if origin is None or origin == row.position:
            return fault
        message = f"Row {row.position} (id {row.id}) was row {origin} when it was recorded: rows were moved"
        return Fault(what=Wrong.MOVED, message=message, position=row.position, event=row.id)

    def _faults_of_waiting(self) -> Iterator[Fault]:
        table = AuditEvent.objects.using(self.using).filter(position__isnull=True).order_by("id")
        late, last = timezone.now() - PATIENCE, 0
        while page := page_of(table.filter(id__gt=last), PAGE):
            for row in page:
                self.report.waiting += 1
                self.report.late += row.last_at < late
                fault = self.examiner.examine_waiting(row)
                if fault is not None:
                    yield fault
            last = page[-1].id
