"""The page between a button and what it does: GET shows it and changes nothing, POST from it does the thing."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _

from channels_secure.models import TEXT_LENGTH
from channels_secure.policy.decisions import Reason

TEMPLATE = "admin/channels_secure/liveconnection/confirm.html"
# The field of a confirmation that the buttons of lists do not have.
CONFIRMED = "confirmed"


class ReasonForm(forms.Form):
    """Why, in words for the audit trail."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=TEXT_LENGTH,
        required=False,
        help_text=_("For the audit trail; clients are not told."),
        widget=forms.TextInput(attrs={"class": "cs-input vTextField", "autocomplete": "off"}),
    )

    def clean_reason(self) -> str:
        words = str(self.cleaned_data["reason"])
        if words in set(Reason):
            # As an argument of `disconnect()` it would be what clients are told.
            raise forms.ValidationError(_("This word has a meaning of its own: say it in other words."))
        return words


def render(
    site: AdminSite,
    request: HttpRequest,
    *,
    title: Any,
    verb: Any,
    form: forms.Form,
    back: str,
    hidden: Iterable[tuple[str, str]] = (),
    **facts: Any,
) -> TemplateResponse:
    """The page that asks.

    Args:
        title: the question.
        verb: what the button says.
        back: where the way out leads.
        hidden: names and values that come back with the answer.
        facts: `opts`, `section` and `section_url` for the breadcrumbs; `lines`, `warnings`, `found`, `people`.
    """
    context = {
        **site.each_context(request),
        "title": title,
        "verb": verb,
        "form": form,
        "back": back,
        "hidden": list(hidden),
        **facts,
    }
    request.current_app = site.name  # what {% url %} goes by
    return TemplateResponse(request, TEMPLATE, context)


def followed(request: HttpRequest, fallback: str) -> str:
    """Where the page's `next` leads if that is a page of this site, else the fallback."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if is_ours else fallback
