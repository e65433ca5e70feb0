"""Pages of the audit trail that cost the same however long it is: nothing is counted, sorted or passed over whole.

Pages lead as far as the newest 10,000 rows of what was asked; from there on, a link begins anew with what is older.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR
from django.contrib.admin.views.main import ChangeList as DjangoChangeList
from django.core.paginator import Paginator as DjangoPaginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from channels_secure.models import AuditEvent

if TYPE_CHECKING:
    Paginator = DjangoPaginator[AuditEvent]
else:
    Paginator = DjangoPaginator

REACH = 10_000
BEFORE = "before"


class TrailPaginator(Paginator):
    """Counts as far as it leads and no further."""

    @cached_property
    def is_cut(self) -> bool:
        """Whether there is more than can be reached."""
        return self._found > REACH

    @cached_property
    def count(self) -> int:
        return min(self._found, REACH)

    @cached_property
    def _found(self) -> int:
        # With its order, so that the index that has it is read, and no planner tries a scan for so many rows.
        rows: Any = self.object_list
        return int(rows[: REACH + 1].count())


class TrailChangeList(DjangoChangeList):
    """The list of events by time and by nothing else, from the newest, or from those before a row."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self.before = request.GET.get(BEFORE, "")
        super().__init__(request, *args)

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[AuditEvent]:
        # It belongs to the pages: another filter or search begins with the newest again.
        for parameters in (self.params, self.filter_params):
            parameters.pop(BEFORE, None)
        rows: QuerySet[AuditEvent] = super().get_queryset(request, *args, **kwargs)
        return _older(rows, self.before) if self.before else rows

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> list[Any]:
        # Any other order would sort the table, whatever an address asks for.
        wanted = super().get_ordering(request, queryset)
        return ["created_at", "id"] if wanted[0] == "created_at" else ["-created_at", "-id"]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if self.paginator.is_cut:
            # How the page is told not to show how many were found.
            self.full_result_count = self.result_count

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        new_params = new_params or {}
        if self.before and PAGE_VAR in new_params:
            new_params = {BEFORE: self.before, **new_params}
        return super().get_query_string(new_params, remove)

    @property
    def older(self) -> str:
        """The link to what is older than the last page; empty where there is none, or the oldest come first."""
        is_last = self.page_num == self.paginator.num_pages
        if not is_last or not self.paginator.is_cut or self.queryset.query.order_by[0] != "-created_at":
            return ""
        last = self.result_list[len(self.result_list) - 1]
        return self.get_query_string({BEFORE: f"{last.created_at.isoformat()}~{last.pk}"})

    @property
    def newest(self) -> str:
        """The link back to the newest; empty on their pages."""
        return self.get_query_string() if self.before else ""


def _older(rows: QuerySet[AuditEvent], mark: str) -> QuerySet[AuditEvent]:
    time, _, key = mark.partition("~")
    try:
        moment, number = datetime.fromisoformat(time), int(key)
        moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise IncorrectLookupParameters(error) from error
    if timezone.is_aware(moment) != settings.USE_TZ:
        raise IncorrectLookupParameters(mark)
    # The first condition is the index's range.
    return rows.filter(created_at__lte=moment).filter(Q(created_at__lt=moment) | Q(id__lt=number))
