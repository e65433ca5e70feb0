"""The events of a period as a picture of stacked bars, and as the table that says the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels_secure.admin.chart import Segment, Stack, stack
from channels_secure.admin.figures import Figures
from channels_secure.admin.headline import grouped
from channels_secure.admin.periods import Text, Window, shown
from channels_secure.models import AuditEvent

Kind = AuditEvent.Kind
# Labels below the bars, more of which do not fit on a phone, and the pixels that they need.
LABELS = 4
FOOT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Kinds of events that are drawn as one; `key` names its colour and pattern. Without kinds it is the rest."""

    key: str
    label: Text
    kinds: tuple[str, ...] = ()


# From the bottom, where heights can be compared.
SERIES = (
    Series(key="handshakes", label=gettext_lazy("handshakes refused"), kinds=(Kind.HANDSHAKE_DENIED,)),
    Series(key="messages", label=gettext_lazy("messages refused"), kinds=(Kind.MESSAGE_DENIED,)),
    Series(key="credentials", label=gettext_lazy("credentials refused"), kinds=(Kind.CREDENTIALS_FAILED,)),
    Series(key="reported", label=gettext_lazy("would be refused"), kinds=(Kind.POLICY_WOULD_DENY,)),
    Series(key="accepted", label=gettext_lazy("connections accepted"), kinds=(Kind.CONNECTION_ACCEPTED,)),
    Series(key="closed", label=gettext_lazy("connections closed"), kinds=(Kind.CONNECTION_CLOSED,)),
    Series(key="others", label=gettext_lazy("everything else")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """A series that has events in this period."""

    key: str
    label: Text
    total: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A segment, with the name of its series and what it says."""

    segment: Segment
    key: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A time below the bars, at so many per cent."""

    x: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the template draws.

    Args:
        unknown: per cent of the width, from the left, in which not everything is counted; empty if all is.
        rows: the table's: a time, a number for each series of the legend, and their sum.
    """

    stack: Stack
    drawn: list[Drawn]
    legend: list[Legend]
    marks: list[Mark]
    rows: list[tuple[str, list[str], str]]
    unknown: str
    summary: str
    note: str

    @property
    def height(self) -> int:
        return self.stack.height + FOOT

    @property
    def mark_y(self) -> int:
        return self.stack.height + FOOT - 6


def picture(span: Window, found: Figures) -> Picture:
    bars = [_counts(bar) for bar in found.bars]
    totals = [sum(bar[number] for bar in bars) for number in range(len(SERIES))]
    used = [number for number, total in enumerate(totals) if total]
    times = [span.span(number) for number in range(span.bars)]
    drawing = stack([[bar[number] for number in used] for bar in bars])
    legend = [
        Legend(key=SERIES[number].key, label=SERIES[number].label, total=grouped(totals[number])) for number in used
    ]
    return Picture(
        stack=drawing,
        drawn=[_drawn(segment, legend[segment.series], times[segment.bar]) for segment in drawing.segments],
        legend=legend,
        marks=list(_marks(span)),
        rows=list(_rows(times, bars, used)),
        unknown=_unknown(span, found),
        summary=", ".join(f"{each.label}: {each.total}" for each in legend),
        note=_note(span, found),
    )


def _counts(bar: dict[str, int]) -> list[int]:
    known = [sum(bar.get(kind, 0) for kind in each.kinds) for each in SERIES]
    return [*known[:-1], sum(bar.values()) - sum(known)]


def _drawn(segment: Segment, legend: Legend, time: str) -> Drawn:
    title = f"{time}, {legend.label}: {grouped(segment.count)}"
    return Drawn(segment=segment, key=legend.key, title=title)


def _marks(span: Window) -> Iterator[Mark]:
    for number in range(LABELS):
        place = span.bars * number // LABELS
        yield Mark(x=f"{100 * number // LABELS}%", label=shown(span.starts[place], span.period.axis))


def _rows(
    times: Sequence[str], bars: Sequence[Sequence[int]], used: Sequence[int]
) -> Iterator[tuple[str, list[str], str]]:
    """The newest first; bars in which nothing happened are left out."""
    for number in reversed(range(len(bars))):
        if any(bars[number]):
            counts = [grouped(bars[number][each]) for each in used]
            yield times[number], counts, grouped(sum(bars[number]))


def _unknown(span: Window, found: Figures) -> str:
    if found.counted_from is None:
        return ""
    return f"{100 * (span.bar_of(found.counted_from) + 1) / span.bars:.2f}%"


def _note(span: Window, found: Figures) -> str:
    if found.counted_from is not None:
        return _(
            "Too many to count by the minute: those before %(time)s are left out. Longer periods are complete."
        ) % {"time": shown(found.counted_from, "H:i:s")}
    if found.is_low:
        return _("The newest events are still being counted, so that there are more than this says.")
    return ""
