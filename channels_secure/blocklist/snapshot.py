"""The active blocks, and the revocations, of one moment, as this process knows them."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from channels_secure.blocklist.revoked import NOTHING, Revoked
from channels_secure.models import checked_network
from channels_secure.policy.addresses import network_for
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.networks import IPAddress, IPNetwork, NetworkMap

logger = logging.getLogger("channels_secure")

Entry = tuple[Any, str | None, datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A block that applies: what it blocks, and until which Unix time, None for ever."""

    subject: str
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The blocks and revocations of one moment.

    Args:
        version: of the policy when it was read.
        loaded_at: monotonic seconds when reading began.
        users: Unix time at which a user's longest block ends, None for ever, by `str(pk)`.
        networks: the same by network.
        revoked: what no longer counts, and whose sockets end.
        blocks: the same text for the same blocks, so that those who have been dealt with need not be looked for again.
    """

    version: int
    loaded_at: float
    users: Mapping[str, float | None]
    networks: NetworkMap[float | None]
    revoked: Revoked = NOTHING
    blocks: str = ""

    def for_user(self, pk: Any, now: float) -> Hit | None:
        """The block of a user at Unix time `now`."""
        ends = self.users.get(str(pk), now)
        return Hit(subject="user", expires_at=ends) if ends is None or ends > now else None

    def for_address(self, address: IPAddress, now: float) -> Hit | None:
        """The block, of all networks around the address, that lasts longest at Unix time `now`."""
        longest = now
        for ends in self.networks.matches(address):
            if ends is None:
                return Hit(subject="address", expires_at=None)
            longest = max(longest, ends)
        return Hit(subject="address", expires_at=longest) if longest > now else None


def denial(hit: Hit, now: float) -> Denial:
    """The refusal for a block at Unix time `now`; one that expires can be waited out."""
    wait = None if hit.expires_at is None else max(0.0, hit.expires_at - now)
    return Denial(reason=Reason.BLOCKED, retry_after=wait, detail=f"{hit.subject} is blocked")


def build(version: int, entries: Iterable[Entry], loaded_at: float, revoked: Revoked = NOTHING) -> Snapshot:
    """A snapshot of rows; of several blocks for one subject the longest counts."""
    users: dict[str, float | None] = {}
    networks: dict[IPNetwork, float | None] = {}
    rows = list(entries)
    for user_id, text, expires_at in rows:
        ends = None if expires_at is None else expires_at.timestamp()
        if user_id is not None:
            users[str(user_id)] = _longer(users.get(str(user_id), ends), ends)
        elif (network := _enforceable(text)) is not None:
            networks[network] = _longer(networks.get(network, ends), ends)
    return Snapshot(
        version=version,
        loaded_at=loaded_at,
        users=users,
        networks=NetworkMap(networks.items()),
        revoked=revoked,
        blocks=sha256(repr(sorted(map(repr, rows))).encode()).hexdigest(),
    )


def _longer(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def _enforceable(text: str | None) -> IPNetwork | None:
    """Rows made by SQL, or before a proxy was declared, may name what must never be blocked: they are not enforced."""
    try:
        return network_for(checked_network(text or ""), 128)
    except ValueError as error:
        logger.error("block.not_enforced", extra={"network": text, "error": str(error)})
        return None
