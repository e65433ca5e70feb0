"""Lifting blocks: the page that asks, for one and for many, and then the deed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure import blocklist
from channels_secure.admin import confirming
from channels_secure.models import Block

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    BlockAdmin = ModelAdmin[Block]
else:
    BlockAdmin = Any

ACTION = "lift_selected"
# Whom a page that asks names; of more it says how many.
MOST_NAMED = 20
# The answer has a field for each, and Django takes a thousand (DATA_UPLOAD_MAX_NUMBER_FIELDS).
MOST = 500


def answer(admin: BlockAdmin, request: HttpRequest, key: int) -> HttpResponse:
    """The page of the button "lift": GET asks, POST lifts one block.

    Raises:
        PermissionDenied: who asks may not lift.
    """
    if not admin.has_change_permission(request):
        raise PermissionDenied
    page = confirming.followed(request, _list_page(admin))
    form = confirming.ReasonForm(request.POST if request.method == "POST" else None)
    # SQLite takes no greater number, and there is no such block.
    keys = [key] if key < 2**63 else []
    if request.method == "POST" and form.is_valid():
        _lift(admin, request, keys, form.cleaned_data["reason"])
        return HttpResponseRedirect(page)
    return _ask(admin, request, form, keys, back=page, hidden=[("next", page)])


def answer_selected(admin: BlockAdmin, request: HttpRequest, queryset: QuerySet[Block]) -> TemplateResponse | None:
    """The action of the list."""
    keys = list(queryset.order_by().values_list("pk", flat=True)[: MOST + 1])
    if len(keys) > MOST:
        admin.message_user(request, _("At most %(count)d at once.") % {"count": MOST}, messages.ERROR)
        return None
    is_answer = confirming.CONFIRMED in request.POST
    form = confirming.ReasonForm(request.POST if is_answer else None)
    if is_answer and form.is_valid():
        _lift(admin, request, keys, form.cleaned_data["reason"])
        return None
    selected = [(ACTION_CHECKBOX_NAME, str(key)) for key in keys]
    hidden = [("action", ACTION), (confirming.CONFIRMED, ACTION), *selected]
    return _ask(admin, request, form, keys, back=request.get_full_path(), hidden=hidden)


def _ask(
    admin: BlockAdmin,
    request: HttpRequest,
    form: confirming.ReasonForm,
    keys: Sequence[int],
    *,
    back: str,
    hidden: list[tuple[str, str]],
) -> TemplateResponse:
    rows = Block.objects.active().filter(pk__in=keys)
    named = list(rows.select_related("user")[:MOST_NAMED])
    # More than are named, or as many: a block may end between the two queries.
    count = rows.count() if len(named) == MOST_NAMED else len(named)
    return confirming.render(
        admin.admin_site,
        request,
        title=_title(named, count),
        verb=_("Lift"),
        form=form,
        back=back,
        hidden=hidden,
        opts=admin.opts,
        section=admin.opts.verbose_name_plural,
        section_url=_list_page(admin),
        lines=_lines(named, count),
        warnings=[],
    )


def _title(named: Sequence[Block], count: int) -> str:
    if not named:
        return _("There is no active block to lift")
    if len(named) == 1:
        return _("Lift the block of %(subject)s?") % {"subject": named[0].subject}
    return _("Lift %(count)d blocks?") % {"count": count}


def _lines(named: Sequence[Block], count: int) -> list[str]:
    if not named:
        return [_("What you chose has ended already, or was lifted by somebody else.")]
    lines = [_named(block) for block in named]
    if count > len(named):
        lines.append(_("… and %(count)d more") % {"count": count - len(named)})
    return [*lines, _("They may connect again within a second. The blocks stay in the list as history.")]


def _named(block: Block) -> str:
    return f"{block.subject}: {block.reason}" if block.reason else block.subject


def _lift(admin: BlockAdmin, request: HttpRequest, keys: Sequence[int], reason: str) -> None:
    count = blocklist.lift(keys, by=request.user, reason=reason)
    if not count:
        admin.message_user(request, _("There was no active block to lift."), messages.WARNING)
        return
    said = ngettext("%(count)d block was lifted.", "%(count)d blocks were lifted.", count) % {"count": count}
    admin.message_user(request, said, messages.SUCCESS)
    remaining = _still_blocked(keys)
    if remaining:
        words = _("Still blocked, by other blocks: %(subjects)s.") % {"subjects": ", ".join(remaining)}
        admin.message_user(request, words, messages.WARNING)


def _still_blocked(keys: Sequence[int]) -> list[str]:
    """Of those whose blocks were lifted, some whom another block of the same subject keeps out."""
    lifted = Block.objects.filter(pk__in=keys)
    users = lifted.exclude(user=None).values("user_id")
    networks = lifted.exclude(network=None).values("network")
    others = Block.objects.active().select_related("user").order_by("pk")
    found = [*others.filter(user__in=users)[:MOST_NAMED], *others.filter(network__in=networks)[:MOST_NAMED]]
    return list(dict.fromkeys(block.subject for block in found))


def _list_page(admin: BlockAdmin) -> str:
    return reverse("admin:channels_secure_block_changelist", current_app=admin.admin_site.name)
