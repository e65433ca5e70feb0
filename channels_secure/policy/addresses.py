"""Client addresses: strict parsing, sets of networks, and who is behind which proxy.

An address that a proxy wrote into a header is believed only when that proxy is trusted, and the header is walked from
the right, because everything left of the first untrusted entry was written by the client (OWASP, RFC 7239 section 8.1).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Self

from channels_secure.policy.networks import IPAddress, IPNetwork, NetworkSet

__all__ = ["IPAddress", "IPNetwork"]

_NOWHERE = NetworkSet()
# The longest IPv6 text has 45 characters, and an interface name at most 15.
MAX_ADDRESS_TEXT = 64
MAX_FORWARDED_BYTES = 8192
MAX_FORWARDED_ENTRIES = 64
MIN_PREFIX = {4: 8, 6: 16}

_ZONE = re.compile(r"[A-Za-z0-9._~-]{1,15}", re.ASCII)
# RFC 7239 section 6 node forms: a bare address, or one with a port, an IPv6 one then in brackets.
_NODE = re.compile(r"\[(?P<v6>[^\]:]*:[^\]]*)\](?::[0-9]{1,5})?|(?P<v4>[0-9.]+):[0-9]{1,5}", re.ASCII)
_PREFIX = re.compile(r"[0-9]{1,3}", re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


def parse_address(text: str) -> IPAddress | None:
    """Read one address or None; IPv4-mapped is IPv4 and a zone id is dropped, so that no spelling escapes a limit."""
    return None if len(text) > MAX_ADDRESS_TEXT else _parse_address(text)


# `ipaddress` is slow, and the same peers come with every handshake.
@lru_cache(maxsize=1024)
def _parse_address(text: str) -> IPAddress | None:
    try:
        if ":" not in text:
            return IPv4Address(text)
        text, percent, zone = text.partition("%")
        if percent and not _ZONE.fullmatch(zone):
            return None
        address = IPv6Address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address


LOOPBACK = NetworkSet(frozenset(map(ip_network, ("127.0.0.0/8", "::1/128"))))
# RFC 1918, 3927, 4193, 4291, and 6598, from which some platforms number their routers. Not `ipaddress.is_private`,
# which changed between Python releases and counts the documentation networks too.
_PRIVATE = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 100.64.0.0/10 fc00::/7 fe80::/10"
PRIVATE = NetworkSet(frozenset({*LOOPBACK.networks, *map(ip_network, _PRIVATE.split())}))


def bucket(address: IPAddress, ipv6_prefix: int) -> str:
    """The text under which a client is counted: its IPv4 address, or the network of its IPv6 address."""
    if address.version == 4:
        return str(address)
    shift = 128 - ipv6_prefix
    return f"{IPv6Address(int(address) >> shift << shift)}/{ipv6_prefix}"


class NetworkError(ValueError):
    """A network that an operator cannot mean; `template` and `facts` are for who says it in another language."""

    def __init__(self, template: str, **facts: object) -> None:
        super().__init__(template % facts)
        self.template, self.facts = template, facts


def network_for(text: str, ipv6_prefix: int) -> IPNetwork:
    """The network that an operator means: bare IPv4 is its /32, bare IPv6 its /`ipv6_prefix`; ValueError for others."""
    base, slash, length = text.strip().partition("/")
    address = parse_address(base)
    if address is None or (slash and not _PREFIX.fullmatch(length)):
        shown = text[:MAX_ADDRESS_TEXT]
        raise NetworkError(
            "%(text)s is not an IP address or network such as 192.0.2.1 or 2001:db8::/64", text=repr(shown)
        )
    bits = address.max_prefixlen
    if not slash:
        return ip_network((address.packed, ipv6_prefix if bits == 128 else 32), strict=False)
    # ::ffff:192.0.2.0/120 is 192.0.2.0/24: clients are looked up by their IPv4 address.
    prefix = int(length) - (96 if bits == 32 and ":" in base else 0)
    if not 0 <= prefix <= bits:
        raise NetworkError("/%(length)s is not a prefix length of %(address)s", length=length, address=base)
    return ip_network((address.packed, prefix), strict=False)


def refuse_dangerous(network: IPNetwork, trusted: NetworkSet) -> None:
    """Raise ValueError, in words fit for a form, for a block that would lock out everyone."""
    if network.prefixlen < MIN_PREFIX[network.version]:
        limit = MIN_PREFIX[network.version]
        raise NetworkError("%(network)s is too wide: block at most a /%(limit)d at once", network=network, limit=limit)
    if LOOPBACK.overlaps(network):
        raise NetworkError("%(network)s covers loopback addresses, this machine's own", network=network)
    if trusted.overlaps(network):
        raise NetworkError(
            "%(network)s covers a trusted proxy, so every client behind it would be blocked", network=network
        )


def is_never_blocked_automatically(address: IPAddress, trusted: NetworkSet) -> bool:
    """Whether many people may stand behind the address: loopback, private, link-local, or a trusted proxy."""
    return PRIVATE.contains(address) or trusted.contains(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """Whom to believe about client addresses.

    Args:
        unix: a peer without an address, on a UNIX socket, is trusted too.
        declared: False when the settings say nothing, so that a proxy in front has to be noticed.
        header: lower-case raw name of the header that proxies append to.
        count: how many proxies append; every peer is then trusted unless `networks` or `unix` say which.
    """

    networks: NetworkSet = _NOWHERE
    unix: bool = False
    declared: bool = False
    header: bytes = b"x-forwarded-for"
    count: int | None = None

    @classmethod
    def from_settings(cls, trusted: Sequence[str] | None, header: str, count: int | None) -> Self:
        """Read TRUSTED_PROXIES, CLIENT_IP_HEADER and TRUSTED_PROXY_COUNT.

        Raises:
            ValueError: an entry, the name or the number makes no sense.
        """
        if not _HEADER_NAME.fullmatch(header) or header.lower() == "forwarded":
            raise ValueError(f"{header!r} is not a header that lists addresses, such as X-Forwarded-For")
        if count is not None and count not in range(1, MAX_FORWARDED_ENTRIES + 1):
            raise ValueError(f"{count!r} is not a number of proxies from 1 to {MAX_FORWARDED_ENTRIES}")
        if isinstance(trusted, str):
            raise ValueError(f"{trusted!r} must stand in a list")
        if count is not None and trusted is not None and not trusted:
            raise ValueError("an empty list says that there is no proxy, but a number of proxies is given")
        return cls(
            networks=NetworkSet({_trusted_network(entry) for entry in trusted or () if entry != "unix"}),
            unix="unix" in (trusted or ()),
            declared=trusted is not None or count is not None,
            header=header.lower().encode("ascii"),
            count=count,
        )

    def trusts(self, peer_text: str | None, peer: IPAddress | None) -> bool:
        """Whether the peer's headers may be believed. Text that is no address is a forgery, not a UNIX socket."""
        if self.count is not None and not self.networks and not self.unix:
            return True
        return self.unix if peer_text is None else peer is not None and self.networks.contains(peer)


def _trusted_network(entry: str) -> IPNetwork:
    if entry == "*":
        raise ValueError(f"{entry!r} is not a network; where proxies have no known addresses, say how many there are")
    network = network_for(entry, 128)
    if network.prefixlen == 0:
        raise ValueError(f"{entry!r} trusts everyone, so that every client could choose its address")
    return network


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who connects.

    Args:
        peer: the other end of the connection; None on a UNIX socket, or when the server was told nonsense.
        address: the client itself; None when it cannot be known.
        undeclared_proxy: a proxy seems to stand in front that the settings do not name, so `address` is the proxy's.
        trusted_proxy: the peer is trusted, so its other headers may be believed too.
        malformed: a trusted proxy sent what is not a list of addresses.
    """

    peer: IPAddress | None = None
    address: IPAddress | None = None
    undeclared_proxy: bool = False
    trusted_proxy: bool = False
    malformed: bool = False


def resolve_client(peer_text: str | None, forwarded: Sequence[bytes], proxies: Proxies) -> Client:
    """Find the client behind a peer (None on a UNIX socket), given the values of `proxies.header` in order."""
    peer = None if peer_text is None else parse_address(peer_text)
    if not proxies.trusts(peer_text, peer):
        undeclared = bool(forwarded) and not proxies.declared
        local = undeclared and (PRIVATE.contains(peer) if peer is not None else peer_text is None)
        return Client(peer=peer, address=peer, undeclared_proxy=local)
    if not forwarded and proxies.count is None:
        return Client(peer=peer, address=peer, trusted_proxy=True)
    address = _walk(forwarded, proxies)
    return Client(peer=peer, address=address, trusted_proxy=True, malformed=address is None)


def _walk(forwarded: Sequence[bytes], proxies: Proxies) -> IPAddress | None:
    """The rightmost entry that no trusted proxy owns, or the leftmost of all; None when that cannot be told."""
    if sum(map(len, forwarded)) > MAX_FORWARDED_BYTES:
        return None
    # What is left over beyond the cap stays one entry with commas in it, which is no address.
    entries = b",".join(forwarded).rsplit(b",", MAX_FORWARDED_ENTRIES - 1)
    if proxies.count is not None:
        return _entry(entries[-proxies.count]) if proxies.count <= len(entries) else None
    address = None
    for entry in reversed(entries):
        address = _entry(entry)
        if address is None or not proxies.networks.contains(address):
            break
    return address


def _entry(raw: bytes) -> IPAddress | None:
    text = raw.decode("latin-1").strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    node = _NODE.fullmatch(text)
    return parse_address(node["v6"] or node["v4"] if node else text)
