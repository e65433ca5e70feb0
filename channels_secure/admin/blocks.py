"""Blocks: made with a form, lifted with a button, never edited and never deleted."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from channels_secure import blocklist
from channels_secure.admin.base import ModelAdmin as Base
from channels_secure.admin.filters import StateFilter
from channels_secure.admin.forms import BlockForm
from channels_secure.admin.operators import acting, may_block
from channels_secure.admin.standing import networks_around
from channels_secure.models import Block
from channels_secure.policy.addresses import network_for, parse_address

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Block]
else:
    ModelAdmin = Base

ADD_FIELDS = ("user", "network", "duration", "reason")
VIEW_FIELDS = (
    "state",
    ("user", "network"),
    "reason",
    ("created_at", "created_by", "automatic"),
    "expires_at",
    ("lifted_at", "lifted_by"),
)


@admin.register(Block)
class BlockAdmin(ModelAdmin):
    """The list of blocks, a form to add one, and lifting."""

    form = BlockForm
    raw_id_fields = ("user",)
    list_display = ("subject", "state", "reason", "automatic", "created_at", "created_by", "expires_at")
    list_filter = (StateFilter, "automatic")
    list_select_related = ("user", "created_by")
    search_fields = ("network",)
    search_help_text = _("A username or a network, exactly, or an address to find the networks around it")
    show_full_result_count = False
    actions = ("lift_selected",)

    class Media:
        css = {"all": ("channels_secure/admin.css",)}

    # Who may do what -------------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_block(request)

    def has_view_permission(self, request: HttpRequest, obj: Block | None = None) -> bool:
        return may_block(request) or super().has_view_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Block | None = None) -> bool:
        # "Change" is permission to lift; there is no editing of one.
        may_lift = request.user.has_perm("channels_secure.block_subject") or super().has_change_permission(request)
        return obj is None and may_lift

    def has_delete_permission(self, request: HttpRequest, obj: Block | None = None) -> bool:
        # History stays. But a user's blocks go when the user is deleted, and the user's page asks here.
        match = request.resolver_match
        is_own_page = match is None or (match.url_name or "").startswith("channels_secure_block_")
        return not is_own_page and super().has_delete_permission(request, obj)

    # Pages -----------------------------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Block | None = None) -> tuple[Any, ...]:
        return ADD_FIELDS if obj is None else VIEW_FIELDS

    def get_form(self, request: HttpRequest, obj: Block | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.request = request
        return form

    @acting
    def save_model(self, request: HttpRequest, obj: Block, form: Any, change: bool) -> None:
        made = blocklist.block(
            user=obj.user, network=obj.network, duration=form.seconds, reason=obj.reason, by=request.user
        )
        obj.pk = made.pk
        obj.refresh_from_db()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        block = self.get_object(request, unquote(object_id))
        if block is not None and block.is_active and self.has_change_permission(request):
            page = reverse("admin:channels_secure_block_lift", args=[block.pk], current_app=self.admin_site.name)
            extra_context = {**(extra_context or {}), "lift_url": page}
        return super().change_view(request, object_id, form_url, extra_context)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.lift_view)
        return [path("<int:key>/lift/", view, name="channels_secure_block_lift"), *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Block], search_term: str
    ) -> tuple[QuerySet[Block], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        address = parse_address(term)
        if address is not None:
            return queryset.filter(network__in=networks_around(network_for(str(address), 128))), False
        name = f"user__{get_user_model().USERNAME_FIELD}"
        return queryset.filter(Q(network=term) | Q(**{name: term})), False

    # Lifting ---------------------------------------------------------------------------------------------------------

    @admin.action(description=_("Lift selected blocks"), permissions=["change"])
    def lift_selected(self, request: HttpRequest, queryset: QuerySet[Block]) -> None:
        self._lift(request, list(queryset.values_list("pk", flat=True)))

    def lift_view(self, request: HttpRequest, key: int) -> HttpResponse:
        """Lift one block, by POST from its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        self._lift(request, [key])
        page = reverse("admin:channels_secure_block_changelist", current_app=self.admin_site.name)
        return HttpResponseRedirect(page)

    @acting
    def _lift(self, request: HttpRequest, keys: list[int]) -> None:
        count = blocklist.lift(keys, by=request.user)
        if count:
            said = ngettext("%(count)d block was lifted.", "%(count)d blocks were lifted.", count) % {"count": count}
            self.message_user(request, said, messages.SUCCESS)
        else:
            self.message_user(request, _("There was no active block to lift."), messages.WARNING)

    @admin.display(description=_("state"))
    def state(self, block: Block) -> SafeString:
        if block.lifted_at is not None:
            return format_html('<span class="cs-state cs-lifted">{}</span>', _("lifted"))
        if block.is_active:
            return format_html('<span class="cs-state cs-active">{}</span>', _("active"))
        return format_html('<span class="cs-state cs-expired">{}</span>', _("expired"))
