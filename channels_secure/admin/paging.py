"""Pages of the audit trail that cost the same however long it is: nothing is counted, sorted or passed over whole.

Pages lead as far as the newest 10,000 rows of what was asked; from there on, a link begins anew with what is older.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR
from django.core.paginator import Page
from django.core.paginator import Paginator as DjangoPaginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.functional import cached_property

from channels_secure.admin.asking import ChangeList, possible
from channels_secure.admin.filters import BlockedFilter
from channels_secure.admin.networks import Networks, keys_in, network_in
from channels_secure.admin.periods import PERIODS, Period
from channels_secure.admin.ranges import NAMES, PERIOD, Range
from channels_secure.admin.sifting import KEYS, Blocked, Condition, sift
from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import IPNetwork

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
        if (keys := vars(rows).get(KEYS)) is not None:
            return len(keys)
        return int(rows[: REACH + 1].count())

    def page(self, number: int | str) -> "Page[AuditEvent]":
        rows: Any = self.object_list
        if (keys := vars(rows).get(KEYS)) is None:
            return super().page(number)
        number = self.validate_number(number)
        part = keys[(number - 1) * self.per_page : number * self.per_page]
        chosen = AuditEvent.objects.using(rows.db).filter(pk__in=part).order_by(*rows.query.order_by)
        return Page(chosen, number, self)


class TrailChangeList(ChangeList):
    """The list of events by time and by nothing else, from the newest, or from those before a row.

    `faults` says what of the query string could not be read: nothing is listed then, rather than something else than
    was asked. `horizon` is the last row looked at, where conditions had to be looked at row by row.
    """

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self.before = request.GET.get(BEFORE, "")
        self.range = Range.read(request.GET)
        self.faults = list(self.range.faults)
        self.horizon: tuple[datetime, int] | None = None
        super().__init__(request, *args)

    def get_filters_params(self, params: Any = None) -> Any:
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in NAMES}

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[AuditEvent]:
        # It belongs to the pages: another filter or search begins with the newest again.
        for parameters in (self.params, self.filter_params):
            parameters.pop(BEFORE, None)
        rows: QuerySet[AuditEvent] = super().get_queryset(request, *args, **kwargs).filter(self.range.condition)
        with possible():
            rows = self._sifted(_older(rows, self.before) if self.before else rows)
        return rows.none() if self.faults else rows

    def _sifted(self, rows: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        """The rows that meet what no single index answers, found through indexes where these are few."""
        conditions: list[Condition] = []
        network = self._network()
        if network is not None:
            if (keys := keys_in([network], rows.db, REACH)) is not None:
                rows = rows.filter(pk__in=keys)
            else:
                those = Networks([str(network)])
                conditions.append(lambda _user, ip: those.hold(ip))
        if (wanted := self.params.get(BlockedFilter.parameter_name)) in {"yes", "no"}:
            blocked, is_wanted = Blocked(), wanted == "yes"
            if is_wanted and (keys := blocked.keys(rows.db, REACH)) is not None:
                rows = rows.filter(pk__in=keys)
            else:
                conditions.append(lambda user, ip: blocked.holds(user, ip) is is_wanted)
        if not conditions:
            return rows
        rows, self.horizon = sift(rows, conditions, REACH)
        return rows

    def _network(self) -> IPNetwork | None:
        try:
            return network_in(self.query)
        except ValueError as error:
            self.faults.append(f"{error}.")
            return None

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> list[Any]:
        # Any other order would sort the table, whatever an address asks for.
        wanted = super().get_ordering(request, queryset)
        return ["created_at", "id"] if wanted[0] == "created_at" else ["-created_at", "-id"]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if self.paginator.is_cut or self.horizon:
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
        if not is_last or self.queryset.query.order_by[:1] != ("-created_at",):
            return ""
        if self.horizon:
            moment, key = self.horizon
        elif self.paginator.is_cut:
            last = self.result_list[len(self.result_list) - 1]
            moment, key = last.created_at, last.pk
        else:
            return ""
        return self.get_query_string({BEFORE: f"{moment.isoformat()}~{key}"})

    @property
    def newest(self) -> str:
        """The link back to the newest; empty on their pages."""
        return self.get_query_string() if self.before else ""

    @property
    def without_range(self) -> str:
        return self.get_query_string(dict.fromkeys(NAMES))

    @property
    def periods(self) -> list[tuple[Period, str]]:
        """The periods up to now, with the links to them; each takes the place of any other range."""
        cleared = dict.fromkeys(NAMES)
        return [(each, self.get_query_string({**cleared, PERIOD: key})) for key, each in PERIODS.items()]

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What the form of the time range has to keep: all other filters, and the search."""
        return [(name, value) for name, value in self.params.items() if name not in NAMES]

    @property
    def reach_shown(self) -> str:
        return number_format(REACH, use_l10n=True, force_grouping=True)


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
