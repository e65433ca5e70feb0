"""How much happened in each bar of the dashboard: from sums by the hour, or from the newest rows by the minute."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import CharField, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Concat

from channels_secure.admin.periods import Window
from channels_secure.models import AuditEvent, AuditRollup
from channels_secure.policy.decisions import Reason

Kind = AuditEvent.Kind
REFUSALS = (Kind.HANDSHAKE_DENIED, Kind.MESSAGE_DENIED, Kind.CREDENTIALS_FAILED)
LIMITED = Q(reason=Reason.RATE_LIMITED, kind__in=REFUSALS)
# Rows that are counted one by one: some tens of milliseconds.
REACH = 20_000
# Rows that are not in the sums yet; a writer that keeps up has some hundreds at most.
UNLINKED = 5_000


@dataclass(slots=True, kw_only=True)
class Figures:
    """How many events there were.

    Args:
        bars: by kind, in each bar.
        limited: refusals because of a rate.
        counted_from: the first bars are incomplete up to here, because there was more than can be counted; else None.
        is_low: the newest events are not all in it.
    """

    bars: list[Counter[str]]
    limited: int = 0
    counted_from: datetime | None = None
    is_low: bool = False
    totals: Counter[str] = field(default_factory=Counter)

    def add(self, bar: int, kind: str, events: int, limited: int) -> None:
        self.bars[bar][kind] += events
        self.totals[kind] += events
        self.limited += limited

    @property
    def is_cut(self) -> bool:
        return self.counted_from is not None or self.is_low

    @property
    def refused(self) -> int:
        return sum(self.totals[kind] for kind in REFUSALS)

    @property
    def refused_by_bar(self) -> list[int]:
        return [sum(bar[kind] for kind in REFUSALS) for bar in self.bars]


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the period before had of the same."""

    refused: int
    limited: int


def figures(span: Window) -> Figures:
    found = Figures(bars=[Counter() for _ in span.starts])
    if span.period.by_minute:
        _add_newest(found, span)
    else:
        _add_rollups(found, span)
        _add_unlinked(found, span)
    return found


def before(span: Window, now: Figures) -> Before | None:
    """The same for the period before; None where one of the two cannot be counted whole."""
    if now.is_cut:
        return None
    if not span.period.by_minute:
        hours = AuditRollup.objects.filter(hour__gte=span.before, hour__lt=span.start)
        return Before(**_sums(hours, "events"))
    rows = _newest(span.before).filter(created_at__lt=span.start)
    return None if rows[REACH : REACH + 1] else Before(**_sums(rows[:REACH], "count"))


def _sums(rows: QuerySet[Any], number: str) -> dict[str, int]:
    return rows.aggregate(
        refused=Sum(number, filter=Q(kind__in=REFUSALS), default=0), limited=Sum(number, filter=LIMITED, default=0)
    )


def _newest(since: datetime) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(created_at__gte=since).order_by("-created_at", "-id")


def first_of(rows: QuerySet[AuditEvent], reach: int) -> datetime | None:
    """When the last row in reach happened; None if all are."""
    return next(iter(rows.values_list("created_at", flat=True)[reach : reach + 1]), None)


def _add_newest(found: Figures, span: Window) -> None:
    cut = first_of(_newest(span.start), REACH)
    rows = AuditEvent.objects.filter(created_at__gte=span.start) if cut is None else _after(cut)
    found.counted_from = cut
    # As an expression, or SQLite would read the whole index that has kinds in their order.
    kind = Concat("kind", Value(""), output_field=CharField())
    grouped = rows.annotate(bar=span.bar("created_at"), of_kind=kind).order_by().values_list("bar", "of_kind")
    for bar, of_kind, events, limited in grouped.annotate(**_events("count")):
        found.add(bar, of_kind, events, limited)


def _after(moment: datetime) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(created_at__gt=moment)


def _add_rollups(found: Figures, span: Window) -> None:
    # No hour after this one: a clock that was ahead must not make a bar of its own.
    hours = AuditRollup.objects.filter(hour__gte=span.start, hour__lt=span.end)
    # By bars in the database: a month has thousands of hours and kinds, each of which would cost as much as a bar.
    grouped = hours.annotate(bar=span.bar("hour")).order_by().values_list("bar", "kind")
    for bar, kind, events, limited in grouped.annotate(**_events("events")):
        found.add(bar, kind, events, limited)


def _events(column: str) -> dict[str, Sum]:
    return {"number": Sum(F(column)), "limited": Sum(F(column), filter=LIMITED, default=0)}


def _add_unlinked(found: Figures, span: Window) -> None:
    """What is not linked yet is in no sum: the last second, and what goes on counting until its minute is over."""
    rows = AuditEvent.objects.filter(position=None, created_at__gte=span.start).order_by()
    waiting = list(rows.values_list("created_at", "kind", "reason", "count")[: UNLINKED + 1])
    found.is_low = len(waiting) > UNLINKED
    for moment, kind, reason, count in waiting[:UNLINKED]:
        is_limited = reason == Reason.RATE_LIMITED and kind in REFUSALS
        found.add(span.bar_of(moment), kind, count, count if is_limited else 0)
