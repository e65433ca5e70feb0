"""The audit trail, which can be read and searched and not changed."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from channels_secure.admin.base import ModelAdmin as Base
from channels_secure.admin.exports import export
from channels_secure.admin.filters import PeriodFilter, ReasonFilter
from channels_secure.admin.operators import acting, may_block, may_export
from channels_secure.admin.paging import TrailChangeList, TrailPaginator
from channels_secure.admin.standing import Standing, standing_of
from channels_secure.audit.finding import search
from channels_secure.models import AuditEvent, Block, checked_network

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[AuditEvent]
else:
    ModelAdmin = Base

# An event carries what its page found out about it to the column that shows it.
STANDING = "channels_secure_standing"
MAY_VIEW = "channels_secure_may_view_blocks"
ADD_PAGE = "channels_secure_add_page"
# `get_kind_display()` makes this table anew for each row.
LABELS: dict[str, Any] = dict(AuditEvent.Kind.choices)
COLUMNS = ("first_time", "what", "who", "path", "count")
FIELDS = (
    ("first_time", "last_time", "count"),
    ("kind", "reason"),
    ("user", "username"),
    "ip",
    "path",
    "origin",
    "user_agent",
    "connection_id",
    ("actor", "actor_from"),
    "detail_text",
)
# What an address of the list may ask for: each has an index.
LOOKUPS = frozenset(
    {"period", "reason", "kind", "kind__exact", "ip", "username", "connection_id", "user", "user_id", "user__id__exact"}
)


@admin.register(AuditEvent)
class AuditEventAdmin(ModelAdmin):
    """Lists by time; every text is shown as text."""

    list_filter = (PeriodFilter, "kind", ReasonFilter)
    paginator = TrailPaginator
    sortable_by = ("first_time",)
    # Any value here shows the search box; `get_search_results` does the searching.
    search_fields = ("username",)
    search_help_text = _("A username or an address, exactly, or the beginning of a connection's id")
    ordering = ("-created_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None

    class Media:
        css = {"all": ("channels_secure/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        return (*COLUMNS, "block_links") if may_block(request) else COLUMNS

    def get_fields(self, request: HttpRequest, obj: AuditEvent | None = None) -> tuple[Any, ...]:
        return (*FIELDS, "block_links") if may_block(request) else FIELDS

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TrailChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # Anything else in an address, `path__icontains` say, would read the whole table.
        return lookup in LOOKUPS

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/", view, name="channels_secure_auditevent_export"), *super().get_urls()]

    @acting
    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        return export(self, request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if may_export(request):
            page = reverse("admin:channels_secure_auditevent_export", current_app=self.admin_site.name)
            extra_context = {**(extra_context or {}), "export_page": page}
        return super().changelist_view(request, extra_context)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        page = super().get_changelist_instance(request)
        self._mark(request, page.result_list)
        return page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> AuditEvent | None:
        event = super().get_object(request, object_id, from_field)
        self._mark(request, [] if event is None else [event])
        return event

    def _mark(self, request: HttpRequest, events: Iterable[AuditEvent]) -> None:
        if not may_block(request):
            return
        may_view = request.user.has_perm("channels_secure.view_block")
        add_page = reverse("admin:channels_secure_block_add", current_app=self.admin_site.name)
        found = standing_of(events)
        for event in events:
            vars(event).update({STANDING: found[event.pk], MAY_VIEW: may_view, ADD_PAGE: add_page})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        return search(queryset, search_term), False

    @admin.display(description=_("time"), ordering="created_at")
    def first_time(self, event: AuditEvent) -> SafeString:
        return _to_the_second(event.created_at)

    @admin.display(description=_("last time"))
    def last_time(self, event: AuditEvent) -> SafeString:
        return _to_the_second(event.last_at)

    @admin.display(description=_("event"))
    def what(self, event: AuditEvent) -> SafeString:
        return _stacked(LABELS.get(event.kind, event.kind), event.reason)

    @admin.display(description=_("client"))
    def who(self, event: AuditEvent) -> SafeString:
        return _stacked(event.username, event.ip)

    @admin.display(description=_("detail"))
    def detail_text(self, event: AuditEvent) -> SafeString:
        return format_html('<pre class="cs-detail">{}</pre>', json.dumps(event.detail, indent=2, ensure_ascii=False))

    @admin.display(description=_("block"))
    def block_links(self, event: AuditEvent) -> SafeString:
        """Links to the form that blocks, filled in; to the block itself where there is one already."""
        standing: Standing = vars(event)[STANDING]
        shown = []
        if standing.user is not None:
            shown.append(self._state(event, standing.user, _("User blocked")))
        elif event.user_id is not None:
            shown.append(_link(event, {"user": event.user_id}, _("Block user")))
        if standing.network is not None:
            shown.append(self._state(event, standing.network, _("Address blocked")))
        elif _can_be_blocked(event.ip):
            shown.append(_link(event, {"network": event.ip}, _("Block address")))
        return format_html_join(" ", "{}", ((part,) for part in shown))

    def _state(self, event: AuditEvent, block: Block, label: Any) -> SafeString:
        if not vars(event)[MAY_VIEW]:
            return format_html('<span class="cs-block cs-active">{}</span>', label)
        page = reverse("admin:channels_secure_block_change", args=[block.pk], current_app=self.admin_site.name)
        return format_html('<a class="cs-block cs-active" href="{}">{}</a>', page, label)


def _link(event: AuditEvent, fields: dict[str, Any], label: Any) -> SafeString:
    return format_html('<a class="cs-block" href="{}?{}">{}</a>', vars(event)[ADD_PAGE], urlencode(fields), label)


def _stacked(*lines: str) -> SafeString:
    return format_html_join("", '<div class="cs-line">{}</div>', ((line,) for line in lines if line))


def _to_the_second(moment: datetime) -> SafeString:
    local = moment if timezone.is_naive(moment) else timezone.localtime(moment)
    # The date does not break at its hyphens; between date and time is where a narrow column may.
    parts = ((f"{local:%Y-%m-%d}",), (f"{local:%H:%M:%S}",))
    return format_html_join(" ", '<span class="cs-time">{}</span>', parts)


def _can_be_blocked(ip: str) -> bool:
    try:
        checked_network(ip)
    except ValueError:
        return False
    return True
