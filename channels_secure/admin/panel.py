"""What is known of a user or a connection, in a few rows each, for the pages that show it."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.db import Error as DatabaseTrouble
from django.db import connections as databases
from django.db import router, transaction
from django.db.models import F, Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from channels_secure.admin import buttons, cells
from channels_secure.admin.operators import may_block, may_disconnect
from channels_secure.models import AuditEvent, Block, LiveConnection

logger = logging.getLogger("channels_secure")

ROWS = 10
LABELS: dict[str, Any] = dict(AuditEvent.Kind.choices)


def may_see_blocks(request: HttpRequest) -> bool:
    return may_block(request) or request.user.has_perm("channels_secure.view_block")


def may_see_connections(request: HttpRequest) -> bool:
    return may_disconnect(request) or request.user.has_perm("channels_secure.view_liveconnection")


def may_see_events(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("channels_secure.view_auditevent"))


# A connection --------------------------------------------------------------------------------------------------------


def of_connection(site: AdminSite, request: HttpRequest, row: LiveConnection) -> dict[str, Any]:
    """What the page of an open connection shows beside its own facts."""
    ends = [(_("Disconnect"), buttons.disconnect(site, request, connection=row.pk))]
    blocks = []
    if row.user_id is not None:
        ends.append((_("Disconnect the user"), buttons.disconnect(site, request, user=row.user_id)))
        blocks.append((_("Block the user"), buttons.block_user(site, request, row.user_id)))
    if row.ip:
        ends.append((_("Disconnect the address"), buttons.disconnect(site, request, ip=row.ip)))
        blocks.append((_("Block the address"), buttons.block_address(site, request, row.ip)))
    context: dict[str, Any] = {"links": [(label, url) for label, url in (*ends, *blocks) if url]}
    if may_see_events(request):
        context["trails"] = [_trail(site, request, _("Last events of this connection"), connection_id=row.pk)]
        if row.user_id is not None:
            context["trails"].append(_trail(site, request, _("Last events of this user"), user=row.user_id))
    return context


def _trail(site: AdminSite, request: HttpRequest, heading: Any, **who: Any) -> dict[str, Any]:
    rows = [_event(site, event) for event in AuditEvent.objects.filter(**who).order_by("-created_at", "-id")[:ROWS]]
    return {"heading": heading, "events": rows, "all": buttons.events(site, request, **who)}


def _event(site: AdminSite, event: AuditEvent) -> dict[str, Any]:
    return {
        "event": event,
        "label": LABELS.get(event.kind, event.kind),
        "time": cells.to_the_second(event.created_at),
        "url": buttons.page(site, "auditevent_change", event.pk),
    }


# A user --------------------------------------------------------------------------------------------------------------


class UserPanel:
    """Whether a user is blocked, what they have open, and what happened to them, on a page that is not ours.

    Nothing here makes that page fail: where the database does not answer, a line says so.
    """

    def __init__(self, site: AdminSite, request: HttpRequest, key: Any) -> None:
        self.site = site
        self.request = request
        self.key = key
        # A theme may ask for the same field several times.
        self._made: dict[str, SafeString] = {}

    @staticmethod
    def parts(request: HttpRequest) -> tuple[str, ...]:
        """The parts that somebody may see."""
        rights = {"state": may_see_blocks, "connections": may_see_connections, "events": may_see_events}
        return tuple(name for name, is_allowed in rights.items() if is_allowed(request))

    def show(self, part: str) -> SafeString:
        """One part, as text where nothing could be found out."""
        if part not in self.parts(self.request):
            return SafeString("")
        if part not in self._made:
            find: Callable[[], dict[str, Any]] = {
                "state": self._state,
                "connections": self._connections,
                "events": self._events,
            }[part]
            self._made[part] = self._rendered(part, find)
        return self._made[part]

    def _rendered(self, part: str, find: Callable[[], dict[str, Any]]) -> SafeString:
        try:
            with unharmed(LiveConnection):
                context = find()
        except DatabaseTrouble as error:
            logger.warning("admin.panel_failed", extra={"error": type(error).__name__})
            return format_html('<p class="cs-note">{}</p>', _("This cannot be found out now: the database fails."))
        return SafeString(render_to_string(f"admin/channels_secure/user_{part}.html", context))

    def _state(self) -> dict[str, Any]:
        lasting = F("expires_at").desc(nulls_first=True)
        block = Block.objects.active().filter(user_id=self.key).select_related("created_by").order_by(lasting).first()
        may_view = self.request.user.has_perm("channels_secure.view_block") or may_block(self.request)
        links = [
            (_("Block from WebSockets"), "" if block else buttons.block_user(self.site, self.request, self.key)),
            (_("Disconnect"), buttons.disconnect(self.site, self.request, user=self.key)),
            (_("Revoke tokens"), buttons.revoke(self.site, self.request, self.key)),
        ]
        return {
            "block": block,
            "block_url": buttons.page(self.site, "block_change", block.pk) if block and may_view else "",
            "links": [(label, url) for label, url in links if url],
        }

    def _connections(self) -> dict[str, Any]:
        rows = LiveConnection.objects.live().filter(user_id=self.key).select_related("process")
        found = list(rows.order_by("-opened_at")[: ROWS + 1])
        now = timezone.now()
        shown = [
            {
                "row": row,
                "since": cells.to_the_second(row.opened_at),
                "heard": "" if row.heard_at is None else cells.ago(row.heard_at, now),
                "rate": cells.per_minute(row.received, row.opened_at, now),
                "url": buttons.page(self.site, "liveconnection_change", quote(row.pk)),
            }
            for row in found[:ROWS]
        ]
        every = buttons.page(self.site, "liveconnection_changelist", user=self.key)
        return {"rows": shown, "all": every if len(found) > ROWS else ""}

    def _events(self) -> dict[str, Any]:
        return {"trail": _trail(self.site, self.request, "", user=self.key)}


def unharmed(model: type[Model]) -> AbstractContextManager[None]:
    """Where the page is inside a transaction, what fails in here must not end it."""
    using = router.db_for_read(model)
    # Outside of one, `atomic()` would begin one, which on SQLite may wait for whoever writes.
    return transaction.atomic(using=using) if databases[using].in_atomic_block else nullcontext()
