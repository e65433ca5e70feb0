"""The six numbers at the top of the dashboard, each with what it says and where it leads."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure.admin.figures import Before, Figures
from channels_secure.admin.headline import comparison, counted, grouped
from channels_secure.admin.leading import Leading
from channels_secure.admin.periods import Text, Window, shown
from channels_secure.models import AuditEvent, Block, LiveConnection
from channels_secure.policy.decisions import Reason

Kind = AuditEvent.Kind
# A process that ended while it did without a store says no more that it has it back.
RECENT = timedelta(days=1)
# Changes of a store that are looked at, the newest of each kind.
CHANGES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where something leads; an empty address for those who may not go there."""

    text: Text
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One number.

    Args:
        hints: what is said below it, one line each.
        links: lists that make up the number, where one list does not hold it.
        is_bad: something is wrong, which `hints` put in words.
    """

    key: str
    label: Text
    number: str
    href: str = ""
    hints: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    is_bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """A store that some processes do without, and since when the first of them."""

    store: str
    since: datetime
    processes: int


def tiles(span: Window, now: Figures, earlier: Before | None, degraded: list[Degraded], to: Leading) -> list[Tile]:
    return [
        *_live(to),
        _refusals(span, now, earlier, to),
        _limited(span, now, earlier, to),
        _blocks(span, to),
        _stores(degraded, to),
    ]


def _live(to: Leading) -> list[Tile]:
    live = LiveConnection.objects.live().aggregate(
        connections=Count("pk"),
        users=Count("user_id", distinct=True),
        processes=Count("process_id", distinct=True),
        nobodys=Count("pk", filter=Q(user_id=None)),
    )
    processes = ngettext("in %(number)s process", "in %(number)s processes", live["processes"])
    nobodys = ngettext("%(number)s connection without a user", "%(number)s connections without a user", live["nobodys"])
    return [
        Tile(
            key="live",
            label=_("Live connections"),
            number=grouped(live["connections"]),
            href=to.connections(),
            hints=[processes % {"number": live["processes"]}] if live["connections"] else [],
        ),
        Tile(
            key="users",
            label=_("Live users"),
            number=grouped(live["users"]),
            href=to.connections(),
            hints=[nobodys % {"number": grouped(live["nobodys"])}] if live["nobodys"] else [],
        ),
    ]


def _refusals(span: Window, now: Figures, earlier: Before | None, to: Leading) -> Tile:
    parts = {
        Kind.HANDSHAKE_DENIED: _("handshakes"),
        Kind.MESSAGE_DENIED: _("messages"),
        Kind.CREDENTIALS_FAILED: _("credentials"),
    }
    links = [
        Link(text=f"{grouped(now.totals[kind])} {name}", href=to.events(kind=kind))
        for kind, name in parts.items()
        if now.totals[kind]
    ]
    return Tile(
        key="refusals",
        label=_("Refusals"),
        number=counted(now.refused, is_low=now.is_cut),
        href="" if links else to.events(),
        hints=[comparison(span.period, now.refused, earlier.refused)] if earlier else [],
        links=links,
    )


def _limited(span: Window, now: Figures, earlier: Before | None, to: Leading) -> Tile:
    return Tile(
        key="limits",
        label=_("Rate limits"),
        number=counted(now.limited, is_low=now.is_cut),
        href=to.events(reason=Reason.RATE_LIMITED),
        hints=[comparison(span.period, now.limited, earlier.limited)] if earlier else [],
    )


def _blocks(span: Window, to: Leading) -> Tile:
    found = Block.objects.active().aggregate(
        active=Count("pk"),
        made=Count("pk", filter=Q(created_at__gte=span.start)),
        automatic=Count("pk", filter=Q(automatic=True)),
    )
    made = _("%(number)s made %(within)s") % {"number": grouped(found["made"]), "within": span.period.within}
    automatic = _("%(number)s automatic") % {"number": grouped(found["automatic"])}
    hints = [made] * bool(found["made"]) + [automatic] * bool(found["automatic"])
    return Tile(key="blocks", label=_("Active blocks"), number=grouped(found["active"]), href=to.blocks(), hints=hints)


def _stores(degraded: list[Degraded], to: Leading) -> Tile:
    return Tile(
        key="stores",
        label=_("Degraded stores"),
        number=grouped(len(degraded)),
        href=to.events(kind=Kind.STORE_DEGRADED, period=""),
        hints=[words(each) for each in degraded] or [_("All stores answer")],
        is_bad=bool(degraded),
    )


def words(degraded: Degraded) -> str:
    said = ngettext(
        "%(store)s since %(time)s in %(number)s process",
        "%(store)s since %(time)s in %(number)s processes",
        degraded.processes,
    )
    facts = {"store": degraded.store, "time": shown(degraded.since, "D H:i"), "number": degraded.processes}
    return said % facts


def degraded_stores(now: datetime) -> list[Degraded]:
    """Stores that went away in some process within the last day, and have not come back there since."""
    away = _latest(Kind.STORE_DEGRADED, now)
    back = _latest(Kind.STORE_RECOVERED, now)
    since: dict[str, list[datetime]] = defaultdict(list)
    for (store, process), place in away.items():
        if place > back.get((store, process), (datetime.min.replace(tzinfo=now.tzinfo), 0)):
            since[store].append(place[0])
    return [Degraded(store=store, since=min(times), processes=len(times)) for store, times in sorted(since.items())]


def _latest(kind: str, now: datetime) -> dict[tuple[str, str], tuple[datetime, int]]:
    """When each store of each process last did so."""
    rows = AuditEvent.objects.filter(kind=kind, created_at__gte=now - RECENT).order_by("-created_at", "-id")
    found: dict[tuple[str, str], tuple[datetime, int]] = {}
    for moment, key, uid, detail in rows.values_list("created_at", "pk", "uid", "detail")[:CHANGES]:
        store = detail.get("store") if isinstance(detail, dict) else None
        # What a process names its events by begins alike (`models.new_uid`).
        found.setdefault((str(store or "?"), uid.rpartition("-")[0]), (moment, key))
    return found
