"""What the figures say, in a few sentences: how much, since when, and who."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure.admin.figures import Before, Figures
from channels_secure.admin.periods import Period, Window, shown
from channels_secure.admin.ranking import Ranking, Subject, Tally

# A bar stands out with so many times the usual, and at least so many.
TIMES, LEAST = 4, 20
# What is measured by fewer is no proportion.
FEW = 10
# Who has so large a share of the refusals is named.
SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """Bars that stand out: the first and the last one of them."""

    first: int
    last: int


def rise(bars: Sequence[int]) -> Rise | None:
    """The newest stretch of bars with far more than the usual; None where there is none, or its beginning is not seen.

    One bar in between that does not stand out is still the same trouble, as whatever comes in waves.
    """
    # Not the median: trouble may fill more than half of what is looked at.
    limit = max(LEAST, TIMES * sorted(bars)[(len(bars) - 1) // 4])
    high = [number for number, count in enumerate(bars) if count >= limit]
    if not high:
        return None
    first = high[-1]
    for number in reversed(high):
        if first - number > 2:
            break
        first = number
    found = Rise(first=first, last=high[-1])
    return found if _stands_out(found, bars) else None


def _stands_out(found: Rise, bars: Sequence[int]) -> bool:
    """Whether there is as much less outside of it, too: else it is one wave of many."""
    inside, outside = bars[found.first : found.last + 1], [*bars[: found.first], *bars[found.last + 1 :]]
    return found.first > 0 and sum(inside) * len(outside) >= TIMES * sum(outside) * len(inside)


def sentences(span: Window, now: Figures, earlier: Before | None, tops: Ranking) -> list[str]:
    said = [_how_much(span.period, now)]
    if earlier is not None and (now.refused or earlier.refused):
        said.append(f"{_capital(comparison(span.period, now.refused, earlier.refused))}.")
    if now.refused:
        # Where the beginning is not counted, nobody knows what is usual.
        said += ["" if now.is_cut else _since(span, now.refused_by_bar), *_who(tops)]
    return [each for each in said if each]


def _how_much(period: Period, now: Figures) -> str:
    number = now.refused
    if not number:
        return _("Nothing was refused %(within)s.") % {"within": period.within}
    said = ngettext("%(number)s refusal %(within)s.", "%(number)s refusals %(within)s.", number)
    return said % {"number": counted(number, is_low=now.is_cut), "within": period.within}


def comparison(period: Period, now: int, before: int) -> str:
    """How many there are, measured by how many there were."""
    if not before:
        return _("None %(before)s") % {"before": period.before} if now else _("None before either")
    if before < FEW and now != before:
        return _("%(number)s %(before)s") % {"number": grouped(before), "before": period.before}
    facts = {"times": grouped(now // before), "percent": abs(round(100 * now / before) - 100), "before": period.before}
    if now >= 2 * before:
        return _("%(times)s times as many as %(before)s") % facts
    if not facts["percent"]:
        return _("As many as %(before)s") % facts
    more = _("%(percent)s %% more than %(before)s") if now > before else _("%(percent)s %% fewer than %(before)s")
    return more % facts


def _since(span: Window, bars: Sequence[int]) -> str:
    found = rise(bars)
    if found is None:
        return ""
    form = "H:i" if span.period.by_minute else "D H:i"
    first = shown(span.starts[found.first], form)
    # The last bar has only begun.
    if found.last >= len(bars) - 2:
        return _("Far more than usual since %(time)s, and still.") % {"time": first}
    last = shown(span.starts[found.last] + span.period.step, form)
    return _("Far more than usual from %(first)s to %(last)s; it has calmed down.") % {"first": first, "last": last}


def _who(tops: Ranking) -> list[str]:
    said = {
        Subject.NETWORKS: _("%(percent)s %% come from the network %(name)s."),
        Subject.USERS: _("%(percent)s %% are of the user %(name)s."),
        Subject.REASONS: _("%(percent)s %% are for the reason %(name)s."),
    }
    return [
        text % {"percent": round(100 * first.refused / tops.refused), "name": first.text}
        for subject, text in said.items()
        if (first := _first(tops, subject)) is not None
    ]


def _first(tops: Ranking, subject: Subject) -> Tally | None:
    """Who stands out among them."""
    first = next(iter(tops.tops[subject]), None)
    return first if first is not None and tops.refused and first.refused >= SHARE * tops.refused else None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def grouped(number: int) -> str:
    """A number as people write it."""
    return number_format(number, use_l10n=True, force_grouping=True)


def counted(number: int, *, is_low: bool) -> str:
    """The same, if there may be more of them."""
    return f"{grouped(number)}+" if is_low else grouped(number)
