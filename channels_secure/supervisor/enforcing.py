"""Applying blocks and revocations: to the sockets that are open when they become known, and to handshakes under way."""

import asyncio
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from channels_secure.background import start
from channels_secure.blocklist import Snapshot
from channels_secure.blocklist.revoked import Change, Kind, Revoked, by_network
from channels_secure.connections import Registry
from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.networks import NetworkMap
from channels_secure.supervisor import finding, revalidation, sweeping

# In a row, some milliseconds of work, then others run: connections that are looked at, those that are ended, which is
# work for their own tasks as well, and changes that are looked into.
STRETCH, AT_ONCE, TOGETHER = 500, 50, 250

# Who is to be ended, and for which change; None for a block.
Found = tuple[Connection, Change | None]


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


class Enforcement:
    """Brings the open sockets of one event loop into line with the snapshot in force; `go` is a step of the supervisor.

    Every socket that was registered when a snapshot came into force is dealt with, however long that takes. Those that
    register later ask the snapshot in force themselves, after they have registered.
    """

    def __init__(self, connections: Registry) -> None:
        self.rechecks = Rechecks()
        self._connections = connections
        self._snapshot: Snapshot | None = None
        # What is to be looked into: blocked users, and changes. For those of addresses everybody has to be looked at.
        self._users: deque[str] = deque()
        self._changes: deque[Change] = deque()
        self._sought: list[Change] = []
        self._seeks_blocked = False
        self._found: deque[Found] = deque()

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do for `go`."""
        return bool(self._users or self._changes or self._sought or self._seeks_blocked or self._found)

    def meet(self, snapshot: Snapshot) -> None:
        """Take up a snapshot unless it is the last one: whom an index tells is ended now, the others by `go`."""
        before = self._snapshot
        if snapshot is before:
            return
        has_other_blocks = before is None or before.blocks != snapshot.blocks
        users = finding.newly_blocked(self._connections, snapshot, before) if has_other_blocks else []
        changes = snapshot.revoked.since(None if before is None else before.revoked)
        found = self._about(users[:TOGETHER], changes[:TOGETHER])
        # Nothing has been done until here: after an error the snapshot is taken up again.
        self._snapshot = snapshot
        self._users += users[TOGETHER:]
        self._changes += changes[TOGETHER:]
        self._seek(changes[:TOGETHER])
        self._seeks_blocked = self._seeks_blocked or (has_other_blocks and bool(snapshot.networks))
        self._put(found)
        self._end_some()

    async def go(self) -> None:
        """Do what is left, and let others run after each stretch of it."""
        while self.is_due:
            await self._catch_up()
            if self._sought or self._seeks_blocked:
                await self._search()

    async def _catch_up(self) -> None:
        while self._users or self._changes or self._found:
            self._look_into_some()
            self._end_some()
            await asyncio.sleep(0)

    async def _search(self) -> None:
        """Look at everybody's address once; what is sought from now on is for the next time."""
        changes, self._sought = self._sought[:TOGETHER], self._sought[TOGETHER:]
        blocked, self._seeks_blocked = self._seeks_blocked, False
        try:
            await self._look_at_all(by_network(changes), blocked)
        except BaseException:
            # A cancellation, too: it is not known who was looked at.
            self._sought[:0] = changes
            self._seeks_blocked = self._seeks_blocked or blocked
            raise

    async def _look_at_all(self, networks: NetworkMap[list[Change]], blocked: bool) -> None:
        await asyncio.sleep(0)
        everybody = finding.by_address(self._connections)
        for first in range(0, len(everybody), STRETCH):
            stretch, found = everybody[first : first + STRETCH], list[Found]()
            if blocked and self._snapshot is not None:
                # The newest: whose block was lifted meanwhile is spared.
                found += ((each, None) for each, _ in finding.in_networks(stretch, self._snapshot.networks))
            for each, changes in finding.in_networks(stretch, networks):
                found += ((each, change) for change in changes if finding.is_concerned(each, change))
            self._put(found)
            await self._catch_up()
            await asyncio.sleep(0)

    def _look_into_some(self) -> None:
        users, changes = list(islice(self._users, TOGETHER)), list(islice(self._changes, TOGETHER))
        self._put(self._about(users, changes))
        self._seek(changes)
        # Not before, here and below: what an error has interrupted is done again.
        _drop(self._users, len(users))
        _drop(self._changes, len(changes))

    def _about(self, users: Iterable[str], changes: Iterable[Change]) -> list[Found]:
        """Whom blocks of users, and changes, are about."""
        found: list[Found] = [(each, None) for key in users for each in self._connections.of_user(key)]
        found += finding.about(self._connections, changes)
        return found

    def _seek(self, changes: Iterable[Change]) -> None:
        self._sought += (change for change in changes if change.kind == Kind.ADDRESS)

    def _put(self, found: Iterable[Found]) -> None:
        """Have sockets ended, before those that wait already: nobody waits for the thousands of another decision."""
        endings = []
        for connection, change in found:
            if change is not None and change.is_recheck:
                self.rechecks.add([connection])
            elif not connection.ended:
                endings.append((connection, change))
        self._found.extendleft(reversed(endings))

    def _end_some(self) -> None:
        some = list(islice(self._found, AT_ONCE))
        if self._snapshot is not None:
            sweeping.enforce_blocks([each for each, change in some if change is None], self._snapshot)
        for each, change in some:
            if change is not None:
                each.sever(denial_for(change))
        _drop(self._found, len(some))


def _drop(queue: deque[Any], count: int) -> None:
    for _ in range(count):
        queue.popleft()


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
