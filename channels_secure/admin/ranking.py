"""Who and what stands out in a period: users, addresses, networks, origins and reasons, from its newest rows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from heapq import nsmallest
from ipaddress import ip_network
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple, TypeAlias

from channels_secure.admin.figures import REFUSALS, first_of
from channels_secure.admin.periods import Window
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import bucket, parse_address

# Rows that are looked through: a tenth of a second where each is of somebody else.
REACH = 10_000
SHOWN = 8
# What one customer of a provider commonly has (RFC 6177 section 2), and the smallest network that is routed.
NETWORK_BITS = {4: 24, 6: 48}
COLUMNS = ("kind", "reason", "count", "user_id", "username", "ip", "origin")
Row: TypeAlias = tuple[str, str, int, Any, str, str, str]


class Subject(StrEnum):
    USERS = "users"
    ADDRESSES = "addresses"
    NETWORKS = "networks"
    ORIGINS = "origins"
    REASONS = "reasons"


ADDRESS = list(Subject).index(Subject.ADDRESSES)


@dataclass(slots=True, eq=False)
class Tally:
    """What is known of one of them: `users` and `addresses` are those that it was seen with."""

    text: str
    user_id: Any = None
    refused: int = 0
    events: int = 0
    users: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The first of each kind, those that were refused most often before the others.

    Args:
        refused: how many refusals there were in all rows that were looked through.
        counted_from: no row up to here was looked through; None if all were.
    """

    tops: dict[Subject, list[Tally]]
    refused: int
    counted_from: datetime | None


def ranking(span: Window) -> Ranking:
    rows = AuditEvent.objects.filter(created_at__gte=span.start).order_by("-created_at", "-id")
    cut = first_of(rows, REACH)
    found = _seen(rows.values_list(*COLUMNS)[:REACH])
    tops = [_first(found, place) for place, _ in enumerate(Subject)]
    for one in found:
        for top, key in zip(tops, one.keys, strict=True):
            if key in top:
                top[key].users.add(one.username)
                top[key].addresses.add(one.keys[ADDRESS])
    listed = {subject: list(top.values()) for subject, top in zip(Subject, tops, strict=True)}
    return Ranking(tops=listed, refused=sum(one.refused for one in found), counted_from=cut)


class _Seen(NamedTuple):
    """Rows that tell the same: a key for each subject in the order of `Subject`, empty where they have none."""

    keys: tuple[Any, ...]
    username: str
    refused: int
    events: int


def _seen(rows: Iterable[Row]) -> list[_Seen]:
    """Put together the rows that tell the same, of which an attack has many."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for kind, reason, count, *facts in rows:
        known = sums.setdefault((reason, *facts), [0, 0])
        known[0] += count * (kind in REFUSALS)
        known[1] += count
    places = Places()
    return [
        _Seen((username and (user_id, username), *places[ip], origin, reason), username, refused, events)
        for (reason, user_id, username, ip, origin), (refused, events) in sums.items()
    ]


def _first(found: Iterable[_Seen], place: int) -> dict[Any, Tally]:
    sums: dict[Any, list[int]] = {}
    for one in found:
        if key := one.keys[place]:
            known = sums.setdefault(key, [0, 0])
            known[0] += one.refused
            known[1] += one.events
    # Of equals, those that were seen last; nobody whom nothing was refused, beside whom a button would be a trap.
    ordered = (
        (-refused, -events, number, key) for number, (key, (refused, events)) in enumerate(sums.items()) if refused
    )
    return {key: _tally(key, -refused, -events) for refused, events, _, key in nsmallest(SHOWN, ordered)}


def _tally(key: Any, refused: int, events: int) -> Tally:
    user_id, text = key if isinstance(key, tuple) else (None, key)
    return Tally(text, user_id, refused, events)


class Places(dict[str, tuple[str, str]]):
    """What an address is counted as, and the network around it; no network of what is no address."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = get_settings().ipv6_prefix

    def __missing__(self, ip: str) -> tuple[str, str]:
        self[ip] = found = self._ipv4(ip) or self._place(ip)
        return found

    @staticmethod
    def _ipv4(ip: str) -> tuple[str, str] | None:
        """The same for the commonest kind without `ipaddress`, which takes as long for a page as all else together."""
        try:
            inet_pton(AF_INET, ip)
        except (OSError, ValueError):
            return None
        return ip, f"{ip[: ip.rindex('.')]}.0/24"

    def _place(self, ip: str) -> tuple[str, str]:
        # A row that sums up several events carries the network of an IPv6 client.
        address = parse_address(ip.partition("/")[0])
        if address is None:
            return ip, ""
        bits = NETWORK_BITS[4] if address.version == 4 else min(NETWORK_BITS[6], self.prefix)
        return bucket(address, self.prefix), str(ip_network((address.packed, bits), strict=False))
