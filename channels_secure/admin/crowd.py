"""Blocking, disconnecting and revoking for several users at once, from the project's own list of users."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext

from channels_secure import blocklist, connections, revocation
from channels_secure.admin import buttons, confirming
from channels_secure.admin.disconnecting import MOST, carried
from channels_secure.admin.forms import DURATIONS
from channels_secure.admin.guarding import FEW_PEOPLE
from channels_secure.admin.revoking import what_it_does
from channels_secure.conf import get_settings
from channels_secure.models import LiveConnection, policy_change
from channels_secure.policy.decisions import Reason


class BlockForm(confirming.ReasonForm):
    """For how long and why; with the number of users typed in where they are many of those who are connected."""

    duration = forms.ChoiceField(label=lazy("Duration"), choices=DURATIONS, initial="86400", required=False)
    field_order = ("duration", "reason", "typed")

    def __init__(self, *args: Any, expected: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected
        if expected:
            label = _("Type %(count)s to confirm") % {"count": expected}
            widget = forms.TextInput(attrs={"class": "cs-input", "autocomplete": "off", "inputmode": "numeric"})
            self.fields["typed"] = forms.CharField(label=label, widget=widget, max_length=9)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.expected and "typed" in cleaned and cleaned["typed"] != self.expected:
            self.add_error("typed", _("This is not the number of users."))
        return cleaned

    @property
    def seconds(self) -> float | None:
        return float(self.cleaned_data["duration"]) if self.cleaned_data["duration"] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """The users whom an action is about, and how many connections each has open."""

    people: list[Any]
    open: dict[Any, int]

    @property
    def listed(self) -> list[tuple[str, int]]:
        return [(person.get_username(), self.open.get(person.pk, 0)) for person in self.people]

    @property
    def sockets(self) -> int:
        return sum(self.open.get(person.pk, 0) for person in self.people)


def block(admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
    """Block those who need no confirmation of their own; members of staff, and oneself, go through the form."""
    chosen = _gather(admin, request, queryset)
    if chosen is None:
        return None
    refused = [person for person in chosen if _is_guarded(person, request)]
    crowd = _crowd([person for person in chosen if person not in refused])
    if not crowd.people:
        admin.message_user(request, _refusal(admin, request, refused), messages.ERROR)
        return None
    form = BlockForm(_answer(request), expected=_expected(crowd))
    if form.is_valid():
        facts = {"duration": form.seconds, "reason": form.cleaned_data["reason"], "by": request.user}
        _do_each(crowd, lambda person: blocklist.block(user=person, **facts))
        count = len(crowd.people)
        said = ngettext("%(count)d user is blocked.", "%(count)d users are blocked.", count) % {"count": count}
        admin.message_user(request, said, messages.SUCCESS)
        if refused:
            admin.message_user(request, _refusal(admin, request, refused), messages.WARNING)
        return None
    return _ask(
        admin,
        request,
        crowd,
        action="websocket_block",
        title=_("Block these users from WebSockets?"),
        verb=_("Block"),
        form=form,
        keys=[person.pk for person in chosen],
        warnings=[_refusal(admin, request, refused)] if refused else [],
        lines=[_closes(crowd), _("They cannot connect again until the block ends or is lifted.")],
    )


def disconnect(admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
    form = confirming.ReasonForm(_answer(request))

    def end(person: Any) -> None:
        reason = form.cleaned_data["reason"] or Reason.DISCONNECTED
        connections.disconnect(user=person, reason=reason, by=request.user)

    return _unguarded(
        admin,
        request,
        queryset,
        end,
        action="websocket_disconnect",
        title=_("Disconnect these users?"),
        verb=_("Disconnect"),
        form=form,
        said=_("What the chosen users have open ends within a second or two."),
        lines=[_("Whoever may connect may come back at once: to keep somebody out, block them.")],
    )


def revoke(admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
    return _unguarded(
        admin,
        request,
        queryset,
        lambda person: revocation.revoke_user_tokens(person, by=request.user),
        action="websocket_revoke",
        title=_("Revoke the tokens of these users?"),
        verb=_("Revoke tokens"),
        form=forms.Form(_answer(request)),
        said=_("The tokens of the chosen users are revoked."),
        lines=what_it_does(),
    )


def _unguarded(
    admin: Any,
    request: HttpRequest,
    queryset: QuerySet[Any],
    do: Callable[[Any], object],
    *,
    said: str,
    form: forms.Form,
    lines: list[str],
    **asked: Any,
) -> TemplateResponse | None:
    chosen = _gather(admin, request, queryset)
    if chosen is None:
        return None
    crowd = _crowd(chosen)
    if form.is_valid():
        _do_each(crowd, do)
        admin.message_user(request, said, messages.SUCCESS)
        return None
    own = _("You are one of them.")
    warnings = [own] if any(person.pk == request.user.pk for person in chosen) else []
    keys = [person.pk for person in chosen]
    return _ask(admin, request, crowd, form=form, keys=keys, warnings=warnings, lines=[_closes(crowd), *lines], **asked)


def _gather(admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any] | None:
    """The users of the selected rows, whatever those rows are made of; None, and a message, if they are too many."""
    keys = list(queryset.values_list("pk", flat=True)[: MOST + 1])
    if len(keys) > MOST:
        admin.message_user(request, _("At most %(count)d users at once.") % {"count": MOST}, messages.ERROR)
        return None
    found = get_user_model()._base_manager.in_bulk(keys)
    return [found[key] for key in dict.fromkeys(keys) if key in found]


def _crowd(people: list[Any]) -> Crowd:
    rows = LiveConnection.objects.live().filter(user_id__in=[person.pk for person in people]).order_by()
    counted = rows.values_list("user_id").annotate(count=Count("pk"))
    return Crowd(people=people, open=dict(counted))


def _do_each(crowd: Crowd, do: Callable[[Any], object]) -> None:
    # All or none, and one change for the processes to look at.
    with policy_change():
        for person in crowd.people:
            do(person)


def _is_guarded(person: Any, request: HttpRequest) -> bool:
    is_staff = getattr(person, "is_staff", False) or getattr(person, "is_superuser", False)
    return bool(is_staff) or person.pk == request.user.pk


def _refusal(admin: Any, request: HttpRequest, refused: Sequence[Any]) -> SafeString:
    """Who is not blocked by the dozen, each with a link to the form that asks twice."""
    site = admin.admin_site
    named = [(buttons.block_user(site, request, person.pk), person.get_username()) for person in refused]
    linked = [format_html('<a href="{}">{}</a>', url, name) if url else name for url, name in named]
    links = format_html_join(", ", "{}", ((each,) for each in linked))
    return format_html("{} {}", _("Staff, and your own account, are blocked one by one, with the form:"), links)


def _expected(crowd: Crowd) -> str:
    """What is to be typed in: the number of users, where a large share of everybody connected would go."""
    gone = sum(1 for person in crowd.people if person.pk in crowd.open)
    if gone <= FEW_PEOPLE:
        return ""
    rows = LiveConnection.objects.live().order_by()
    everybody = rows.aggregate(users=Count("user_id", distinct=True), nobody=Count("pk", filter=Q(user_id=None)))
    share = gone / max(everybody["users"] + everybody["nobody"], 1)
    return str(len(crowd.people)) if share > get_settings().block_confirm_share else ""


def _answer(request: HttpRequest) -> Any:
    return request.POST if confirming.CONFIRMED in request.POST else None


def _closes(crowd: Crowd) -> str:
    users = ngettext("%(count)d user", "%(count)d users", len(crowd.people)) % {"count": len(crowd.people)}
    now = ngettext("%(count)d open connection", "%(count)d open connections", crowd.sockets) % {"count": crowd.sockets}
    return _("%(users)s, with %(connections)s now.") % {"users": users, "connections": now}


def _ask(
    admin: Any, request: HttpRequest, crowd: Crowd, *, action: str, keys: Sequence[Any], **asked: Any
) -> TemplateResponse:
    return confirming.render(
        admin.admin_site,
        request,
        opts=admin.opts,
        section=admin.opts.verbose_name_plural,
        section_url=request.path,
        back=request.get_full_path(),
        hidden=carried(action, keys),
        people=crowd.listed,
        **asked,
    )
