"""How often blocks have refused somebody: counted for a page of them with one query, in the newest such events."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils.formats import number_format

from channels_secure.models import AuditEvent, Block
from channels_secure.policy.decisions import Reason

# Events that are read for one page.
MOST = 10_000
MOST_CLIENTS = 10
KEY = "detail__block"
# By which the clocks of two machines may differ.
SKEW = timedelta(minutes=1)


@dataclass(slots=True, kw_only=True)
class Client:
    """Somebody whom a block has refused."""

    username: str
    ip: str
    last_at: datetime
    count: int = 0


@dataclass(slots=True, kw_only=True)
class Hits:
    """What one block has refused.

    Args:
        is_bound: there may be more, in events that were not read or that no longer say which block it was.
        last_at: the last time.
        clients: by username and address.
    """

    count: int = 0
    is_bound: bool = False
    last_at: datetime | None = None
    clients: dict[tuple[str, str], Client] = field(default_factory=dict)

    def __str__(self) -> str:
        text = number_format(self.count, use_l10n=True, force_grouping=True)
        return f"{text}+" if self.is_bound else text

    @property
    def most_frequent(self) -> list[Client]:
        return sorted(self.clients.values(), key=lambda client: client.count, reverse=True)[:MOST_CLIENTS]

    def add(self, count: int, username: str, ip: str, last_at: datetime) -> None:
        self.count += count
        self.last_at = last_at if self.last_at is None else max(self.last_at, last_at)
        client = self.clients.setdefault((username, ip), Client(username=username, ip=ip, last_at=last_at))
        client.count += count
        client.last_at = max(client.last_at, last_at)


def hits_of(blocks: Iterable[Block]) -> dict[int, Hits]:
    """How many handshakes each block has refused, by its primary key."""
    made = {block.pk: block.created_at for block in blocks}
    found = {key: Hits() for key in made}
    if not made:
        return found
    rows = list(_refusals(min(made.values())).values_list(KEY, "count")[: MOST + 1])
    for key, count in rows[:MOST]:
        # What SQL has written there need not be a number.
        if isinstance(key, int) and key in found:
            found[key].count += count
    is_bound = _is_bound(key for key, _count in rows)
    for hits in found.values():
        hits.is_bound = is_bound
    return found


def details_of(block: Block) -> Hits:
    """Whom a block has refused, and when."""
    found = Hits()
    rows = list(_refusals(block.created_at).values_list(KEY, "count", "username", "ip", "last_at")[: MOST + 1])
    for key, count, username, ip, last_at in rows[:MOST]:
        if key == block.pk:
            found.add(count, username, ip, last_at)
    found.is_bound = _is_bound(row[0] for row in rows)
    return found


def _refusals(since: datetime) -> QuerySet[AuditEvent]:
    refused = AuditEvent.objects.filter(kind=AuditEvent.Kind.HANDSHAKE_DENIED, reason=Reason.BLOCKED)
    return refused.filter(created_at__gte=since - SKEW).order_by("-created_at", "-id")


def _is_bound(keys: Iterable[object]) -> bool:
    """Whether more was refused than was read, or a flood's sum of all blocks' refusals is among it."""
    listed = list(keys)
    return len(listed) > MOST or None in listed
