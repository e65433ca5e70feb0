"""Filters of the lists; none of them asks the database what there is to choose from."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.models import AuditEvent, Block
from channels_secure.policy.decisions import Reason

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    ModelAdmin = admin.ModelAdmin[Any]
    Choices: TypeAlias = list[tuple[str, str | _StrPromise]]
else:
    ModelAdmin = admin.ModelAdmin
    Choices = list


class PeriodFilter(admin.SimpleListFilter):
    """The last hour, day, week or month."""

    title = _("time")
    parameter_name = "period"
    periods = {
        "1h": (_("Last hour"), timedelta(hours=1)),
        "24h": (_("Last 24 hours"), timedelta(days=1)),
        "7d": (_("Last 7 days"), timedelta(days=7)),
        "30d": (_("Last 30 days"), timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        return [(key, label) for key, (label, _period) in self.periods.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        chosen = self.periods.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(created_at__gte=timezone.now() - chosen[1])


class ReasonFilter(admin.SimpleListFilter):
    """The reasons of the package's own table."""

    title = _("reason")
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        return [(reason.value, reason.value) for reason in Reason]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(reason=self.value()) if self.value() else queryset


class StateFilter(admin.SimpleListFilter):
    """Blocks in force, and those that are history."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        return [("active", _("Active")), ("expired", _("Expired")), ("lifted", _("Lifted"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Block]) -> QuerySet[Block]:
        now = timezone.now()
        if self.value() == "active":
            return queryset.filter(lifted_at=None).exclude(expires_at__lte=now)
        if self.value() == "expired":
            return queryset.filter(lifted_at=None, expires_at__lte=now)
        if self.value() == "lifted":
            return queryset.exclude(lifted_at=None)
        return queryset
