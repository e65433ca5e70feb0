"""Applying revocations: to the sockets that are open when one becomes known, and to a handshake that meets it."""

import logging
from collections.abc import Iterable, Iterator

from channels_secure.background import start
from channels_secure.blocklist.revoked import Change, Kind, Revoked, by_network
from channels_secure.connections import Registry
from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.supervisor import revalidation

logger = logging.getLogger("channels_secure")


class Rechecks:
    """Whose rights are to be looked up again; `go` is a step of the supervisor, because it waits for a database."""

    def __init__(self) -> None:
        self._doubtful: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._doubtful)

    def add(self, connections: Iterable[Connection]) -> None:
        self._doubtful.update(dict.fromkeys(connections))

    async def go(self) -> None:
        """Look up those who are waiting, and those who come meanwhile."""
        while self._doubtful:
            doubtful = list(self._doubtful)
            self._doubtful.clear()
            looked_up = await revalidation.look_at_all(doubtful)
            # Not waited for: consumers answer when their handlers have returned, and the next decision may be urgent.
            start(revalidation.authorize_again(looked_up))


def end(connections: Registry, changes: list[Change]) -> list[Connection]:
    """End the sockets that some new changes concern; returns those whose rights are to be looked up again."""
    doubtful: dict[Connection, None] = {}
    for change, connection in _matches(connections, changes):
        if connection.opened_at > change.until and not change.is_about_credentials:
            continue
        if change.is_recheck:
            doubtful[connection] = None
        else:
            connection.sever(denial_for(change))
    return [connection for connection in doubtful if not connection.ended]


def denial_for(change: Change) -> Denial:
    """What the sockets are told; a reason that SQL made up is an operator's."""
    known = change.reason in set(Reason)
    return Denial(reason=Reason(change.reason) if known else Reason.DISCONNECTED, detail=f"{change.kind} revocation")


def refusal_for(change: Change) -> Denial:
    """What a handshake is told instead: which credential has ended is nobody's business but its owner's."""
    denial = denial_for(change)
    if denial.reason not in (Reason.SESSION_ENDED, Reason.CREDENTIALS_REVOKED):
        return denial
    return Denial(reason=Reason.INVALID_CREDENTIALS, detail="revoked")


def met_by(connection: Connection, revoked: Revoked) -> list[Change]:
    """The changes made while a connection's handshake was under way, which its credentials do not show."""
    subjects = {
        Kind.USER: connection.user_key,
        Kind.SESSION: connection.session_digest,
        Kind.CONNECTION: connection.id,
    }
    found = [
        change
        for kind, subject in subjects.items()
        if subject is not None
        for change in revoked.passing.get((kind, subject), ())
    ]
    if connection.address_key is not None and connection.handshake.address is not None:
        for changes in revoked.networks.matches(connection.handshake.address):
            found += changes
    return [change for change in found if connection.opened_at <= change.until]


def _matches(connections: Registry, changes: list[Change]) -> Iterator[tuple[Change, Connection]]:
    """Every change with every connection that it is about; what no index finds costs one pass over all together."""
    searched: dict[str, list[Change]] = {}
    for change in changes:
        found = _indexed(connections, change)
        if found is None:
            searched.setdefault(change.kind, []).append(change)
            continue
        for connection in found:
            yield change, connection
    if searched:
        yield from _search(connections, searched)


def _indexed(connections: Registry, change: Change) -> Iterable[Connection] | None:
    if change.kind == Kind.USER:
        found = connections.of_user(change.subject)
        return [one for one in found if _is_older(one, change)] if change.is_lasting else found
    if change.kind == Kind.SESSION:
        return connections.of_session(change.subject)
    if change.kind == Kind.CONNECTION:
        found_one = connections.by_id.get(change.subject)
        return () if found_one is None else (found_one,)
    return None


def _is_older(connection: Connection, change: Change) -> bool:
    """Whether a token or ticket was issued before all of the user's were revoked; sessions stay."""
    issued_at = None if connection.identity is None else connection.identity.issued_at
    return issued_at is not None and issued_at <= change.not_before


def _search(connections: Registry, searched: dict[str, list[Change]]) -> Iterator[tuple[Change, Connection]]:
    """A pass for each kind, which costs most connections one look-up: ten thousand of them wait for nothing else."""
    if tokens := {change.subject: change for change in searched.get(Kind.JTI, ())}:
        for connection in connections:
            if connection.identity is not None and connection.identity.jti in tokens:
                yield tokens[connection.identity.jti], connection
    if groups := {change.subject: change for change in searched.get(Kind.GROUP, ())}:
        for connection in connections:
            if connection.groups:
                yield from ((groups[name], connection) for name in groups.keys() & connection.groups)
    if Kind.ADDRESS in searched:
        networks = by_network(searched[Kind.ADDRESS])
        for connection in connections:
            if connection.address_key is not None and connection.handshake.address is not None:
                for changes in networks.matches(connection.handshake.address):
                    yield from ((change, connection) for change in changes)
