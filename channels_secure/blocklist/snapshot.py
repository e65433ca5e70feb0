"""The active blocks, and the revocations, of one moment, as this process knows them."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar

from channels_secure.blocklist.revoked import NOTHING, Revoked
from channels_secure.models import checked_network
from channels_secure.policy.addresses import network_for
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.networks import IPAddress, IPNetwork, NetworkMap

logger = logging.getLogger("channels_secure")

K = TypeVar("K")
Entry = tuple[int, Any, str | None, datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A block that applies: what it blocks, until which Unix time, None for ever, and its primary key."""

    subject: str
    expires_at: float | None
    block: int | None = None

    def is_over(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def outlasts(self, other: "Hit") -> bool:
        if other.expires_at is None:
            return False
        return self.expires_at is None or self.expires_at > other.expires_at


def longest(hits: Iterable[Hit]) -> Hit | None:
    """The one that lasts longest."""
    found: Hit | None = None
    for hit in hits:
        if found is None or hit.outlasts(found):
            found = hit
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The blocks and revocations of one moment.

    Args:
        version: of the policy when it was read.
        loaded_at: monotonic seconds when reading began.
        users: a user's longest block by `str(pk)`.
        networks: the same by network.
        revoked: what no longer counts, and whose sockets end.
        blocks: the same text for the same blocks, so that those who have been dealt with need not be looked for again.
    """

    version: int
    loaded_at: float
    users: Mapping[str, Hit]
    networks: NetworkMap[Hit]
    revoked: Revoked = NOTHING
    blocks: str = ""

    def for_user(self, pk: Any, now: float) -> Hit | None:
        """The block of a user at Unix time `now`."""
        hit = self.users.get(str(pk))
        return None if hit is None or hit.is_over(now) else hit

    def for_address(self, address: IPAddress, now: float) -> Hit | None:
        """The block, of all networks around the address, that lasts longest at Unix time `now`."""
        hit = longest(self.networks.matches(address))
        return None if hit is None or hit.is_over(now) else hit


def denial(hit: Hit, now: float) -> Denial:
    """The refusal for a block at Unix time `now`; one that expires can be waited out."""
    wait = None if hit.expires_at is None else max(0.0, hit.expires_at - now)
    return Denial(reason=Reason.BLOCKED, retry_after=wait, detail=f"{hit.subject} is blocked", block=hit.block)


def build(version: int, entries: Iterable[Entry], loaded_at: float, revoked: Revoked = NOTHING) -> Snapshot:
    """A snapshot of rows; of several blocks for one subject the longest counts."""
    users: dict[str, Hit] = {}
    networks: dict[IPNetwork, Hit] = {}
    rows = list(entries)
    for key, user_id, text, expires_at in rows:
        ends = None if expires_at is None else expires_at.timestamp()
        if user_id is not None:
            _keep_longest(users, str(user_id), Hit(subject="user", expires_at=ends, block=key))
        elif (network := _enforceable(text)) is not None:
            _keep_longest(networks, network, Hit(subject="address", expires_at=ends, block=key))
    return Snapshot(
        version=version,
        loaded_at=loaded_at,
        users=users,
        networks=NetworkMap(networks.items()),
        revoked=revoked,
        blocks=sha256(repr(sorted(map(repr, rows))).encode()).hexdigest(),
    )


def _keep_longest(hits: dict[K, Hit], key: K, hit: Hit) -> None:
    if key not in hits or hit.outlasts(hits[key]):
        hits[key] = hit


def _enforceable(text: str | None) -> IPNetwork | None:
    """Rows made by SQL, or before a proxy was declared, may name what must never be blocked: they are not enforced."""
    try:
        return network_for(checked_network(text or ""), 128)
    except ValueError as error:
        logger.error("block.not_enforced", extra={"network": text, "error": str(error)})
        return None
