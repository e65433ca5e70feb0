"""The dashboard: what is happening, to whom, and since when; as a page, and as the part of it that changes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseTrouble
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels_secure.admin import figures, headline, tiles
from channels_secure.admin.cells import to_the_second
from channels_secure.admin.leading import Leading, leading
from channels_secure.admin.operators import may_view_dashboard
from channels_secure.admin.panel import unharmed
from channels_secure.admin.periods import DEFAULT, PERIODS, Text, Window, shown, window
from channels_secure.admin.picture import picture
from channels_secure.admin.ranking import REACH, Ranking, ranking
from channels_secure.admin.subjects import tops
from channels_secure.models import AuditEvent

if TYPE_CHECKING:
    Mixin = admin.ModelAdmin[AuditEvent]
else:
    Mixin = object

logger = logging.getLogger("channels_secure")

# How often the page asks for its newest part, in seconds.
INTERVAL = 10
LATEST = 20
LABELS: dict[str, Any] = dict(AuditEvent.Kind.choices)


class DashboardMixin(Mixin):
    """Gives the dashboard an address below that of the list which has the mixin."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.dashboard_view)
        return [path("dashboard/", view, name="channels_secure_dashboard"), *super().get_urls()]

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """The page; with `part`, only what changes from one look to the next."""
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not may_view_dashboard(request):
            raise PermissionDenied
        chosen = PERIODS.get(request.GET.get("period", ""), PERIODS[DEFAULT])
        request.current_app = self.admin_site.name
        found = _found(window(chosen, timezone.now()), leading(self.admin_site, request, chosen))
        status = 503 if found is None else 200
        if "part" in request.GET:
            # Of an answer like this the page says that its figures are old.
            part = "admin/channels_secure/dashboard_part.html"
            return HttpResponse(status=status) if found is None else TemplateResponse(request, part, found)
        site = self.admin_site.each_context(request)
        whole = {
            **site,
            **(found or {"chosen": chosen}),
            "has_failed": found is None,
            "title": gettext_lazy("Dashboard"),
            "section": self.opts,
            # Who may see none of its lists has no page of the app either.
            "has_app_page": any(app["app_label"] == self.opts.app_label for app in site["available_apps"]),
            "periods": PERIODS.values(),
            "interval": INTERVAL,
        }
        return TemplateResponse(request, "admin/channels_secure/dashboard.html", whole, status=status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One of the last events."""

    event: AuditEvent
    time: SafeString
    label: Text
    count: str
    href: str


def _found(span: Window, to: Leading) -> dict[str, Any] | None:
    """What the templates show; None where the database fails, or takes longer than it may."""
    try:
        with unharmed(AuditEvent):
            return now(span, to)
    except DatabaseTrouble as error:
        logger.warning("admin.dashboard_failed", extra={"error": type(error).__name__})
        return None


def now(span: Window, to: Leading) -> dict[str, Any]:
    """What the templates show."""
    found = figures.figures(span)
    earlier = figures.before(span, found)
    ranked = ranking(span)
    degraded = tiles.degraded_stores(span.now)
    return {
        "chosen": span.period,
        "updated": span.now,
        "since": span.start,
        "alerts": [tiles.words(each) for each in degraded],
        "sentences": headline.sentences(span, found, earlier, ranked),
        "tiles": tiles.tiles(span, found, earlier, degraded, to),
        "picture": picture(span, found),
        "tops": tops(ranked, to),
        "sample": _sample(ranked),
        "latest": list(_latest(to)),
        "events_href": to.events(),
    }


def _sample(found: Ranking) -> str:
    """Of what the lists are made, where that is not everything."""
    if found.counted_from is None:
        return ""
    facts = {"rows": headline.grouped(REACH), "time": shown(found.counted_from, "D j M H:i:s")}
    return _("Of the newest %(rows)s rows, since %(time)s.") % facts


def _latest(to: Leading) -> Iterator[Line]:
    for event in AuditEvent.objects.order_by("-created_at", "-id")[:LATEST]:
        label = LABELS.get(event.kind, event.kind)
        time = to_the_second(event.created_at)
        yield Line(event=event, time=time, label=label, count=headline.grouped(event.count), href=to.event(event.pk))
