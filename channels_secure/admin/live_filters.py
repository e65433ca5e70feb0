"""Filters of the open sockets; none of them asks the database what there is to choose from."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.admin.filters import Choices
from channels_secure.models import LiveConnection

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class CredentialsFilter(admin.SimpleListFilter):
    """By what the socket was let in."""

    title = _("credentials")
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        kinds = {"session": _("Session"), "jwt": _("Access token"), "ticket": _("Ticket"), "anonymous": _("Anonymous")}
        return list(kinds.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[LiveConnection]) -> QuerySet[LiveConnection]:
        kind = self.value()
        if kind is None:
            return queryset
        # Several that agree are joined by a plus.
        among = Q(credentials__startswith=f"{kind}+") | Q(credentials__endswith=f"+{kind}")
        return queryset.filter(Q(credentials=kind) | among | Q(credentials__contains=f"+{kind}+"))


class QuietFilter(admin.SimpleListFilter):
    """For how long nothing was heard from the client."""

    title = _("last message")
    parameter_name = "quiet"
    spans = {
        "1m": (_("Within the last minute"), timedelta(minutes=1)),
        "5m": (_("More than 5 minutes ago"), timedelta(minutes=5)),
        "30m": (_("More than 30 minutes ago"), timedelta(minutes=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        return [(key, label) for key, (label, _span) in self.spans.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LiveConnection]) -> QuerySet[LiveConnection]:
        chosen = self.spans.get(self.value() or "")
        if chosen is None:
            return queryset
        moment = timezone.now() - chosen[1]
        return queryset.filter(**{"heard_at__gte" if self.value() == "1m" else "heard_at__lt": moment})


class ViolationsFilter(admin.SimpleListFilter):
    """Those whose messages were refused."""

    title = _("violations")
    parameter_name = "violations"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        # Not "None", for which Django's own translations have a dash.
        return [("some", _("With violations")), ("none", _("Without violations"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LiveConnection]) -> QuerySet[LiveConnection]:
        if self.value() not in {"some", "none"}:
            return queryset
        return queryset.filter(violations__gt=0) if self.value() == "some" else queryset.filter(violations=0)
