"""What a block would do: whom it would cut off now, and what it would have matched in the last day.

Nothing is read without a bound. Addresses are stored as text, which no database compares as numbers: those of the open
connections, and of the newest events, are matched here.
"""

from dataclasses import dataclass
from datetime import timedelta
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure.admin.operators import client_address
from channels_secure.models import AuditEvent, LiveConnection, checked_network
from channels_secure.policy.addresses import IPNetwork, network_for

# Rows that are read for one number.
MOST = 10_000
# So many addresses are looked up one by one, which an index answers.
MOST_ADDRESSES = 1024
MOST_NAMES = 5
PERIOD = timedelta(days=1)

Kind = AuditEvent.Kind
# What clients do; the rest is what operators did about them.
CLIENT_KINDS = (
    Kind.CONNECTION_ACCEPTED,
    Kind.CONNECTION_CLOSED,
    Kind.HANDSHAKE_DENIED,
    Kind.MESSAGE_DENIED,
    Kind.CREDENTIALS_REFRESHED,
    Kind.CREDENTIALS_FAILED,
    Kind.POLICY_WOULD_DENY,
    Kind.TICKET_ISSUED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a block would do if it were made now.

    Args:
        connections: how many it would close.
        users: whose they are, anonymous connections not counted.
        anonymous: how many of the connections are nobody's.
        events: of the last day that it would have matched.
        is_bound: there were more events than are read, so it would have matched at least these.
        is_cut: there are more connections than are read, so it would close at least these.
        own: it is about the operator's own account or address.
        staff: the names of some members of staff that it is about or whose connections it would close.
        share: of everybody who is connected, from 0 to 1; an anonymous connection counts as somebody.
    """

    connections: int
    users: int
    anonymous: int
    events: int
    is_bound: bool
    is_cut: bool
    own: bool
    staff: tuple[str, ...]
    share: float

    @property
    def people(self) -> int:
        """How many it would cut off, with each anonymous connection as somebody."""
        return self.users + self.anonymous

    @property
    def shown_connections(self) -> str:
        return _shown(self.connections, self.is_cut)

    @property
    def closes(self) -> str:
        """What it would close now, in words."""
        if not self.connections:
            return _("closes no connection now")
        shown = ngettext("%(count)s connection", "%(count)s connections", self.connections)
        users = ngettext("%(count)s user", "%(count)s users", self.users) % {
            "count": _shown(self.users, self.is_cut and self.users > 1)
        }
        words = {"connections": shown % {"count": self.shown_connections}, "users": users}
        if not self.anonymous:
            return _("closes %(connections)s of %(users)s now") % words
        words["anonymous"] = _shown(self.anonymous, self.is_cut)
        if not self.users:
            return _("closes %(connections)s now, all of them anonymous") % words
        return _("closes %(connections)s of %(users)s now, %(anonymous)s of them anonymous") % words

    @property
    def would_have_matched(self) -> str:
        """What it would have matched, in words."""
        shown = ngettext("%(count)s event", "%(count)s events", self.events)
        events = shown % {"count": _shown(self.events, self.is_bound)}
        return _("would have matched %(events)s in the last day") % {"events": events}

    def __str__(self) -> str:
        return _("%(closes)s, %(matched)s") % {"closes": self.closes, "matched": self.would_have_matched}


def preview(user: Any = None, network: str | None = None, *, request: HttpRequest | None = None) -> Preview:
    """What a block of a user or a network would do, seen by the operator behind a request.

    Raises:
        ValueError: not exactly one of user and network, or a network that may not be blocked.
    """
    if (user is None) == (network is None):
        raise ValueError("name either a user or a network")
    if network is None:
        return _of_user(user, request)
    return _of_network(network_for(checked_network(network), 128), request)


def _of_user(user: Any, request: HttpRequest | None) -> Preview:
    live = LiveConnection.objects.live().order_by()
    connections = live.filter(user=user)[: MOST + 1].count()
    everybody = live.values("user_id")[: MOST + 1].aggregate(
        rows=Count("*"), named=Count("user_id"), users=Count("user_id", distinct=True)
    )
    events, is_bound = _sum(_recent().filter(user=user))
    is_staff = getattr(user, "is_staff", False) or getattr(user, "is_superuser", False)
    return Preview(
        connections=min(connections, MOST),
        users=min(connections, 1),
        anonymous=0,
        events=events,
        is_bound=is_bound,
        is_cut=connections > MOST,
        own=request is not None and user == request.user,
        staff=(user.get_username(),) if is_staff else (),
        share=min(connections, 1) / max(1, everybody["users"] + everybody["rows"] - everybody["named"]),
    )


def _of_network(network: IPNetwork, request: HttpRequest | None) -> Preview:
    matcher = _Matcher(network)
    live = list(LiveConnection.objects.live().order_by().values_list("ip", "user_id")[: MOST + 1])
    matched = [user_id for ip, user_id in live[:MOST] if matcher.holds(ip)]
    users = {user_id for user_id in matched if user_id is not None}
    anonymous = sum(user_id is None for user_id in matched)
    everybody = {user_id for _ip, user_id in live if user_id is not None}
    events, is_bound = _events_of(network, matcher)
    address = None if request is None else client_address(request)
    return Preview(
        connections=len(matched),
        users=len(users),
        anonymous=anonymous,
        events=events,
        is_bound=is_bound,
        is_cut=len(live) > MOST,
        own=address is not None and address in network,
        staff=_staff_in(matcher),
        share=(len(users) + anonymous) / max(1, len(everybody) + sum(user_id is None for _ip, user_id in live)),
    )


class _Matcher:
    """Whether stored text is an address of a network, or the network of clients in it."""

    def __init__(self, network: IPNetwork) -> None:
        self._length = network.prefixlen
        self._is_six = network.version == 6
        self._family = AF_INET6 if self._is_six else AF_INET
        self._shift = network.max_prefixlen - network.prefixlen
        self._key = int(network.network_address) >> self._shift

    def holds(self, text: str) -> bool:
        if (":" in text) is not self._is_six:
            return False
        base, slash, length = text.partition("/")
        try:
            # The C library reads the thousands of a preview twenty times as fast as `ipaddress`.
            number = int.from_bytes(inet_pton(self._family, base), "big")
        except (OSError, ValueError):
            return False  # no address, but whatever a server was told
        if number >> self._shift != self._key:
            return False
        return not slash or (length.isdecimal() and int(length) >= self._length)


def _staff_in(matcher: _Matcher) -> tuple[str, ...]:
    """Some of the members of staff who are connected from a network."""
    flags = [name for name in ("is_staff", "is_superuser") if _is_column(name)]
    if not flags:
        return ()
    is_staff = Q(*((f"user__{name}", True) for name in flags), _connector=Q.OR)
    rows = LiveConnection.objects.live().filter(is_staff).order_by().values_list("ip", "username")[:MOST]
    return tuple(sorted({name for ip, name in rows if matcher.holds(ip)})[:MOST_NAMES])


def _is_column(name: str) -> bool:
    try:
        return bool(get_user_model()._meta.get_field(name).concrete)
    except FieldDoesNotExist:
        # A user model of the project's own need not know of staff.
        return False


def _events_of(network: IPNetwork, matcher: _Matcher) -> tuple[int, bool]:
    """How many events of the last day a network had, and whether there may be more."""
    if network.num_addresses <= MOST_ADDRESSES:
        return _sum(_recent().filter(ip__in=[str(address) for address in network]))
    rows = list(_recent().order_by("-created_at", "-id").values_list("ip", "count")[: MOST + 1])
    return sum(count for ip, count in rows[:MOST] if matcher.holds(ip)), len(rows) > MOST


def _recent() -> QuerySet[AuditEvent]:
    since = timezone.now() - PERIOD
    return AuditEvent.objects.filter(created_at__gte=since, kind__in=CLIENT_KINDS).order_by()


def _sum(rows: QuerySet[AuditEvent]) -> tuple[int, bool]:
    counts = list(rows.values_list("count", flat=True)[: MOST + 1])
    return sum(counts[:MOST]), len(counts) > MOST


def _shown(number: int, is_bound: bool) -> str:
    text = number_format(number, use_l10n=True, force_grouping=True)
    return f"{text}+" if is_bound else text
