"""The parts of an event's sentence: who, whom, when, how often, how much. Whatever comes from outside is escaped."""

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure.admin import kinds
from channels_secure.models import AuditEvent

CLOCK = "H:i:s"
NOTHING = format_html("{}", "")


def detail_of(event: AuditEvent) -> Mapping[str, Any]:
    """The detail, if it is what the package writes: a database that was edited may hold anything."""
    return event.detail if isinstance(event.detail, dict) else {}


def text_of(event: AuditEvent, name: str) -> str:
    found = detail_of(event).get(name)
    return found if isinstance(found, str) else ""


def number_of(event: AuditEvent, name: str) -> float:
    found = detail_of(event).get(name)
    if not isinstance(found, int | float) or isinstance(found, bool):
        return 0
    return found if math.isfinite(found) else 0


# Who -----------------------------------------------------------------------------------------------------------------


def who(event: AuditEvent) -> SafeString:
    """The client, as the beginning of a sentence."""
    if detail_of(event).get("sum") == "kind and reason":
        return format_html("{}", _("Several clients"))
    if event.username and event.ip:
        return format_html(_("{name} (from {address})"), name=_name(event.username), address=_name(event.ip))
    if event.username or event.user_key:
        return _name(event.username or _("User %(key)s") % {"key": event.user_key})
    if event.ip:
        return format_html(_("Somebody at {address}"), address=_name(event.ip))
    return format_html("{}", _("Somebody"))


def _whom(event: AuditEvent) -> SafeString:
    """Whom an operator's act was about, in the middle of a sentence."""
    name = event.username or event.ip or event.user_key
    return _name(name) if name else format_html("{}", _("somebody"))


def _actor(event: AuditEvent) -> SafeString:
    if not event.actor:
        return format_html("{}", _("Somebody"))
    if not event.actor_from:
        return _name(event.actor)
    return format_html(_("{name} (from {address})"), name=_name(event.actor), address=_name(event.actor_from))


def _target(event: AuditEvent) -> SafeString:
    if event.connection_id:
        return format_html(_("the connection {id}"), id=_name(event.connection_id))
    if "session" in detail_of(event):
        return format_html("{}", _("the connections of one session"))
    return format_html(_("every connection of {whom}"), whom=_whom(event))


def _place(text: object) -> SafeString:
    return format_html("<bdi>{}</bdi>", text)


def _name(text: object) -> SafeString:
    # `bdi`: a name written from right to left must not turn the sentence around it.
    return format_html('<bdi class="cs-ev-name">{}</bdi>', text)


# When ----------------------------------------------------------------------------------------------------------------


def when(event: AuditEvent) -> str:
    """When it happened, and how often and until when if the row is a sum."""
    first, last = _local(event.created_at), _local(event.last_at)
    if event.count <= 1:
        return _at(first)
    count = shown(event.count)
    times = ngettext("%(count)s time", "%(count)s times", event.count) % {"count": count}
    start, end = date_format(first, CLOCK), date_format(last, CLOCK)
    if first.date() != last.date():
        span = {"times": times, "first": _moment(first), "last": _moment(last)}
        return _("%(times)s between %(first)s and %(last)s") % span
    if start == end:
        return _("%(times)s %(at)s") % {"times": times, "at": _at(first)}
    spoken = {"times": times, "day": _day(first.date()), "start": start, "end": end}
    return _("%(times)s %(day)s between %(start)s and %(end)s") % spoken


def _at(moment: datetime) -> str:
    return _("%(day)s at %(time)s") % {"day": _day(moment.date()), "time": date_format(moment, CLOCK)}


def _moment(moment: datetime) -> str:
    day, time = date_format(moment, "DATE_FORMAT"), date_format(moment, CLOCK)
    return _("%(day)s, %(time)s") % {"day": day, "time": time}


def _day(day: date) -> str:
    today = timezone.localdate() if timezone.is_aware(timezone.now()) else date.today()  # noqa: DTZ011 - the project's
    if day == today:
        return _("today")
    if day == today - timedelta(days=1):
        return _("yesterday")
    return _("on %(date)s") % {"date": date_format(day, "DATE_FORMAT")}


def _local(moment: datetime) -> datetime:
    return moment if timezone.is_naive(moment) else timezone.localtime(moment)


# What ----------------------------------------------------------------------------------------------------------------


def _page(event: AuditEvent) -> SafeString:
    origin = event.origin or text_of(event, "detail")
    return format_html(_("the page at {origin}"), origin=_place(origin)) if origin else format_html("{}", _("the page"))


def _subject(event: AuditEvent) -> str:
    return _("the address") if text_of(event, "detail").startswith("address") else _("the user")


def _much(event: AuditEvent) -> str:
    """What came too fast."""
    if text_of(event, "at") == "ticket" or text_of(event, "detail") == "ticket":
        return _("orders of tickets")
    is_open = event.kind in {kinds.Kind.MESSAGE_DENIED, kinds.Kind.CONNECTION_CLOSED}
    return _("messages") if is_open else _("attempts to connect")


def _path(event: AuditEvent) -> SafeString:
    return _place(event.path) if event.path else format_html("{}", _("the server"))


def _named(event: AuditEvent, name: str) -> SafeString:
    """What the detail calls something; a question mark where it does not."""
    return _place(text_of(event, name) or "?")


def _credentials(event: AuditEvent) -> str:
    kind = text_of(event, "credentials")
    return str(kinds.CREDENTIALS[kind]) if kind in kinds.CREDENTIALS else kind


def _bound(event: AuditEvent) -> SafeString:
    path = text_of(event, "path")
    return format_html(_(" at {path}"), path=_place(path)) if path else NOTHING


def _until(event: AuditEvent) -> str:
    end = text_of(event, "expires_at")
    try:
        moment = parse_datetime(end)
    except ValueError:
        moment = None
    if moment is None:
        return _("for ever") if not end else ""
    return _("until %(moment)s") % {"moment": _moment(_local(moment))}


def _words(event: AuditEvent) -> SafeString:
    return format_html(_(", for this reason: “{words}”"), words=event.reason) if event.reason else NOTHING


# How much ------------------------------------------------------------------------------------------------------------


def _rows(event: AuditEvent) -> str:
    count = int(number_of(event, "rows") + number_of(event, "acted"))
    return ngettext("%(count)s row", "%(count)s rows", count) % {"count": shown(count)}


def _events(event: AuditEvent) -> str:
    count = int(number_of(event, "events"))
    return ngettext("%(count)s event", "%(count)s events", count) % {"count": shown(count)}


def _days(event: AuditEvent) -> str:
    count = int(number_of(event, "days"))
    return ngettext("%(count)s day", "%(count)s days", count) % {"count": shown(count)}


def _tokens(event: AuditEvent) -> str:
    return _("one token") if "jti" in detail_of(event) else _("all tokens")


def _store(event: AuditEvent) -> str:
    name = text_of(event, "store")
    return str(kinds.STORES.get(name, name or _("store")))


def _error(event: AuditEvent) -> SafeString:
    error = text_of(event, "error")
    return format_html(" ({})", error) if error else NOTHING


def shown(number: float) -> str:
    return number_format(number, use_l10n=True, force_grouping=True)


PHRASES: Mapping[str, Callable[[AuditEvent], object]] = {
    "who": who,
    "whom": _whom,
    "actor": _actor,
    "target": _target,
    "when": when,
    "page": _page,
    "subject": _subject,
    "much": _much,
    "path": _path,
    "room": lambda event: _named(event, "room"),
    "role": lambda event: _named(event, "role"),
    "credentials": _credentials,
    "bound": _bound,
    "until": _until,
    "words": _words,
    "rows": _rows,
    "events": _events,
    "days": _days,
    "tokens": _tokens,
    "store": _store,
    "error": _error,
    "format": lambda event: text_of(event, "format").upper() or _("a file"),
    "kind": lambda event: event.kind,
}
