"""What else happened: the other events of a connection, and the events next to one of the same user or address."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils.safestring import SafeString

from channels_secure.admin.cells import to_the_second
from channels_secure.models import AuditEvent

# Events of a connection that are looked at, and how many are shown on either side.
MOST, NEAR = 1000, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An event of a connection, and how many seconds it came after the one that the page is about."""

    event: AuditEvent
    seconds: float
    is_here: bool

    @property
    def time(self) -> SafeString:
        return to_the_second(self.event.created_at)

    @property
    def offset(self) -> str:
        """Signed, in the unit that fits."""
        size = abs(self.seconds)
        sign = "−" if self.seconds < 0 else "+"
        if size < 60:
            return f"{sign}{size:.1f} s" if size >= 0.05 else "0.0 s"
        minutes, seconds = divmod(int(size), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{sign}{hours}:{minutes:02}:{seconds:02}" if hours else f"{sign}{minutes}:{seconds:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The events of a connection around one of them. `before` and `after` are how many more there are.

    `is_bound`: there are more than are looked at, so that these numbers are the least.
    """

    steps: Sequence[Step]
    before: int
    after: int
    is_bound: bool


def timeline_of(event: AuditEvent) -> Timeline | None:
    """A connection's events around one of them; None where it has no connection, or nothing else happened in it."""
    if not event.connection_id:
        return None
    # Unsorted: an index has a connection's events, but not in the order of time.
    rows = AuditEvent.objects.filter(connection_id=event.connection_id).order_by()
    found = sorted(rows.values_list("created_at", "pk")[: MOST + 1])
    here = (event.created_at, event.pk)
    before, after = [each for each in found if each < here], [each for each in found if each > here]
    shown = {key for _moment, key in (*before[-NEAR:], *after[:NEAR])}
    if not shown:
        return None
    events = AuditEvent.objects.in_bulk(shown)
    steps = [_step(each, event) for each in (*events.values(), event)]
    return Timeline(
        steps=sorted(steps, key=lambda step: (step.event.created_at, step.event.pk)),
        before=max(0, len(before) - NEAR),
        after=max(0, len(after) - NEAR),
        is_bound=len(found) > MOST,
    )


def _step(each: AuditEvent, event: AuditEvent) -> Step:
    seconds = (each.created_at - event.created_at).total_seconds()
    return Step(event=each, seconds=seconds, is_here=each.pk == event.pk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The primary keys of the events before and after one, of the same user or address."""

    earlier: int | None
    later: int | None


def neighbours_of(event: AuditEvent, **same: object) -> Neighbours:
    """The events next to one among those with the same value of an indexed field."""
    rows = AuditEvent.objects.filter(**same)
    earlier = rows.filter(created_at__lte=event.created_at).filter(
        Q(created_at__lt=event.created_at) | Q(pk__lt=event.pk)
    )
    later = rows.filter(created_at__gte=event.created_at).filter(
        Q(created_at__gt=event.created_at) | Q(pk__gt=event.pk)
    )
    return Neighbours(
        earlier=_first(earlier.order_by("-created_at", "-pk")), later=_first(later.order_by("created_at", "pk"))
    )


def _first(rows: QuerySet[AuditEvent]) -> int | None:
    return rows.values_list("pk", flat=True).first()
