"""The table of open sockets: each event loop's part of it, brought up to date about once a second.

Nothing is scheduled for a connection. Each look compares the registry with what was written, so that a socket that
came and went between two looks costs no row, and whatever could not be written is found again at the next.
"""

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from secrets import token_hex
from typing import NamedTuple, Self, TypeVar

from django.db import Error as DatabaseTrouble

from channels_secure import database
from channels_secure.connections import Connection, Registry
from channels_secure.supervisor import leases, rolls

logger = logging.getLogger("channels_secure")

T = TypeVar("T")

# Seconds: between two looks, and between two writings of what a socket has received.
LOOK_INTERVAL = 1.0
REFRESH_INTERVAL = 10.0
# A look lets others run after so many connections, some milliseconds of work.
STRETCH = 1_000


class Mark(NamedTuple):
    """What was last written of a socket: a tuple, because there is one for each."""

    user_key: str | None
    expires_at: float | None
    heard_at: float
    violations: int

    @classmethod
    def of(cls, connection: Connection) -> Self:
        return cls(connection.user_key, connection.expires_at, connection.heard_at, connection.conduct.violations)


class Presence:
    """Keeps the rows of one event loop's connections, under a lease that ends with them.

    Memory is bounded by what is open and what has been written: while the database is away nothing piles up.
    """

    def __init__(self, connections: Registry) -> None:
        self.connections = connections
        self._process: str | None = None
        self._written: dict[str, Mark] = {}
        self._looked_at = self._refreshed_at = self._renewed_at = self._reaped_at = -math.inf
        # Since when the database has answered without a failure and without a pause of ours.
        self._steady_since: float | None = None
        self._has_failed = False

    def pending(self) -> bool:
        """Whether the table has rows of ours."""
        return self._process is not None

    async def look(self) -> None:
        """Bring the table up to date, if it is time; what cannot be written now is tried again at the next look."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_INTERVAL and self.connections:
            return
        if now - self._looked_at > leases.LEASE:
            self._steady_since = None
        self._looked_at = now
        try:
            await self._update(now)
        except DatabaseTrouble as error:
            self._steady_since = None
            if not self._has_failed:
                logger.error("presence.unwritable", extra={"error": type(error).__name__})
            self._has_failed = True
        else:
            self._steady_since = now if self._steady_since is None else self._steady_since
            self._has_failed = False

    async def leave(self, seconds: float) -> None:
        """Delete the rows of what has ended, and the process if that is all, for at most so many seconds.

        Sockets that did not end in time keep their rows, until the lease runs out and somebody records their end.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._leave()
        except (TimeoutError, DatabaseTrouble) as error:
            logger.warning("presence.left_behind", extra={"error": type(error).__name__})

    def leave_now(self) -> bool:
        """The same, in this thread; whether that was all."""
        process = self._process
        if process is None:
            return True
        if self.connections:
            rolls.remove([key for key in list(self._written) if key not in self.connections.by_id])
            return False
        leases.release(process)
        return True

    async def _leave(self) -> None:
        if await database.write(self.leave_now):
            self._process = None
            self._written.clear()

    async def _update(self, now: float) -> None:
        if not self.connections:
            if self.pending():
                await self._leave()
            return
        if not await self._hold_lease(now):
            return
        by_id = self.connections.by_id
        for ids in _chunks(self._written.keys() - by_id.keys()):
            await database.write(rolls.remove, ids)
            for key in ids:
                self._written.pop(key, None)
        new = [connection for key in by_id.keys() - self._written.keys() if _is_open(connection := by_id[key])]
        if not await self._write(new):
            return
        if now - self._refreshed_at >= REFRESH_INTERVAL:
            await self._refresh()
            self._refreshed_at = now
        if now - self._reaped_at >= leases.REAP_INTERVAL:
            await database.write(leases.reap, patient=not self._is_steady(now))
            self._reaped_at = now

    async def _hold_lease(self, now: float) -> bool:
        """Renew the lease in time, or begin one with the first socket; False while there is nothing to begin it for."""
        if self._process is not None and now - self._renewed_at < leases.RENEWAL:
            return True
        if self._process is not None and not await database.write(leases.renew, self._process):
            self._forget()
        if self._process is None:
            if not any(map(_is_open, self.connections)):
                return False
            process = token_hex(16)
            await database.write(leases.register, process, host=socket.gethostname(), pid=os.getpid())
            self._process = process
        self._renewed_at = now
        return True

    async def _write(self, connections: Iterable[Connection]) -> bool:
        """Write whole rows; False when our process has none any more."""
        for chunk in _chunks(connections):
            # Before the write: what changes meanwhile is found to differ.
            marks = {connection.id: Mark.of(connection) for connection in chunk}
            if not await database.write(rolls.replace, self._process or "", chunk):
                self._forget()
                return False
            self._written.update(marks)
        return True

    async def _refresh(self) -> None:
        """Write what has changed: whole rows where the holder did, the counters alone of the many that were heard."""
        changed: list[Connection] = []
        heard: list[Connection] = []
        for number, connection in enumerate(self.connections, 1):
            mark = self._written.get(connection.id)
            if mark is not None and mark != (now := Mark.of(connection)):
                (heard if mark[:2] == now[:2] else changed).append(connection)
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        if not await self._write(changed):
            return
        for chunk in _chunks(heard):
            marks = {connection.id: Mark.of(connection) for connection in chunk}
            written = await database.write(rolls.count, chunk)
            self._written.update((key, mark) for key, mark in marks.items() if key in written)

    def _forget(self) -> None:
        """The process's row is gone, as after a pause longer than its lease: begin anew, with all its sockets."""
        logger.warning("presence.taken_for_dead")
        self._process = None
        self._written.clear()

    def _is_steady(self, now: float) -> bool:
        return self._steady_since is not None and now - self._steady_since >= leases.LEASE


def _is_open(connection: Connection) -> bool:
    return connection.accepted and not connection.ended


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while chunk := list(islice(source, leases.CHUNK)):
        yield chunk
