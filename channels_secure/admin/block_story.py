"""What a block's own page tells: who made it and why, what it has done since, and what was there before."""

from datetime import datetime
from typing import Any

from django.contrib.admin import AdminSite
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from channels_secure.admin import block_cells, buttons, cells
from channels_secure.admin.guarding import moment, name_of
from channels_secure.admin.hits import SKEW, Hits, details_of
from channels_secure.admin.standing import networks_around
from channels_secure.models import AuditEvent, Block, LiveConnection
from channels_secure.policy.addresses import network_for

MOST_HISTORY = 20
# Events around the moment of a change among which the change's own is looked for.
MOST_AROUND = 200


def context_of(
    site: AdminSite, request: HttpRequest, block: Block, *, may_lift: bool, may_block: bool
) -> dict[str, Any]:
    """What the page's template shows."""
    hits = details_of(block)
    is_active = block.is_active
    again = {"user": block.user_id} if block.network is None else {"network": block.network}
    address = buttons.page(site, "block_change", block.pk)
    return {
        "title": _("Block of %(subject)s") % {"subject": block.subject},
        "subtitle": None,
        "story": _sentences(block, hits),
        "hits": hits,
        "clients": [
            (client, _events_of_client(site, request, client.username, client.ip)) for client in hits.most_frequent
        ],
        "history": [_row(site, each) for each in history_of(block)],
        "history_title": _("Other blocks of this user") if block.network is None else _("Other blocks of this network"),
        "events_url": buttons.events(site, request, **_filter(block)),
        "live_url": _live(site, request, block),
        "lift_url": buttons.page(site, "block_lift", block.pk, next=address) if is_active and may_lift else "",
        "extend_url": buttons.page(site, "block_add", **again, reason=block.reason) if may_block else "",
        "is_active": is_active,
    }


def _row(site: AdminSite, block: Block) -> dict[str, Any]:
    return {
        "page": buttons.page(site, "block_change", block.pk),
        "subject": block.subject,
        "reason": block.reason,
        "state": block_cells.state(block),
        "who": block_cells.who(block),
        "made": block_cells.made(block),
        "ends": block_cells.ends(block),
    }


def _sentences(block: Block, hits: Hits) -> list[str]:
    now = timezone.now()
    acted = _acted(block)
    said = [_made(block, acted.get("block.created", ""), now)]
    if block.reason:
        said.append(_("The reason given: %(reason)s") % {"reason": block.reason})
    if block.lifted_at is not None:
        said.append(_lifted(block, acted.get("block.lifted", ""), now))
    elif block.expires_at is None:
        said.append(_("It lasts until somebody lifts it."))
    elif block.expires_at > now:
        words = {"moment": moment(block.expires_at), "left": timesince(now, block.expires_at)}
        said.append(_("It ends at %(moment)s, %(left)s from now.") % words)
    else:
        words = {"moment": moment(block.expires_at), "when": cells.ago(block.expires_at, now)}
        said.append(_("It ended at %(moment)s, %(when)s.") % words)
    said.append(_refused(hits, now))
    return said


def _made(block: Block, place: str, now: datetime) -> str:
    who = _("the package itself") if block.automatic else (name_of(block.created_by) or _("somebody unknown"))
    words = {"subject": block.subject, "who": who, "place": place, "when": cells.ago(block.created_at, now)}
    if place:
        return _("%(subject)s was blocked %(when)s by %(who)s, who was at %(place)s.") % words
    return _("%(subject)s was blocked %(when)s by %(who)s.") % words


def _lifted(block: Block, place: str, now: datetime) -> str:
    who = name_of(block.lifted_by) or _("somebody unknown")
    words = {"who": who, "place": place, "when": cells.ago(block.lifted_at or now, now)}
    if place:
        return _("It was lifted %(when)s by %(who)s, who was at %(place)s.") % words
    return _("It was lifted %(when)s by %(who)s.") % words


def _refused(hits: Hits, now: datetime) -> str:
    if hits.last_at is None:
        return _("It has refused nobody yet.") if not hits.is_bound else _("Whom it refused is too long ago to tell.")
    words = {"count": str(hits), "when": cells.ago(hits.last_at, now)}
    return _("Handshakes it has refused: %(count)s, the last %(when)s.") % words


def _acted(block: Block) -> dict[str, str]:
    """From where the block was made and lifted, by the kind of event."""
    moments = [moment for moment in (block.created_at, block.lifted_at) if moment is not None]
    around = Q(*(("created_at__range", (moment - SKEW, moment + SKEW)) for moment in moments), _connector=Q.OR)
    kinds = (AuditEvent.Kind.BLOCK_CREATED, AuditEvent.Kind.BLOCK_LIFTED)
    rows = AuditEvent.objects.filter(around, kind__in=kinds).values_list("kind", "detail__block", "actor_from")
    return {kind: place for kind, key, place in rows[:MOST_AROUND] if key == block.pk}


def history_of(block: Block) -> list[Block]:
    """The other blocks of the same user, or of the same network and those around it, the newest first."""
    is_user = block.network is None
    about = Q(user_id=block.user_id) if is_user else Q(network__in=_around(block.network or ""))
    rows = Block.objects.filter(about).exclude(pk=block.pk).select_related("user", "created_by", "lifted_by")
    return list(rows.order_by("-created_at", "-id")[:MOST_HISTORY])


def _around(network: str) -> list[str]:
    try:
        return networks_around(network_for(network, 128))
    except ValueError:
        return [network]  # a row that SQL has made


def _filter(block: Block) -> dict[str, Any]:
    return {"user": block.user_id} if block.network is None else {"ip": _bare(block.network)}


def _bare(network: str) -> str:
    """The address, where the network is one."""
    base, _slash, length = network.partition("/")
    return base if length == ("128" if ":" in base else "32") else network


def _events_of_client(site: AdminSite, request: HttpRequest, username: str, ip: str) -> str:
    return buttons.events(site, request, **({"ip": ip} if ip else {"username": username}))


def _live(site: AdminSite, request: HttpRequest, block: Block) -> str:
    if not site.is_registered(LiveConnection):
        return ""
    if not site.get_model_admin(LiveConnection).has_view_permission(request):
        return ""
    asked = {"user": block.user_id} if block.network is None else {"q": _bare(block.network)}
    return buttons.page(site, "liveconnection_changelist", **asked)
