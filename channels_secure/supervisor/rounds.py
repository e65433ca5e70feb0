"""The rounds of re-validation: every open socket once in REVALIDATE_INTERVAL, and what becomes of them without a store.

Looks are spread over the interval and gathered into chunks, so that ten thousand users are twenty queries and no burst.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from channels_secure import audit
from channels_secure.auth import standing
from channels_secure.conf import get_settings
from channels_secure.connections import Registry
from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.supervisor import revalidation

logger = logging.getLogger("channels_secure")

# Connections in a row; then others run.
STRETCH = 1_000
# Due sockets wait for others to be looked up with, for this share of the interval.
GATHERING = 0.05
# Seconds: between two tries while a store is away, at most; until a look that has no answer counts as none.
RETRY = 15.0
PATIENCE = 5.0
# Sockets that are given up are closed over so many seconds, so that their clients do not come back all at once.
SPREAD = 30.0


class Rounds:
    """Re-validates the connections of one event loop; `go` is a step of the supervisor, `watch` part of each pass."""

    def __init__(self, connections: Registry) -> None:
        self._connections = connections
        self._looking_since: float | None = None
        self._failed = False
        self._next_try = 0.0
        self._away_since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether the database is."""
        return self._away_since is not None

    async def go(self) -> None:
        """Look up whoever is due, if there are enough of them or one has waited long enough."""
        now = time.monotonic()
        if now < self._next_try:
            return
        due = await self._due(now)
        if not due or not (self._failed or is_time(due, now)):
            return
        self._failed = not await self._look_up(due)
        if self._failed:
            self._next_try = time.monotonic() + min(RETRY, GATHERING * get_settings().revalidate_interval)

    async def _due(self, now: float) -> list[Connection]:
        due = []
        for number, connection in enumerate(self._connections, 1):
            # Asked of everybody at each pass: what `is_due` asks, without the calls.
            turn, ends = connection.validity.due_at, connection.expires_at
            if ((turn is not None and turn <= now) or (ends is not None and ends <= now)) and _is_open(connection):
                due.append(connection)
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        return due

    async def _look_up(self, due: Sequence[Connection]) -> bool:
        """Whether everybody could be judged; a database that is away is not asked for the others as well."""
        could_judge = True
        for chunk in revalidation.chunks(due):
            self._looking_since = time.monotonic()
            try:
                could_judge = await revalidation.look(chunk) and could_judge
            except Exception as error:  # noqa: BLE001 - drivers and caches raise what they like
                if not self._failed:
                    logger.error("revalidation.failed", extra={"error": type(error).__name__})
                return False
            finally:
                self._looking_since = None
            could_judge = await revalidation.authorize_again(chunk) and could_judge
        return could_judge

    def watch(self, *, policy_is_away: bool) -> None:
        """Note when a store is away and when it is back, and give up sockets of which nothing is known for too long.

        Args:
            policy_is_away: blocks cannot be read, which concerns every socket.
        """
        now, since = time.monotonic(), self._looking_since
        is_stuck = since is not None and now - since > PATIENCE
        if not (policy_is_away or self._failed or is_stuck):
            self._note_recovery()
            return
        if self._away_since is None:
            self._away_since = now
            audit.record("store.degraded", detail={"store": "database"})
        self._give_up(now, self._away_since, everybody=policy_is_away)

    def _note_recovery(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            audit.record("store.recovered", detail={"store": "database"})

    def _give_up(self, now: float, away_since: float, *, everybody: bool) -> None:
        """Sever those of whom nothing has been known for too long, counted from when their look was due.

        Whoever came later was admitted on what was known then, perhaps after the trouble's end that we have yet to see.
        """
        grace = get_settings().revalidate_grace
        spread = min(SPREAD, grace)
        for connection in self._connections:
            latest = now - grace - spread * place_of(connection)
            unknown_since = max(away_since, connection.opened_at)
            if unknown_since <= latest and (everybody or (_is_looked_up(connection) and is_due(connection, latest))):
                connection.sever(Denial(reason=Reason.UNAVAILABLE, detail="could not be re-validated"))


def _is_looked_up(connection: Connection) -> bool:
    """Whether there is anything to ask about: a user, or a consumer that decides for itself."""
    return connection.user_key is not None or connection.validity.summon is not None


def _is_open(connection: Connection) -> bool:
    return connection.accepted and not connection.ended


def is_due(connection: Connection, now: float) -> bool:
    """Whether a socket's rights are to be looked up: at its turn, and when a session ends that may have been used."""
    return _has_its_turn(connection, now) or (connection.expires_at is not None and connection.expires_at <= now)


def _has_its_turn(connection: Connection, now: float) -> bool:
    return connection.validity.due_at is not None and connection.validity.due_at <= now


def is_time(due: Sequence[Connection], now: float) -> bool:
    """Whether to look now: for a whole chunk, for who has waited long enough, at once for a session that has ended."""
    longest = GATHERING * get_settings().revalidate_interval
    return len(due) >= standing.TOGETHER or any(_cannot_wait(connection, now, longest) for connection in due)


def _cannot_wait(connection: Connection, now: float, longest: float) -> bool:
    has_ended = connection.expires_at is not None and connection.expires_at <= now
    return connection.validity.urgent or has_ended or _has_its_turn(connection, now - longest)


def place_of(connection: Connection) -> float:
    """A connection's place in the order of those that are closed one after the other, between 0 and 1."""
    return int(connection.id[:8], 16) / 0xFFFFFFFF
