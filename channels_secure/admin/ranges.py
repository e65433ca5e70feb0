"""From when until when: a period up to now, or two moments as people and as programs write them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_secure.admin.periods import PERIODS, Period

PERIOD, FROM, TO = "period", "from", "to"
NAMES = frozenset({PERIOD, FROM, TO})
# No moment is written with more; the text comes back in a message.
LONGEST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Moments from `start` on and before `end`, and not longer ago than `period`.

    Args:
        faults: what could not be read, in words for the operator.
        written: what the fields of the form show.
    """

    period: Period | None = None
    start: datetime | None = None
    end: datetime | None = None
    faults: tuple[str, ...] = ()
    written: tuple[str, str] = ("", "")

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        texts = given.get(FROM, "").strip(), given.get(TO, "").strip()
        moments, faults = [], []
        for text in texts:
            try:
                moments.append(moment_in(text) if text else None)
            except (ValueError, OverflowError):
                moments.append(None)
                shown = {"text": text[:LONGEST]}
                faults.append(_("“%(text)s” is no time: write 2026-11-21T09:41 or 2026-11-21T09:41:07Z.") % shown)
        start, end = moments
        if start and end and start >= end:
            faults.append(_("The time range ends before it begins."))
        return cls(
            period=PERIODS.get(given.get(PERIOD, "")),
            start=start,
            end=end,
            faults=tuple(faults),
            written=(_field(start), _field(end)),
        )

    @property
    def condition(self) -> Q:
        found = Q() if self.start is None else Q(created_at__gte=self.start)
        if self.period is not None:
            found &= Q(created_at__gte=timezone.now() - self.period.length)
        return found if self.end is None else found & Q(created_at__lt=self.end)

    def __bool__(self) -> bool:
        return self.period is not None or self.start is not None or self.end is not None


def moment_in(text: str) -> datetime:
    """Read RFC 3339, or a date, or a local time without an offset.

    Raises:
        ValueError, OverflowError: it is something else, or a time that no database holds.
    """
    moment = datetime.fromisoformat(text)
    if timezone.is_naive(moment):
        # Around the ends of the calendar a moment has no counterpart in UTC.
        timezone.make_aware(moment).astimezone(UTC)
        return timezone.make_aware(moment) if settings.USE_TZ else moment
    moment.astimezone(UTC)
    return moment if settings.USE_TZ else timezone.make_naive(moment)


def _field(moment: datetime | None) -> str:
    if moment is None:
        return ""
    local = moment if timezone.is_naive(moment) else timezone.localtime(moment)
    return local.replace(tzinfo=None).isoformat(timespec="seconds")
