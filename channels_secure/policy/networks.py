"""Sets of networks that know which of them contain an address, by one look-up per length of prefix."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")


class NetworkMap(Generic[T]):
    """Values by network, found by one dictionary look-up per distinct prefix length; the last of equals wins."""

    __slots__ = ("_tables",)

    def __init__(self, entries: Iterable[tuple[IPNetwork, T]] = ()) -> None:
        tables: dict[int, dict[int, dict[int, T]]] = {4: {}, 6: {}}
        for network, value in entries:
            shift = network.max_prefixlen - network.prefixlen
            tables[network.version].setdefault(shift, {})[int(network.network_address) >> shift] = value
        self._tables = {version: sorted(table.items(), key=itemgetter(0)) for version, table in tables.items()}

    def __bool__(self) -> bool:
        return any(self._tables.values())

    def matches(self, address: IPAddress) -> Iterator[T]:
        """The values of all networks that contain the address, the longest prefix first."""
        number = int(address)
        for shift, table in self._tables[address.version]:
            key = number >> shift
            if key in table:
                yield table[key]


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """A set of networks that knows whether it contains an address; takes any iterable of networks."""

    networks: Collection[IPNetwork] = frozenset()
    _map: NetworkMap[bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", frozenset(self.networks))
        object.__setattr__(self, "_map", NetworkMap((network, True) for network in self.networks))

    def contains(self, address: IPAddress) -> bool:
        return next(self._map.matches(address), False)

    def overlaps(self, network: IPNetwork) -> bool:
        return any(network.overlaps(own) for own in self.networks)

    def __bool__(self) -> bool:
        return bool(self.networks)
