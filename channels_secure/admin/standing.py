"""Who of a page's events is blocked at the moment, found with one query for the whole page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

from django.db.models import Q

from channels_secure.models import AuditEvent, Block
from channels_secure.policy.addresses import IPNetwork, network_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The blocks in force that concern an event: of its user, and of a network around its address."""

    user: Block | None = None
    network: Block | None = None


def standing_of(events: Iterable[AuditEvent]) -> dict[int, Standing]:
    """The standing of each event by its primary key."""
    listed = list(events)
    around = {event.pk: _around(event.ip) for event in listed}
    users = {event.user_id for event in listed if event.user_id is not None}
    concerned = Q(user__in=users) | Q(network__in={text for texts in around.values() for text in texts})
    active = list(Block.objects.active().filter(concerned).order_by("pk"))
    by_user: Mapping[Any, Block] = {block.user_id: block for block in active if block.user_id is not None}
    by_network = {block.network: block for block in active if block.network}
    return {
        event.pk: Standing(
            user=by_user.get(event.user_id),
            network=next((by_network[text] for text in around[event.pk] if text in by_network), None),
        )
        for event in listed
    }


def networks_around(network: IPNetwork) -> list[str]:
    """Every network that holds this one, as blocks store them, the widest first."""
    bits, number = network.max_prefixlen, int(network.network_address)
    masked = ((number >> bits - length << bits - length, length) for length in range(network.prefixlen + 1))
    return [f"{_text(part.to_bytes(bits // 8, 'big'))}/{length}" for part, length in masked]


def _text(packed: bytes) -> str:
    # The C library writes the thousands of a page ten times as fast as `ipaddress`, but for the addresses in which it
    # sees an IPv4 address (RFC 5952 section 5).
    text = inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)
    return str(ip_address(packed)) if ":" in text and "." in text else text


def _around(ip: str) -> list[str]:
    try:
        return networks_around(network_for(ip, 128))
    except ValueError:
        return []  # no address, but whatever a server was told
