"""Conditions that no index answers: the newest rows of what else was asked are read and looked at one by one.

A page then says how far it looked, and leads on from there; nothing is left out in silence.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from django.db.models import QuerySet

from channels_secure.admin.networks import MOST_NETWORKS, Networks, keys_in
from channels_secure.models import AuditEvent, Block
from channels_secure.policy.addresses import IPNetwork, network_for

# A queryset carries the keys that it chooses by, in order, to the paginator: a page needs but a few of them.
KEYS = "channels_secure_keys"
# Of a user's primary key, or None, and an address.
Condition = Callable[[object, str], bool]


def sift(
    rows: QuerySet[AuditEvent], conditions: Sequence[Condition], most: int
) -> tuple[QuerySet[AuditEvent], tuple[datetime, int] | None]:
    """Those of the first `most` rows, in their order, that meet all conditions.

    Also the time and key of the last row looked at, if there are more behind it.
    """
    looked = list(rows.values_list("pk", "user_id", "ip")[: most + 1])
    keys = [key for key, user, ip in looked[:most] if all(holds(user, ip) for holds in conditions)]
    chosen = AuditEvent.objects.using(rows.db).filter(pk__in=keys).order_by(*rows.query.order_by)
    vars(chosen)[KEYS] = keys
    if len(looked) <= most:
        return chosen, None
    key = looked[most - 1][0]
    moment = AuditEvent.objects.using(rows.db).values_list("created_at", flat=True).filter(pk=key).first()
    return chosen, None if moment is None else (moment, key)


class Blocked:
    """Who may not connect at the moment, by user or by whatever network."""

    def __init__(self) -> None:
        active = list(Block.objects.active().order_by().values_list("user_id", "network"))
        self._users = {user for user, _network in active if user is not None}
        self._texts = [network for _user, network in active if network]
        self._networks = Networks(self._texts)

    def holds(self, user: object, ip: str) -> bool:
        return user in self._users or self._networks.hold(ip)

    def keys(self, using: str, most: int) -> list[int] | None:
        """The primary keys of all their events, by indexes; None if these may be too many."""
        # One more than are looked up says that there are more.
        in_networks = keys_in(list(_read(self._texts[: MOST_NETWORKS + 1])), using, most)
        if in_networks is None:
            return None
        users = Block.objects.using(using).active().filter(user__isnull=False).values("user")
        of_users = AuditEvent.objects.using(using).filter(user__in=users).order_by().values_list("pk", flat=True)
        found = {*in_networks, *of_users[: most + 1]}
        return None if len(found) > most else list(found)


def _read(texts: Iterable[str]) -> Iterator[IPNetwork]:
    for text in texts:
        with suppress(ValueError):
            yield network_for(text, 128)
