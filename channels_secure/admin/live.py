"""The sockets that are open now, in whatever process, and the buttons that end them."""

from typing import TYPE_CHECKING, Any

from channels.exceptions import InvalidChannelLayerError
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from channels_secure.admin import asking, buttons, cells, disconnecting, panel, revoking, sockets
from channels_secure.admin.base import ModelAdmin as Base
from channels_secure.admin.live_filters import CredentialsFilter, QuietFilter, ViolationsFilter
from channels_secure.admin.operators import acting, may_disconnect
from channels_secure.conf import get_settings
from channels_secure.models import LiveConnection
from channels_secure.policy.addresses import network_for, parse_address
from channels_secure.supervisor import push

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[LiveConnection]
else:
    ModelAdmin = Base

COLUMNS = ("who", "where", "since", "last_message", "traffic", "violations", "credential")
FIELDS = (
    "username", "ip", "path", "node", "opened", "heard", "traffic", "violations", "credentials", "expires",
    "user_agent", "connection_id",
)  # fmt: skip
# What an address of the list may ask for; anything else would read the whole table, joined with others perhaps.
LOOKUPS = frozenset({"by", "quiet", "violations", "user", "ip", "process"})


@admin.register(LiveConnection)
class LiveConnectionAdmin(ModelAdmin):
    """Only sockets of processes that live; nothing about them can be changed, but they can be ended."""

    list_display = COLUMNS
    list_filter = (CredentialsFilter, QuietFilter, ViolationsFilter)
    # Any value here shows the search box; `get_search_results` does the searching.
    search_fields = ("username",)
    search_help_text = _("A username, an address, a network or a connection's id, exactly")
    ordering = ("-opened_at", "pk")
    list_per_page = 50
    list_max_show_all = 0
    show_facets = admin.ShowFacets.NEVER
    actions = ("disconnect_selected",)
    fields = FIELDS

    class Media:
        css = {"all": ("channels_secure/admin.css",)}

    # Who may do what -------------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LiveConnection | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: LiveConnection | None = None) -> bool:
        return may_disconnect(request) or super().has_view_permission(request, obj)

    def has_disconnect_permission(self, request: HttpRequest) -> bool:
        return may_disconnect(request)

    def has_delete_permission(self, request: HttpRequest, obj: LiveConnection | None = None) -> bool:
        # A user's rows go with the user, whose page asks here: being connected must keep nobody from being deleted.
        match = request.resolver_match
        return match is not None and not (match.url_name or "").startswith("channels_secure_liveconnection_")

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        # Else whoever may enter the admin would be shown the list.
        return {**super().get_model_perms(request), "delete": False}

    # Pages -----------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = (("disconnect", self.disconnect_view), ("revoke", self.revoke_view))
        own = [
            path(f"{name}/", self.admin_site.admin_view(view), name=f"channels_secure_liveconnection_{name}")
            for name, view in views
        ]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LiveConnection]:
        rows: Any = super().get_queryset(request)
        live: QuerySet[LiveConnection] = rows.live().select_related("process")
        return live

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return asking.ChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> LiveConnection | None:
        # PostgreSQL has no such text.
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in LOOKUPS

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LiveConnection], search_term: str
    ) -> tuple[QuerySet[LiveConnection], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        address = parse_address(term)
        if address is not None:
            return queryset.filter(ip=str(address)), False
        try:
            return sockets.within(queryset, network_for(term, 128)), False
        except ValueError:
            return queryset.filter(Q(username=term) | Q(connection_id=term)), False

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        # Second, so that a phone shows it too.
        return (COLUMNS[0], "end", *COLUMNS[1:]) if may_disconnect(request) else COLUMNS

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "notice": _notice()})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if row is None and self.has_view_permission(request):
            self.message_user(request, _("This connection is open no more."), messages.WARNING)
            return HttpResponseRedirect(self._after(request, unquote(object_id)))
        if row is not None:
            extra_context = {**(extra_context or {}), **panel.of_connection(self.admin_site, request, row)}
        return super().change_view(request, object_id, form_url, extra_context)

    def _after(self, request: HttpRequest, connection_id: str) -> str:
        """What is left of a connection that has ended: its events, for whoever may see them."""
        return buttons.events(self.admin_site, request, connection_id=connection_id) or disconnecting.list_page(self)

    # Ending ----------------------------------------------------------------------------------------------------------

    @acting
    def disconnect_view(self, request: HttpRequest) -> HttpResponse:
        return disconnecting.answer(self, request)

    @acting
    def revoke_view(self, request: HttpRequest) -> HttpResponse:
        return revoking.answer(self, request)

    @admin.action(description=_("Disconnect selected connections"), permissions=["disconnect"])
    @acting
    def disconnect_selected(self, request: HttpRequest, queryset: QuerySet[LiveConnection]) -> TemplateResponse | None:
        return disconnecting.answer_selected(self, request, queryset)

    # Columns ---------------------------------------------------------------------------------------------------------

    @admin.display(description=_("client"), ordering="username")
    def who(self, row: LiveConnection) -> SafeString:
        return cells.stacked(row.username or _("nobody"), row.ip)

    @admin.display(description=_("path and node"), ordering="path")
    def where(self, row: LiveConnection) -> SafeString:
        return cells.stacked(row.path, row.process)

    @admin.display(description=_("node"))
    def node(self, row: LiveConnection) -> str:
        return str(row.process)

    @admin.display(description=_("since"), ordering="opened_at")
    def since(self, row: LiveConnection) -> SafeString:
        return cells.moment(row.opened_at, timezone.now())

    @admin.display(description=_("last message"), ordering="heard_at")
    def last_message(self, row: LiveConnection) -> SafeString | None:
        return None if row.heard_at is None else cells.moment(row.heard_at, timezone.now())

    @admin.display(description=_("since"))
    def opened(self, row: LiveConnection) -> SafeString:
        return cells.at(row.opened_at, timezone.now())

    @admin.display(description=_("last message"))
    def heard(self, row: LiveConnection) -> SafeString | None:
        return None if row.heard_at is None else cells.at(row.heard_at, timezone.now())

    @admin.display(description=_("credentials expire"))
    def expires(self, row: LiveConnection) -> SafeString | None:
        return None if row.expires_at is None else cells.at(row.expires_at, timezone.now())

    @admin.display(description=_("messages"), ordering="received")
    def traffic(self, row: LiveConnection) -> SafeString:
        rate = cells.per_minute(row.received, row.opened_at, timezone.now())
        total = number_format(row.received, use_l10n=True, force_grouping=True)
        return cells.stacked(total, _("%(rate)s/min") % {"rate": rate})

    @admin.display(description=_("credentials"), ordering="expires_at")
    def credential(self, row: LiveConnection) -> SafeString:
        if row.expires_at is None:
            return cells.stacked(row.credentials)
        return cells.stacked(row.credentials, _ends(cells.moment(row.expires_at, timezone.now())))

    @admin.display(description=_("disconnect"))
    def end(self, row: LiveConnection) -> SafeString:
        page = buttons.page(self.admin_site, "liveconnection_disconnect", connection=row.pk)
        label = _("Disconnect %(client)s") % {"client": row.username or row.ip}
        return format_html('<a class="cs-act" href="{}" aria-label="{}">{}</a>', page, label, _("Disconnect"))


def _ends(when: SafeString) -> SafeString:
    return format_html(str(_("ends {}")), when)


def _notice() -> list[Any]:
    """How far the page may be trusted, and how soon what is done here takes effect."""
    lag = _("Connections come and go here a second or two late; what they have sent is up to ten seconds old.")
    if _is_layer_shared():
        return [lag, _("Disconnecting reaches every process at once, over the channel layer.")]
    seconds = get_settings().policy_refresh_interval
    words = ngettext(
        "Disconnecting reaches every process: no channel layer is shared, so each looks every second for what to"
        " close.",
        "Disconnecting reaches every process: no channel layer is shared, so each looks every %(seconds)s seconds for"
        " what to close.",
        1 if seconds == 1 else 2,  # gettext takes whole numbers only
    )
    return [lag, words % {"seconds": f"{seconds:g}"}]


def _is_layer_shared() -> bool:
    try:
        return push.shared_layer() is not None
    except InvalidChannelLayerError:
        # The system checks say so; an operator needs the page all the same.
        return False
