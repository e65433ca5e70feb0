"""Which open sockets somebody means: one connection, those of a user, or those from an address or a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from channels_secure.admin.networks import Networks, beginning
from channels_secure.admin.operators import client_address
from channels_secure.blocklist.changes import stored_user
from channels_secure.conf import get_settings
from channels_secure.connections import disconnect
from channels_secure.connections.disconnecting import MAX_ID_LENGTH
from channels_secure.models import LiveConnection
from channels_secure.policy.addresses import MIN_PREFIX, IPNetwork, network_for

SELECTORS = ("connection", "user", "ip")
# So many addresses of a network are looked at, and so many rows of a selection are shown.
REACH = 10_000
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Exactly one of a connection, a user and a network, as an address of a page names it."""

    by: str
    value: str
    user: Any = None
    network: IPNetwork | None = None

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """What the parameters of a page select.

        Raises:
            ValueError: not exactly one, or one that cannot exist; the words are fit for the operator.
        """
        named = [(name, text) for name in SELECTORS if (text := given.get(name, "").strip())]
        if len(named) != 1:
            raise ValueError(_("Name exactly one connection, user or address."))
        by, value = named[0]
        if by == "user":
            return cls(by=by, value=value, user=_user(value))
        if by == "ip":
            return cls(by=by, value=value, network=_network(value))
        if len(value) > MAX_ID_LENGTH or not value.isprintable():
            raise ValueError(_("There is no such connection."))
        return cls(by=by, value=value)

    @property
    def subject(self) -> str:
        if self.user is not None:
            return str(self.user.get_username())
        return self.value if self.network is None else str(self.network)

    def rows(self) -> QuerySet[LiveConnection]:
        rows = LiveConnection.objects.live()
        if self.user is not None:
            return rows.filter(user_id=self.user.pk)
        return rows.filter(pk=self.value) if self.network is None else within(rows, self.network)

    def end(self, reason: str, by: Any) -> None:
        """Disconnect them, wherever they are."""
        if self.user is not None:
            disconnect(user=self.user, reason=reason, by=by)
        elif self.network is not None:
            disconnect(ip=self.network, reason=reason, by=by)
        else:
            disconnect(connection_id=self.value, reason=reason, by=by)


def _user(key: str) -> Any:
    try:
        return stored_user(key)
    except ValueError as error:
        raise ValueError(_("There is no such user.")) from error


def _network(text: str) -> IPNetwork:
    network = network_for(text, get_settings().ipv6_prefix)
    if network.prefixlen < MIN_PREFIX[network.version]:
        words = _("%(network)s is too wide: at most a /%(length)d at once.")
        raise ValueError(words % {"network": network, "length": MIN_PREFIX[network.version]})
    return network


def within(rows: QuerySet[LiveConnection], network: IPNetwork) -> QuerySet[LiveConnection]:
    """Those whose address is in a network; of more than 10,000 addresses near one of IPv6 the rest is not looked at."""
    if network.prefixlen == network.max_prefixlen:
        return rows.filter(ip=str(network.network_address))
    start, (groups, rest) = beginning(network), divmod(network.prefixlen, 8 if network.version == 4 else 16)
    near = rows.filter(ip__startswith=start)
    if start and not rest and start.count(".") + start.count(":") == groups:
        return near
    if network.version == 4:
        return near.filter(ip__regex=_pattern(network))
    known = Networks([str(network)])
    texts = near.filter(ip__contains=":").order_by().values_list("ip", flat=True).distinct()
    # A query of ten thousand parameters is slow, but few networks of IPv6 are written so that they need one.
    return rows.filter(ip__in=[text for text in texts[:REACH] if known.hold(text)])


def _pattern(network: IPNetwork) -> str:
    """What the addresses of an IPv4 network look like whose length ends inside a number, 10.0.16.0/20 say."""
    whole, bits = divmod(network.prefixlen, 8)
    numbers = network.network_address.packed
    last = "|".join(str(numbers[whole] + more) for more in range(1 << 8 - bits))
    return "^" + "".join(rf"{number}\." for number in numbers[:whole]) + rf"({last})(\.|$)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How many sockets a selection has now, of how many users, how many are the operator's own, and the first few."""

    total: int
    users: int
    own: int
    shown: list[LiveConnection]

    @property
    def rest(self) -> int:
        return self.total - len(self.shown)


def find(rows: QuerySet[LiveConnection], request: HttpRequest) -> Found:
    """What the confirmation shows, with two queries however many there are."""
    counted = rows.aggregate(
        total=Count("pk"), users=Count("user_id", distinct=True), own=Count("pk", filter=is_own(request))
    )
    return Found(**counted, shown=list(rows.select_related("process").order_by("-opened_at")[:SHOWN]))


def is_own(request: HttpRequest) -> Q:
    """The operator's own account, and whoever is where the operator is."""
    address = client_address(request)
    own = Q(user_id=request.user.pk)
    return own if address is None else own | Q(ip=str(address))
