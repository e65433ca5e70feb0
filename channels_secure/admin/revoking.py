"""Taking back the access tokens of a user."""

from typing import TYPE_CHECKING

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from channels_secure.admin import confirming
from channels_secure.admin.disconnecting import list_page
from channels_secure.admin.operators import may_block
from channels_secure.admin.sockets import Selection
from channels_secure.auth import simplejwt
from channels_secure.revocation import revoke_user_tokens

if TYPE_CHECKING:
    from channels_secure.models import LiveConnection


def may_revoke(request: HttpRequest) -> bool:
    """Whoever may block may also revoke, which keeps somebody out until they get a new token; nobody without tokens."""
    return simplejwt.is_installed() and may_block(request)


def what_it_does() -> list[str]:
    return [
        _("Every access token issued until now is refused from now on, and what it has opened ends."),
        _("Sessions of the website stay, and so do their connections."),
    ]


def answer(admin: "ModelAdmin[LiveConnection]", request: HttpRequest) -> HttpResponse:
    """The page of the button "revoke tokens", which names whom by `user`.

    Raises:
        PermissionDenied: who asks may not revoke.
    """
    if not may_revoke(request):
        raise PermissionDenied
    page = confirming.followed(request, list_page(admin))
    try:
        chosen = Selection.read({"user": request.POST.get("user") or request.GET.get("user", "")})
        if request.method == "POST":
            revoke_user_tokens(chosen.user, by=request.user)
    except ValueError as error:
        admin.message_user(request, str(error), messages.ERROR)
        return HttpResponseRedirect(page)
    if request.method == "POST":
        said = _("The tokens of %(user)s are revoked.") % {"user": chosen.subject}
        admin.message_user(request, said, messages.SUCCESS)
        return HttpResponseRedirect(page)
    return confirming.render(
        admin.admin_site,
        request,
        title=_("Revoke the tokens of %(user)s?") % {"user": chosen.subject},
        verb=_("Revoke tokens"),
        form=forms.Form(),
        back=page,
        hidden=[("user", chosen.value), ("next", page)],
        opts=admin.opts,
        section=admin.opts.verbose_name_plural,
        section_url=list_page(admin),
        lines=what_it_does(),
    )
