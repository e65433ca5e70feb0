"""The dashboard's lists of who and what stands out, with what an operator can do about each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext_lazy, ngettext

from channels_secure.admin.headline import grouped
from channels_secure.admin.leading import Leading
from channels_secure.admin.periods import Text
from channels_secure.admin.ranking import Ranking, Subject, Tally
from channels_secure.admin.standing import Standing, standing_of
from channels_secure.models import AuditEvent, checked_network

HEADINGS: Mapping[Subject, tuple[Text, Text]] = {
    Subject.USERS: (gettext_lazy("Users"), gettext_lazy("User")),
    Subject.ADDRESSES: (gettext_lazy("Addresses"), gettext_lazy("Address")),
    Subject.NETWORKS: (gettext_lazy("Networks"), gettext_lazy("Network")),
    Subject.ORIGINS: (gettext_lazy("Origins"), gettext_lazy("Origin")),
    Subject.REASONS: (gettext_lazy("Reasons"), gettext_lazy("Reason")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a list.

    Args:
        href: the list of its events, where there is one.
        hint: what else is known of it: how many events there were in all, and with whom it was seen.
        block_href: the form that blocks it; `blocked_href` is the block that it has already.
    """

    text: str
    refused: str
    href: str = ""
    hint: str = ""
    is_blocked: bool = False
    blocked_href: str = ""
    block_href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """A list; `can_block` says whether it has a column for that."""

    key: str
    heading: Text
    column: Text
    can_block: bool = False
    entries: list[Entry] = field(default_factory=list)


def tops(found: Ranking, to: Leading) -> list[Top]:
    standing = _standing(found.tops)
    return [_top(subject, tallies, standing, to) for subject, tallies in found.tops.items()]


def _standing(found: Mapping[Subject, Sequence[Tally]]) -> Mapping[tuple[Subject, int], Standing]:
    """Who is blocked, of all lists at once: as if each line were an event of its own."""
    places = [
        (subject, number)
        for subject in (Subject.USERS, Subject.ADDRESSES, Subject.NETWORKS)
        for number in range(len(found[subject]))
    ]
    events = []
    for key, (subject, number) in enumerate(places):
        tally = found[subject][number]
        ip = "" if subject is Subject.USERS else tally.text
        events.append(AuditEvent(pk=key, user_id=tally.user_id, ip=ip))
    known = standing_of(events)
    return {place: known[key] for key, place in enumerate(places)}


def _top(
    subject: Subject, tallies: Sequence[Tally], standing: Mapping[tuple[Subject, int], Standing], to: Leading
) -> Top:
    heading, column = HEADINGS[subject]
    entries = [
        _entry(subject, tally, standing.get((subject, number), Standing()), to) for number, tally in enumerate(tallies)
    ]
    can_block = any(entry.is_blocked or entry.block_href for entry in entries)
    return Top(key=subject, heading=heading, column=column, can_block=can_block, entries=entries)


def _entry(subject: Subject, tally: Tally, standing: Standing, to: Leading) -> Entry:
    block = standing.user or standing.network
    return Entry(
        text=tally.text,
        refused=grouped(tally.refused),
        href=_events(subject, tally, to),
        hint=_hint(subject, tally),
        is_blocked=block is not None,
        blocked_href=to.block(block.pk) if block is not None else "",
        block_href="" if block is not None else _form(subject, tally, to),
    )


def _events(subject: Subject, tally: Tally, to: Leading) -> str:
    if subject is Subject.USERS:
        # Somebody who is gone has no primary key any more, and their name may be that of another user.
        return to.events(username=tally.text) if tally.user_id is None else to.events(user=tally.user_id)
    if subject is Subject.ADDRESSES:
        return to.events(ip=tally.text)
    if subject is Subject.NETWORKS:
        return to.events(q=tally.text)
    return to.events(reason=tally.text) if subject is Subject.REASONS else ""


def _form(subject: Subject, tally: Tally, to: Leading) -> str:
    if subject is Subject.USERS:
        return to.form(user=tally.user_id) if tally.user_id is not None else ""
    if subject not in {Subject.ADDRESSES, Subject.NETWORKS}:
        return ""
    try:
        return to.form(network=checked_network(tally.text))
    except ValueError:
        # It is no address, or everybody would be locked out.
        return ""


def _hint(subject: Subject, tally: Tally) -> str:
    """From how many addresses a user came, and how many users a block of an address or network concerns."""
    users, addresses = len(tally.users - {""}), len(tally.addresses - {""})
    parts = []
    if tally.events > tally.refused:
        parts.append(_several(ngettext("of %(number)s event", "of %(number)s events", tally.events), tally.events))
    if addresses and subject is not Subject.ADDRESSES:
        parts.append(_several(ngettext("%(number)s address", "%(number)s addresses", addresses), addresses))
    if users and subject is not Subject.USERS:
        parts.append(_several(ngettext("%(number)s user", "%(number)s users", users), users))
    return ", ".join(parts)


def _several(text: str, number: int) -> str:
    return text % {"number": grouped(number)}
