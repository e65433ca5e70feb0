"""Blocks: made with a form, lifted with a button, never edited and never deleted."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from channels_secure.admin import asking, block_cells, block_story, buttons, confirming, guarding, lifting
from channels_secure.admin.base import ModelAdmin as Base
from channels_secure.admin.filters import StateFilter
from channels_secure.admin.forms import BlockForm, UserField
from channels_secure.admin.hits import hits_of
from channels_secure.admin.operators import acting, may_block
from channels_secure.admin.standing import networks_around
from channels_secure.models import Block, policy_change
from channels_secure.policy.addresses import network_for, parse_address

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Block]
else:
    ModelAdmin = Base

ADD_FIELDS = ("user", "network", "duration", "reason")
VIEW_FIELDS = (("created_at", "created_by", "automatic"), "expires_at", ("lifted_at", "lifted_by"))
# What an address of the list may ask for; anything else would go to the database as it is, a regular expression say.
LOOKUPS = frozenset({"state", "automatic", "automatic__exact", "user", "user__id__exact", "network"})
# A row carries what its page found out about it to the column that shows it.
HITS = "channels_secure_hits"
ASKED = ("user", "network", "duration", "reason", "next")


@admin.register(Block)
class BlockAdmin(ModelAdmin):
    """The list of blocks, a form to add one, and lifting."""

    form = BlockForm
    add_form_template = "admin/channels_secure/block/add_form.html"
    raw_id_fields = ("user",)
    list_display = ("subject", "state", "hits_since", "why", "made")
    list_filter = (StateFilter, "automatic")
    list_per_page = 50
    search_fields = ("network",)
    search_help_text = _("A username or a network, exactly, or an address to find the networks around it")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = (lifting.ACTION,)

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

    # Making one ------------------------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Block | None = None) -> tuple[Any, ...]:
        if obj is None:
            return ADD_FIELDS
        return VIEW_FIELDS if obj.user_id is None else ("user", *VIEW_FIELDS)

    def get_form(self, request: HttpRequest, obj: Block | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.request = request
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user":
            kwargs |= {"form_class": UserField, "help_text": _("A primary key or the name of a user, exactly")}
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST" and "_preview" in request.POST and self.has_add_permission(request):
            # A page of its own, which can be reloaded and changes nothing.
            asked = {**request.GET.dict(), **request.POST.dict()}
            shown = {name: asked[name] for name in ASKED if name in asked}
            return HttpResponseRedirect(buttons.page(self.admin_site, "block_add", **shown))
        return super().add_view(request, form_url, extra_context)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method != "POST" or not self.has_add_permission(request):
            return super().changeform_view(request, object_id, form_url, extra_context)
        # The lock of every change comes first: SQLite could not get it once the transaction has read.
        with policy_change() as using:
            response = super().changeform_view(request, object_id, form_url, extra_context)
            if response.status_code != HttpResponseRedirect.status_code:
                transaction.set_rollback(True, using=using)
        return response

    @acting
    def save_model(self, request: HttpRequest, obj: Block, form: Any, change: bool) -> None:
        made, is_new = guarding.make(form.plan, seconds=form.seconds, reason=obj.reason, by=request.user)
        obj.pk = made.pk
        obj.refresh_from_db()
        page = buttons.page(self.admin_site, "block_change", made.pk)
        words = guarding.outcome_of(form.plan, made, is_new=is_new)
        said = format_html('{} <a href="{}">{}</a>', words, page, _("See this block"))
        self.message_user(request, said, messages.SUCCESS if is_new else messages.WARNING)

    def response_add(self, request: HttpRequest, obj: Block, post_url_continue: str | None = None) -> HttpResponse:
        page = buttons.page(self.admin_site, "block_change", obj.pk)
        return HttpResponseRedirect(confirming.followed(request, page))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if add:
            form = context["adminform"].form
            context |= {"title": _("Block a user or a network"), **self._preview(request, form)}
        return super().render_change_form(request, context, add, *args, **kwargs)

    def _preview(self, request: HttpRequest, form: Any) -> dict[str, Any]:
        """What the page shows of the block that the form, or an address that fills it in, is about."""
        problems: list[str] = []
        if not form.is_bound:
            asked = {name: request.GET.get(name, "") for name in ("user", "network")}
            if any(asked.values()):
                form = type(form)(asked)
                form.is_valid()
                names = ("user", "network", NON_FIELD_ERRORS)
                problems = [str(error) for name in names for error in form.errors.get(name, ())]
        blocks = [] if form.plan is None else form.plan.standing
        standing = [(block, buttons.page(self.admin_site, "block_change", block.pk)) for block in blocks]
        return {"plan": form.plan, "problems": problems, "standing": standing}

    # Pages -----------------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        block = self.get_object(request, unquote(object_id))
        if block is not None and self.has_view_permission(request, block):
            may_lift, may_add = self.has_change_permission(request), self.has_add_permission(request)
            told = block_story.context_of(self.admin_site, request, block, may_lift=may_lift, may_block=may_add)
            extra_context = {**(extra_context or {}), **told}
        return super().change_view(request, object_id, form_url, extra_context)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.lift_view)
        return [path("<int:key>/lift/", view, name="channels_secure_block_lift"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": _("Blocks"), **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Block]:
        # Also for the page of one, which names them all.
        return super().get_queryset(request).select_related("user", "created_by", "lifted_by")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return asking.ChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in LOOKUPS

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        page = super().get_changelist_instance(request)
        found = hits_of(page.result_list)
        for block in page.result_list:
            vars(block)[HITS] = found[block.pk]
        return page

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
    @acting
    def lift_selected(self, request: HttpRequest, queryset: QuerySet[Block]) -> TemplateResponse | None:
        return lifting.answer_selected(self, request, queryset)

    @acting
    def lift_view(self, request: HttpRequest, key: int) -> HttpResponse:
        return lifting.answer(self, request, key)

    # Columns ---------------------------------------------------------------------------------------------------------

    @admin.display(description=_("state"), ordering="expires_at")
    def state(self, block: Block) -> SafeString:
        return block_cells.state_and_end(block)

    @admin.display(description=_("hits since"))
    def hits_since(self, block: Block) -> SafeString:
        return format_html('<span class="cs-hits">{}</span>', vars(block)[HITS])

    @admin.display(description=_("why"), ordering="reason")
    def why(self, block: Block) -> SafeString:
        return block_cells.why(block)

    @admin.display(description=_("since"), ordering="created_at")
    def made(self, block: Block) -> SafeString:
        return block_cells.made(block)
