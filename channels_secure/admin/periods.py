"""How far back the dashboard looks, and into how many bars it divides that."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from django.db.models import Case, IntegerField, Value, When
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text: TypeAlias = str | _StrPromise
else:
    Text = str

HOUR = timedelta(hours=1)
DEFAULT = "24h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A choice of the dashboard.

    Args:
        key: what stands in the address, as in the list of events.
        label: what the link to it says; `name` is the whole of it.
        within, before: "in the last hour", "in the hour before".
        step: what one bar covers.
        axis: how a bar's beginning is written below it, in the letters of Django's `date` filter.
    """

    key: str
    label: Text
    name: Text
    within: Text
    before: Text
    length: timedelta
    step: timedelta
    axis: str

    @property
    def by_minute(self) -> bool:
        """Whether its bars are too narrow for the sums that are kept by the hour."""
        return self.step < HOUR


def _period(key: str, label: Text, name: Text, within: Text, before: Text, **lengths: timedelta) -> Period:
    axis = "H:i" if lengths["length"] <= timedelta(days=1) else "j M"
    return Period(key=key, label=label, name=name, within=within, before=before, axis=axis, **lengths)


PERIODS: Mapping[str, Period] = {
    period.key: period
    for period in (
        _period(
            "1h", _("1 h"), _("Last hour"), _("in the last hour"), _("in the hour before"),
            length=HOUR, step=timedelta(minutes=1),
        ),
        _period(
            "24h", _("24 h"), _("Last 24 hours"), _("in the last 24 hours"), _("in the 24 hours before"),
            length=timedelta(days=1), step=HOUR,
        ),
        _period(
            "7d", _("7 d"), _("Last 7 days"), _("in the last 7 days"), _("in the 7 days before"),
            length=timedelta(days=7), step=timedelta(hours=3),
        ),
        _period(
            "30d", _("30 d"), _("Last 30 days"), _("in the last 30 days"), _("in the 30 days before"),
            length=timedelta(days=30), step=timedelta(hours=12),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A period that ends now: with the minute or the hour that is not over yet, so that every bar but that is whole."""

    period: Period
    now: datetime
    start: datetime
    end: datetime

    @property
    def starts(self) -> list[datetime]:
        """When each bar begins."""
        return [self.start + self.period.step * number for number in range(self.bars)]

    @property
    def bars(self) -> int:
        return self.period.length // self.period.step

    @property
    def before(self) -> datetime:
        """When the period before this one began."""
        return self.start - self.period.length

    def bar_of(self, moment: datetime) -> int:
        """The bar of a moment; a clock that was ahead counts in the last one."""
        return min((moment - self.start) // self.period.step, self.bars - 1)

    def bar(self, field: str) -> Case:
        """The same in the database."""
        starts = self.starts
        later = reversed(list(enumerate(starts[1:], 1)))
        known = [When(**{f"{field}__gte": start}, then=Value(number)) for number, start in later]
        return Case(*known, default=Value(0), output_field=IntegerField())

    def span(self, number: int) -> str:
        """In words, what a bar covers."""
        begin = self.start + self.period.step * number
        form = "H:i" if self.period.length <= timedelta(days=1) else "D j M H:i"
        return f"{shown(begin, form)}–{shown(begin + self.period.step, 'H:i')}"


def window(period: Period, now: datetime) -> Window:
    whole = now.replace(second=0, microsecond=0) if period.by_minute else now.replace(minute=0, second=0, microsecond=0)
    end = whole + min(period.step, HOUR)
    return Window(period=period, now=now, start=end - period.length, end=end)


def shown(moment: datetime, form: str) -> str:
    """A moment in the reader's time and language."""
    return date_format(moment if timezone.is_naive(moment) else timezone.localtime(moment), form)
