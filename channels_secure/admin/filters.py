"""Filters of the lists; none of them asks the database what there is to choose from."""

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


class KindFilter(admin.SimpleListFilter):
    """What happened."""

    title = _("kind")
    parameter_name = "kind"
    template = "admin/channels_secure/auditevent/folded_filter.html"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        return list(AuditEvent.Kind.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class BlockedFilter(admin.SimpleListFilter):
    """Events of those who are blocked at the moment, or of everybody else.

    No index answers this: the list of events does, after all else (`paging.TrailChangeList`).
    """

    title = _("block state")
    parameter_name = "blocked"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        return [("yes", _("Blocked now")), ("no", _("Not blocked now"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset


class ReasonFilter(admin.SimpleListFilter):
    """The reasons of the package's own table."""

    title = _("reason")
    parameter_name = "reason"
    template = "admin/channels_secure/auditevent/folded_filter.html"

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
