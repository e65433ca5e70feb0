"""Ending open sockets by hand: of one connection, of a user, of an address, or of selected rows."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure.admin import confirming, sockets
from channels_secure.admin.operators import may_disconnect
from channels_secure.admin.sockets import Found, Selection
from channels_secure.connections import disconnect
from channels_secure.models import LiveConnection, policy_change
from channels_secure.models.words import in_words
from channels_secure.policy.decisions import Reason

# Each is a row that every process reads: more people or addresses than this are blocked, or disconnected whole.
MOST = 100


def answer(admin: "ModelAdmin[LiveConnection]", request: HttpRequest) -> HttpResponse:
    """The page of the buttons "disconnect", which name whom by `connection`, `user` or `ip`.

    Raises:
        PermissionDenied: who asks may not disconnect.
    """
    if not may_disconnect(request):
        raise PermissionDenied
    page = confirming.followed(request, list_page(admin))
    try:
        chosen = Selection.read({**request.GET.dict(), **request.POST.dict()})
        form = confirming.ReasonForm(request.POST if request.method == "POST" else None)
        if not (request.method == "POST" and form.is_valid()):
            return _ask(admin, request, chosen, form, page)
        count = chosen.rows().count()
        chosen.end(form.cleaned_data["reason"] or Reason.DISCONNECTED, request.user)
    except ValueError as error:
        admin.message_user(request, in_words(error), messages.ERROR)
        return HttpResponseRedirect(page)
    said = _("Disconnecting %(subject)s: %(what)s") % {"subject": chosen.subject, "what": _ended(count)}
    admin.message_user(request, said, messages.SUCCESS)
    return HttpResponseRedirect(page)


def list_page(admin: "ModelAdmin[LiveConnection]") -> str:
    return reverse("admin:channels_secure_liveconnection_changelist", current_app=admin.admin_site.name)


def _ask(
    admin: "ModelAdmin[LiveConnection]",
    request: HttpRequest,
    chosen: Selection,
    form: confirming.ReasonForm,
    page: str,
) -> TemplateResponse:
    found = sockets.find(chosen.rows(), request)
    title = {
        "user": _("Disconnect the user %(subject)s?"),
        "ip": _("Disconnect everybody at %(subject)s?"),
        "connection": _("Disconnect the connection %(subject)s?"),
    }[chosen.by]
    return _page(
        admin,
        request,
        found,
        title=title % {"subject": chosen.subject},
        form=form,
        back=page,
        hidden=[(chosen.by, chosen.value), ("next", page)],
    )


def answer_selected(
    admin: "ModelAdmin[LiveConnection]", request: HttpRequest, queryset: QuerySet[LiveConnection]
) -> TemplateResponse | None:
    """The action of the list: the page that asks, and then the deed."""
    keys = list(queryset.order_by().values_list("pk", flat=True)[: MOST + 1])
    if len(keys) > MOST:
        words = _("At most %(count)d at once: disconnect a user or an address instead.") % {"count": MOST}
        admin.message_user(request, words, messages.ERROR)
        return None
    is_answer = confirming.CONFIRMED in request.POST
    form = confirming.ReasonForm(request.POST if is_answer else None)
    if is_answer and form.is_valid():
        _disconnect_each(keys, form.cleaned_data["reason"] or Reason.DISCONNECTED, request.user)
        admin.message_user(request, _ended(len(keys)), messages.SUCCESS)
        return None
    found = sockets.find(LiveConnection.objects.live().filter(pk__in=keys), request)
    return _page(
        admin,
        request,
        found,
        title=_("Disconnect the selected connections?"),
        form=form,
        back=request.get_full_path(),
        hidden=carried("disconnect_selected", keys),
    )


def _disconnect_each(keys: Sequence[str], reason: str, by: Any) -> None:
    # All or none, and one change for the processes to look at.
    with policy_change():
        for key in keys:
            disconnect(connection_id=key, reason=reason, by=by)


def carried(action: str, keys: Iterable[Any]) -> list[tuple[str, str]]:
    """The fields by which a list's page recognises the answer to what an action asked."""
    selected = [(ACTION_CHECKBOX_NAME, str(key)) for key in keys]
    return [("action", action), (confirming.CONFIRMED, action), *selected]


def _page(admin: "ModelAdmin[LiveConnection]", request: HttpRequest, found: Found, **asked: Any) -> TemplateResponse:
    return confirming.render(
        admin.admin_site,
        request,
        verb=_("Disconnect"),
        opts=admin.opts,
        section=admin.opts.verbose_name_plural,
        section_url=list_page(admin),
        found=found,
        warnings=_warnings(found),
        lines=[_closes(found), _("Whoever may connect may come back at once: to keep somebody out, block them.")],
        **asked,
    )


def _closes(found: Found) -> str:
    if not found.total:
        return _("No open connection is listed now. One that was opened within the last seconds ends all the same.")
    connections = ngettext("%(count)d connection", "%(count)d connections", found.total) % {"count": found.total}
    if not found.users:
        return _("This closes %(connections)s, of nobody who has logged in.") % {"connections": connections}
    users = ngettext("%(count)d user", "%(count)d users", found.users) % {"count": found.users}
    return _("This closes %(connections)s of %(users)s.") % {"connections": connections, "users": users}


def _warnings(found: Found) -> list[str]:
    if not found.own:
        return []
    words = ngettext(
        "%(count)d of them is your own, or comes from your address.",
        "%(count)d of them are your own, or come from your address.",
        found.own,
    )
    return [words % {"count": found.own}]


def _ended(count: int) -> str:
    said = ngettext("%(count)d connection ends", "%(count)d connections end", count) % {"count": count}
    return _("%(connections)s within a second or two.") % {"connections": said}
