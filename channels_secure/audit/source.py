"""Where an event came from, made fit to be stored once for all events of a connection."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from channels_secure.audit import plain
from channels_secure.policy.addresses import IPAddress, bucket, parse_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who did something, from where; every text is plain and bounded.

    Args:
        user_id: the user's primary key, None for nobody.
        user_key: the same as text.
        prefix: what the address counts as, the address itself or the network of an IPv6 client.
    """

    user_id: Any = None
    user_key: str = ""
    username: str = ""
    ip: str = ""
    prefix: str = ""
    path: str = ""
    origin: str = ""
    user_agent: str = ""
    connection_id: str = ""


def source_of(ipv6_prefix: int, facts: Mapping[str, Any]) -> Source:
    """The source in `audit.Facts`."""
    user = facts.get("user")
    user_id = getattr(user, "pk", None)
    ip, prefix = _address(facts.get("ip"), ipv6_prefix)
    return Source(
        user_id=user_id,
        user_key="" if user_id is None else plain.text(str(user_id), 64),
        # Also of a user who has been deleted meanwhile, and whose primary key went with it.
        username="" if user is None else plain.text(user.get_username()),
        ip=ip,
        prefix=prefix,
        path=plain.text(facts.get("path", "")),
        origin=plain.text(facts.get("origin", "")),
        user_agent=plain.text(facts.get("user_agent", "")),
        connection_id=plain.text(facts.get("connection_id", ""), 64),
    )


def _address(ip: str | IPAddress | None, ipv6_prefix: int) -> tuple[str, str]:
    """The address as text, and as what it is counted."""
    shown = plain.text(ip, 64) if isinstance(ip, str) else str(ip or "")
    return shown, _prefix(shown, ipv6_prefix)


@lru_cache(maxsize=1024)
def _prefix(shown: str, ipv6_prefix: int) -> str:
    address = parse_address(shown)
    return shown if address is None else bucket(address, ipv6_prefix)
