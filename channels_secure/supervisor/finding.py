"""Whom blocks and revocations are about among the open sockets: an index tells, or else everybody is looked at."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from channels_secure.blocklist import Hit, Snapshot
from channels_secure.blocklist.revoked import Change, Kind
from channels_secure.connections import Registry
from channels_secure.connections.connection import Connection
from channels_secure.policy.networks import NetworkMap

T = TypeVar("T")
Concerned = tuple[Connection, Change]


def newly_blocked(connections: Registry, snapshot: Snapshot, before: Snapshot | None) -> list[str]:
    """The users with open sockets whose block an earlier snapshot had not, or not until the same time."""
    known: Mapping[str, Hit] = {} if before is None else before.users
    present = snapshot.users.keys() & connections.by_user.keys()
    return [key for key in present if key not in known or known[key] != snapshot.users[key]]


def about(connections: Registry, changes: Iterable[Change]) -> Iterator[Concerned]:
    """The connections that changes are about, each with its change; those about addresses are left out."""
    searched: dict[str, dict[str, Change]] = {Kind.JTI: {}, Kind.GROUP: {}}
    for change in changes:
        if change.kind in searched:
            searched[change.kind][change.subject] = change
        else:
            yield from ((each, change) for each in _indexed(connections, change) if is_concerned(each, change))
    # In one go, which takes some milliseconds for ten thousand: tokens are refreshed and groups left at any moment.
    for each, change in (*_with_token(connections, searched[Kind.JTI]), *_in_group(connections, searched[Kind.GROUP])):
        if is_concerned(each, change):
            yield each, change


def is_concerned(connection: Connection, change: Change) -> bool:
    """Whether a connection was there when a change was made, or goes by what it made worthless."""
    return connection.opened_at <= change.until or change.is_about_credentials


def by_address(connections: Registry) -> list[Connection]:
    """Everybody whose address counts; those who share one stand together."""
    return [connection for group in connections.by_address.values() for connection in group]


def in_networks(connections: Iterable[Connection], networks: NetworkMap[T]) -> Iterator[tuple[Connection, T]]:
    """The connections whose address lies in some networks, each with what is known of these."""
    last, found = None, list[T]()
    for connection in connections if networks else ():
        address = connection.handshake.address
        # Neighbours with one address mostly share the object, which `parse_address` keeps; comparing costs more.
        if address is not None and address is not last:
            last, found = address, list(networks.matches(address))
        for each in found if address is not None else ():
            yield connection, each


def _indexed(connections: Registry, change: Change) -> Iterable[Connection]:
    if change.kind == Kind.USER:
        found = connections.of_user(change.subject)
        return [one for one in found if _is_older(one, change)] if change.is_lasting else found
    if change.kind == Kind.SESSION:
        return connections.of_session(change.subject)
    if change.kind == Kind.CONNECTION:
        found_one = connections.by_id.get(change.subject)
        return () if found_one is None else (found_one,)
    return ()


def _is_older(connection: Connection, change: Change) -> bool:
    """Whether a token or ticket was issued before all of the user's were revoked; sessions stay."""
    issued_at = None if connection.identity is None else connection.identity.issued_at
    return issued_at is not None and issued_at <= change.not_before


def _with_token(connections: Registry, tokens: dict[str, Change]) -> Iterator[Concerned]:
    for connection in connections if tokens else ():
        if connection.identity is not None:
            yield from ((connection, tokens[jti]) for jti in connection.identity.jtis if jti in tokens)


def _in_group(connections: Registry, groups: dict[str, Change]) -> Iterator[Concerned]:
    names = frozenset(groups)
    for connection in connections if names else ():
        if not names.isdisjoint(connection.groups):
            yield from ((connection, groups[name]) for name in names.intersection(connection.groups))
