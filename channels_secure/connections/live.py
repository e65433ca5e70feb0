"""The live connections of this process: by id, by user, by session and by address.

An event loop has a registry of its own, so that nothing here needs a lock. A connection registers before the shared
checks of its handshake: a block that lands in between finds it (check first and register later loses some).
"""

import asyncio
from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial, Reason

# Insertion order is age, and a dict is the ordered set of the standard library.
Group = dict[Connection, None]


class Registry:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self.by_id: dict[str, Connection] = {}
        self.by_user: dict[str, Group] = {}
        self.by_session: dict[str, Group] = {}
        self.by_address: dict[str, Group] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Connection]:
        """A copy, because connections end while somebody looks at them."""
        return iter(list(self.by_id.values()))

    def add(self, connection: Connection) -> None:
        self.by_id[connection.id] = connection
        for group, key in self._keys(connection):
            group.setdefault(key, {})[connection] = None

    def discard(self, connection: Connection) -> None:
        if self.by_id.pop(connection.id, None) is None:
            return
        for group, key in self._keys(connection):
            members = group.get(key, {})
            members.pop(connection, None)
            if not members:
                group.pop(key, None)

    def of_user(self, key: str) -> list[Connection]:
        return list(self.by_user.get(key, ()))

    def of_session(self, digest: str) -> list[Connection]:
        return list(self.by_session.get(digest, ()))

    def at_address(self, key: str) -> list[Connection]:
        return list(self.by_address.get(key, ()))

    def _keys(self, connection: Connection) -> Iterator[tuple[dict[str, Group], str]]:
        if connection.user_key is not None:
            yield self.by_user, connection.user_key
        if connection.session_digest is not None:
            yield self.by_session, connection.session_digest
        if connection.address_key is not None:
            yield self.by_address, connection.address_key


_registries: WeakKeyDictionary[asyncio.AbstractEventLoop, Registry] = WeakKeyDictionary()


def registry(loop: asyncio.AbstractEventLoop | None = None) -> Registry:
    """The registry of an event loop, of the running one unless another is given."""
    return _registries.setdefault(loop or asyncio.get_running_loop(), Registry())


def claim_slot(connection: Connection, limits: Mapping[str, int], *, replaces: bool) -> Denial | None:
    """Check the connection limits of a registered connection's user and address.

    With `replaces` those whom it could replace do not count. Registration and check happen without a suspension in
    between, so that racing handshakes cannot pass together.
    """
    for name, limit, crowd in _crowds(connection, limits):
        rivals = [
            other
            for other in crowd
            if other is not connection and not other.ended and not (replaces and other.user_key == connection.user_key)
        ]
        if len(rivals) >= limit:
            return Denial(reason=Reason.CONNECTION_LIMIT, detail=f"{name} limit {limit}")
    return None


def make_room(connection: Connection, limits: Mapping[str, int]) -> None:
    """Close the oldest connections of the same user over the limits, for one that was accepted just now.

    Not earlier: a handshake that is refused in the end must cost nobody a socket. And not another's: whoever shares an
    address with others could end their connections by making his own.
    """
    for name, limit, crowd in _crowds(connection, limits):
        others = [other for other in crowd if other.accepted and not other.ended and other is not connection]
        own = [other for other in others if other.user_key == connection.user_key]
        for oldest in own[: max(0, len(others) + 1 - limit)]:
            oldest.sever(Denial(reason=Reason.CONNECTION_REPLACED, detail=f"{name} limit {limit}"))


def _crowds(connection: Connection, limits: Mapping[str, int]) -> Iterator[tuple[str, int, list[Connection]]]:
    """The limits that apply to a connection, each with those who share it, the oldest first."""
    here = registry()
    if "user" in limits and connection.user_key is not None:
        yield "user", limits["user"], here.of_user(connection.user_key)
    if "ip" in limits and connection.address_key is not None:
        yield "ip", limits["ip"], here.at_address(connection.address_key)
