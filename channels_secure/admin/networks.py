"""Which stored addresses lie in a network. They are text, which no database compares as numbers."""

from collections.abc import Collection, Iterable
from functools import reduce
from itertools import takewhile
from operator import or_
from socket import AF_INET, AF_INET6, inet_pton

from django.db.models import Q

from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import IPNetwork, network_for, parse_address

# Behind everything that an address may go on with, in every collation that puts digits before letters.
BEHIND = "g"
# So many networks are looked up at once.
MOST_NETWORKS = 100


def network_in(term: str) -> IPNetwork | None:
    """The network that a search names as ADDRESS/LENGTH; None if it names something else.

    Raises:
        ValueError: it looks like a network and is none; the words are fit for the operator.
    """
    base, slash, _length = term.strip().partition("/")
    if not slash or parse_address(base) is None:
        return None
    return network_for(term, 128)


def keys_in(networks: Collection[IPNetwork], using: str, most: int) -> list[int] | None:
    """The primary keys of all events of some networks, by the index of addresses; None if these may be too many."""
    if len(networks) > MOST_NETWORKS:
        return None
    near = [_near(network) for network in networks]
    if None in near:
        return None
    condition = reduce(or_, (each for each in near if each is not None), Q(pk__in=()))
    rows = AuditEvent.objects.using(using).filter(condition).order_by()
    found = list(rows.values_list("pk", "ip")[: most + 1])
    those = Networks(map(str, networks))
    return None if len(found) > most else [key for key, text in found if those.hold(text)]


def _near(network: IPNetwork) -> Q | None:
    """What an index answers, and all addresses of a network meet and few others; None if there is no such condition."""
    if network.prefixlen == network.max_prefixlen:
        # The events of a block name it as it is stored, with its length.
        return Q(ip__in=[str(network.network_address), str(network)])
    start = beginning(network)
    return Q(ip__gte=start, ip__lt=start + BEHIND) if start else None


def beginning(network: IPNetwork) -> str:
    """What all addresses of a network begin with as text; empty where nothing is common to them.

    An IPv6 address may leave out zeros from its first group of zeros on (RFC 5952 section 4.2), so it counts no longer.
    """
    if network.version == 4:
        whole = str(network.network_address).split(".")[: network.prefixlen // 8]
        return "".join(f"{part}." for part in whole)
    groups = [int(part, 16) for part in network.network_address.exploded.split(":")[: network.prefixlen // 16]]
    return "".join(f"{group:x}:" for group in takewhile(bool, groups))


class Networks:
    """Tells of stored text whether it is an address, or the network of a sum, in one of some networks.

    The C library reads thousands of texts in the time in which `ipaddress` reads hundreds; what the package has stored
    is in its normal form.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._tables: dict[int, dict[int, set[int]]] = {32: {}, 128: {}}
        self._known: dict[str, bool] = {}
        for text in texts:
            # What SQL has written need not be a network, and then holds nobody.
            if (place := _place(text)) is not None:
                bits, number, length = place
                self._tables[bits].setdefault(length, set()).add(number >> bits - length)

    def hold(self, text: str) -> bool:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._look(text)
        return known

    def _look(self, text: str) -> bool:
        if (place := _place(text)) is None:
            return False
        bits, number, own = place
        table = self._tables[bits]
        return any(length <= own and number >> bits - length in table[length] for length in table)


def _place(text: str) -> tuple[int, int, int] | None:
    """The bits, the number and the length of a prefix; None for what is neither address nor network."""
    base, slash, written = text.partition("/")
    bits = 128 if ":" in base else 32
    try:
        number = int.from_bytes(inet_pton(AF_INET6 if bits == 128 else AF_INET, base), "big")
    except (OSError, ValueError):
        return None
    if not slash:
        return bits, number, bits
    length = int(written) if written.isdecimal() and len(written) < 4 else -1
    return (bits, number, length) if 0 <= length <= bits else None
