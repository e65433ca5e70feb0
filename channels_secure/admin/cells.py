"""How lists and panels show moments, spans, rates, and several lines in one cell."""

from datetime import datetime

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

MINUTE = 60.0


def to_the_second(moment: datetime) -> SafeString:
    local = moment if timezone.is_naive(moment) else timezone.localtime(moment)
    # The date does not break at its hyphens; between date and time is where a narrow column may.
    parts = ((f"{local:%Y-%m-%d}",), (f"{local:%H:%M:%S}",))
    return format_html_join(" ", '<span class="cs-time">{}</span>', parts)


def span(start: datetime, end: datetime) -> str:
    """The time between two moments in the largest unit that fits; none where the clocks of two machines differ."""
    seconds = max(0, int((end - start).total_seconds()))
    if seconds < MINUTE:
        return ngettext("%(count)d second", "%(count)d seconds", seconds) % {"count": seconds}
    return timesince(start, end, depth=1)


def ago(moment: datetime, now: datetime) -> str:
    return _("%(span)s ago") % {"span": span(moment, now)}


def ahead(moment: datetime, now: datetime) -> str:
    """How long it is until a moment."""
    return _("over") if moment <= now else _("in %(span)s") % {"span": span(now, moment)}


def moment(when: datetime, now: datetime) -> SafeString:
    """How far away a moment is, briefly, with its date and time where somebody points at it."""
    local = when if timezone.is_naive(when) else timezone.localtime(when)
    away = _brief(abs((when - now).total_seconds()))
    words = _("in %(span)s") % {"span": away} if when > now else _("%(span)s ago") % {"span": away}
    attributes = when.isoformat(), f"{local:%Y-%m-%d %H:%M:%S}"
    return format_html('<time class="cs-time" datetime="{}" title="{}">{}</time>', *attributes, words)


def _brief(seconds: float) -> str:
    for unit, size, most in ((_("s"), 1, 60), (_("min"), 60, 3600), (_("h"), 3600, 172800)):
        if seconds < most:
            return f"{seconds // size:.0f}\xa0{unit}"
    # Not within the braces, where Python 3.11 shows it to nobody who collects texts.
    days = _("d")
    return f"{seconds // 86400:.0f}\xa0{days}"


def at(when: datetime, now: datetime) -> SafeString:
    """A moment in full: its date and time, and how far away it is."""
    away = ahead(when, now) if when > now else ago(when, now)
    return format_html("{} ({})", to_the_second(when), away)


def per_minute(count: int, since: datetime, now: datetime) -> str:
    """How many a minute it were on average; whatever is younger than a minute counts as a minute old."""
    minutes = max((now - since).total_seconds() / MINUTE, 1.0)
    # Django cuts decimals off where one would round.
    return number_format(round(count / minutes, 1), 1, use_l10n=True, force_grouping=True)


def stacked(*lines: object) -> SafeString:
    return format_html_join("", '<div class="cs-line">{}</div>', ((line,) for line in lines if line))
