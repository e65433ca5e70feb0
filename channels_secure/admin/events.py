"""The audit trail, which can be read and searched and not changed."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from channels_secure.admin.filters import PeriodFilter, ReasonFilter
from channels_secure.admin.standing import Standing, standing_of
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent, Block, checked_network
from channels_secure.policy.addresses import bucket, parse_address

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[AuditEvent]
else:
    ModelAdmin = admin.ModelAdmin

# An event carries what its page found out about it to the column that shows it.
STANDING = "channels_secure_standing"
MAY_VIEW = "channels_secure_may_view_blocks"
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
    "actor",
    "detail_text",
)


@admin.register(AuditEvent)
class AuditEventAdmin(ModelAdmin):
    """Lists by time; every text is shown as text."""

    list_filter = (PeriodFilter, "kind", ReasonFilter)
    # Any value here shows the search box; `get_search_results` does the searching.
    search_fields = ("username",)
    search_help_text = _("A username or an address, exactly, or the beginning of a connection's id")
    ordering = ("-created_at", "-id")
    list_per_page = 50
    # Counting a table of millions of rows would take longer than reading the page.
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
        return (*COLUMNS, "block_links") if self._may_block(request) else COLUMNS

    def get_fields(self, request: HttpRequest, obj: AuditEvent | None = None) -> tuple[Any, ...]:
        return (*FIELDS, "block_links") if self._may_block(request) else FIELDS

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        page = super().get_changelist_instance(request)
        self._mark(request, page.result_list)
        return page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> AuditEvent | None:
        event = super().get_object(request, object_id, from_field)
        self._mark(request, [] if event is None else [event])
        return event

    def _mark(self, request: HttpRequest, events: Iterable[AuditEvent]) -> None:
        if not self._may_block(request):
            return
        may_view = request.user.has_perm("channels_secure.view_block")
        found = standing_of(events)
        for event in events:
            vars(event).update({STANDING: found[event.pk], MAY_VIEW: may_view})

    def _may_block(self, request: HttpRequest) -> bool:
        return request.user.has_perm("channels_secure.add_block")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        address = parse_address(term)
        if address is None:
            found = Q(username=term) | Q(connection_id__startswith=term) | Q(ip=term)
        else:
            # Rows that sum up an IPv6 client's events carry its network.
            found = Q(ip__in={str(address), bucket(address, get_settings().ipv6_prefix)})
        return queryset.filter(found), False

    @admin.display(description=_("time"), ordering="created_at")
    def first_time(self, event: AuditEvent) -> SafeString:
        return _to_the_second(event.created_at)

    @admin.display(description=_("last time"))
    def last_time(self, event: AuditEvent) -> SafeString:
        return _to_the_second(event.last_at)

    @admin.display(description=_("event"), ordering="kind")
    def what(self, event: AuditEvent) -> SafeString:
        return _stacked(event.get_kind_display(), event.reason)

    @admin.display(description=_("client"), ordering="username")
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
            shown.append(self._link({"user": event.user_id}, _("Block user")))
        if standing.network is not None:
            shown.append(self._state(event, standing.network, _("Address blocked")))
        elif _can_be_blocked(event.ip):
            shown.append(self._link({"network": event.ip}, _("Block address")))
        return format_html_join(" ", "{}", ((part,) for part in shown))

    def _link(self, fields: dict[str, Any], label: Any) -> SafeString:
        page = reverse("admin:channels_secure_block_add", current_app=self.admin_site.name)
        return format_html('<a class="cs-block" href="{}?{}">{}</a>', page, urlencode(fields), label)

    def _state(self, event: AuditEvent, block: Block, label: Any) -> SafeString:
        if not vars(event)[MAY_VIEW]:
            return format_html('<span class="cs-block cs-active">{}</span>', label)
        page = reverse("admin:channels_secure_block_change", args=[block.pk], current_app=self.admin_site.name)
        return format_html('<a class="cs-block cs-active" href="{}">{}</a>', page, label)


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
