"""The audit trail, which can be read and searched and not changed."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from channels_secure.admin import buttons
from channels_secure.admin.base import ModelAdmin as Base
from channels_secure.admin.cells import stacked, to_the_second
from channels_secure.admin.dashboard import DashboardMixin
from channels_secure.admin.event_page import context_of
from channels_secure.admin.exports import export
from channels_secure.admin.filters import BlockedFilter, KindFilter, ReasonFilter
from channels_secure.admin.networks import network_in
from channels_secure.admin.operators import acting, may_block, may_export
from channels_secure.admin.paging import TrailChangeList, TrailPaginator
from channels_secure.admin.proof import chain_now
from channels_secure.admin.standing import Standing, standing_of
from channels_secure.audit.finding import search
from channels_secure.models import AuditEvent, Block

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[AuditEvent]
else:
    ModelAdmin = Base

# An event carries what its page found out about it to the column that shows it.
STANDING = "channels_secure_standing"
MAY_VIEW = "channels_secure_may_view_blocks"
ADD_PAGE = "channels_secure_add_page"
HERE = "channels_secure_here"
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
    {
        *("period", "from", "to", "blocked", "reason", "kind", "kind__exact"),
        *("ip", "username", "connection_id", "user", "user_id", "user__id__exact"),
    }
)


@admin.register(AuditEvent)
class AuditEventAdmin(DashboardMixin, ModelAdmin):
    """Lists by time; every text is shown as text."""

    list_filter = (BlockedFilter, KindFilter, ReasonFilter)
    paginator = TrailPaginator
    sortable_by = ("first_time",)
    # Any value here shows the search box; `get_search_results` does the searching.
    search_fields = ("username",)
    search_help_text = _(
        "A username or an address, exactly; a network, as 203.0.113.0/24; or the beginning of a connection's id"
    )
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
        return FIELDS

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
        shown = {"title": _("Audit events"), **(extra_context or {}), "chain": chain_now()}
        if may_export(request):
            shown["export_page"] = reverse("admin:channels_secure_auditevent_export", current_app=self.admin_site.name)
        return super().changelist_view(request, shown)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: AuditEvent | None = None,
    ) -> HttpResponse:
        if obj is not None:
            found = context_of(obj, self.admin_site, request, vars(obj).get(STANDING))
            context.update(found, here=request.get_full_path(), title=_("Audit event"))
        return super().render_change_form(request, context, add, change, form_url, obj)

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
        # A site of the project's own need not have the blocks.
        add_page = buttons.page(self.admin_site, "block_add")
        found, here = standing_of(events), request.get_full_path()
        for event in events:
            vars(event).update({STANDING: found[event.pk], MAY_VIEW: may_view, ADD_PAGE: add_page, HERE: here})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        # Networks are left to the list, which knows from where on to look.
        return queryset if _names_network(search_term) else search(queryset, search_term), False

    @admin.display(description=_("time"), ordering="created_at")
    def first_time(self, event: AuditEvent) -> SafeString:
        return to_the_second(event.created_at)

    @admin.display(description=_("last time"))
    def last_time(self, event: AuditEvent) -> SafeString:
        return to_the_second(event.last_at)

    @admin.display(description=_("event"))
    def what(self, event: AuditEvent) -> SafeString:
        return stacked(LABELS.get(event.kind, event.kind), event.reason)

    @admin.display(description=_("client"))
    def who(self, event: AuditEvent) -> SafeString:
        return stacked(event.username, event.ip)

    @admin.display(description=_("detail"))
    def detail_text(self, event: AuditEvent) -> SafeString:
        text = json.dumps(event.detail, indent=2, ensure_ascii=False)
        return format_html('<pre class="cs-detail" dir="ltr">{}</pre>', text)

    @admin.display(description=_("block"))
    def block_links(self, event: AuditEvent) -> SafeString:
        """Links to the form that blocks, filled in; to the block itself where there is one already."""
        standing: Standing = vars(event)[STANDING]
        shown, has_form = [], bool(vars(event)[ADD_PAGE])
        if standing.user is not None:
            shown.append(self._state(event, standing.user, _("User blocked")))
        elif event.user_id is not None and has_form:
            shown.append(_link(event, {"user": event.user_id}, _("Block user")))
        if standing.network is not None:
            shown.append(self._state(event, standing.network, _("Address blocked")))
        elif has_form and buttons.can_be_blocked(event.ip):
            shown.append(_link(event, {"network": event.ip}, _("Block address")))
        return format_html_join(" ", "{}", ((part,) for part in shown))

    def _state(self, event: AuditEvent, block: Block, label: Any) -> SafeString:
        page = buttons.page(self.admin_site, "block_change", block.pk) if vars(event)[MAY_VIEW] else ""
        if not page:
            return format_html('<span class="cs-block cs-active">{}</span>', label)
        return format_html('<a class="cs-block cs-active" href="{}">{}</a>', page, label)


def _link(event: AuditEvent, fields: dict[str, Any], label: Any) -> SafeString:
    asked = urlencode({**fields, "next": vars(event)[HERE]})
    return format_html('<a class="cs-block" href="{}?{}">{}</a>', vars(event)[ADD_PAGE], asked, label)


def _names_network(term: str) -> bool:
    try:
        return network_in(term) is not None
    except ValueError:
        return True
