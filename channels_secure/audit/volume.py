"""How much of what happens becomes rows: the volume rule, pure, with the time in the events.

The first 20 events per key (kind, reason, address prefix, user) and minute are rows of their own, the rest of that
minute is one row per key with a `count`. Once the minute has 600 rows, what does not fit is one row per kind and
reason. When the rows that wait for the database reach `capacity`, everything goes into such rows, until they can be
written. Whatever happens, the counts of all rows add up to the number of events.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

SINGLES_PER_KEY = 20
ROWS_PER_MINUTE = 600
MAX_PAIRS = 256
# Every connection's beginning and end has a row of its own while there is room at all.
ALWAYS_SINGLE = frozenset({"connection.accepted", "connection.closed"})

Key = tuple[str, str, str, Any]
Pair = tuple[str, str]


class Row(msgspec.Struct, kw_only=True, eq=False):
    """One row to be: an event, or the sum of several. Times are Unix seconds.

    Args:
        uid: the event's name; of a row read from a spool, the one that it had.
        prefix: what the address counts as, the address itself or the network of an IPv6 client.
        sums: whether more events may be added after the row was written.
        is_over: a sum to which nothing is added any more.
        written: the count that the table has; 0 before the row is inserted.
        uncertain: a write of it failed, and may have succeeded all the same.
        waiting: in the queue, so that it need not be queued again.
        stored: written since it was last taken from the queue.
    """

    kind: str
    reason: str
    created_at: float
    last_at: float
    uid: str = ""
    count: int = 1
    user_id: Any = None
    user_key: str = ""
    username: str = ""
    ip: str = ""
    prefix: str = ""
    path: str = ""
    origin: str = ""
    user_agent: str = ""
    connection_id: str = ""
    actor: str = ""
    actor_from: str = ""
    detail: dict[str, Any] = {}
    sums: bool = False
    is_over: bool = False
    written: int = 0
    uncertain: bool = False
    waiting: bool = False
    stored: bool = False

    @property
    def is_open(self) -> bool:
        return self.sums and not self.is_over

    def absorb(self, now: float, count: int) -> None:
        self.count += count
        self.last_at = max(self.last_at, now)


class Volume:
    """The rows of one process that wait to be written, and what the current minute has seen. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: list[Row] = []
        self._under_way = 0
        self._minute = -1
        self._rows = 0
        self._singles: dict[Key, int] = {}
        self._sums: dict[Key, Row] = {}
        self._pairs: set[Pair] = set()
        self._pair_sums: dict[Pair, Row] = {}

    def __len__(self) -> int:
        return len(self._waiting) + self._under_way

    def absorb(self, key: Key, now: float, count: int, capacity: int) -> Row | None:
        """Add events to the row that sums up their like, and return it; None when they need a row of their own.

        What a flood costs: neither a row nor a text is made.
        """
        is_full = len(self._waiting) + self._under_way >= capacity
        if self._is_over(minute := int(now // 60)):
            self._turn(minute, is_full)
        known = self._sums.get(key)
        if known is None and not self._has_room(key[:2], is_full):
            known = self._pair_sums.get(self._pair(key[:2]))
        if known is None:
            return None
        known.absorb(now, count)
        if not known.waiting:
            self._queue(known)
        return known

    def add(self, row: Row, capacity: int) -> Row:
        """Take what `absorb()` did not; returns the row that it became."""
        key, pair = key_of(row), (row.kind, row.reason)
        has_room = self._has_room(pair, len(self) >= capacity)
        if len(self._pairs) < MAX_PAIRS:
            self._pairs.add(pair)
        if not has_room:
            pair = self._pair(pair)
            self._pair_sums[pair] = row = _sum_of_pair(row, pair)
            return self._queue(row)
        self._rows += 1
        if row.kind not in ALWAYS_SINGLE:
            seen = self._singles.get(key, 0)
            if seen < SINGLES_PER_KEY:
                self._singles[key] = seen + 1
            else:
                self._sums[key] = _sum_of_key(row)
        return self._queue(row)

    def take(self) -> list[Row]:
        """The rows to write now, in order; `settle()` must follow."""
        taken, self._waiting = self._waiting, []
        self._under_way = len(taken)
        for row in taken:
            row.waiting = row.stored = False
        return taken

    def settle(self, unwritten: Iterable[Row] = ()) -> None:
        """End what `take()` began: what could not be written waits again, before everything newer."""
        self._under_way = 0
        again = [row for row in unwritten if not row.waiting]
        for row in again:
            row.waiting = True
        self._waiting[:0] = again

    def turn(self, now: float, capacity: int) -> None:
        """End the sums of a minute that is over; for a process in which nothing happens any more."""
        if (self._sums or self._pair_sums) and self._is_over(minute := int(now // 60)):
            self._turn(minute, len(self) >= capacity)

    def end(self) -> None:
        """End all sums: the process will not add to them any more."""
        self._turn(self._minute, is_full=False)

    def _is_over(self, minute: int) -> bool:
        # Threads that meet at the turn of a minute come in either order; a clock that was set back is another minute.
        return minute > self._minute or minute < self._minute - 1

    def _turn(self, minute: int, is_full: bool) -> None:
        self._minute = minute
        self._rows = 0
        self._singles.clear()
        self._pairs.clear()
        # While nothing can be written, a new minute adds no rows: the unwritten sums go on.
        going_on = {pair: row for pair, row in self._pair_sums.items() if is_full and not row.written}
        for row in (*self._sums.values(), *self._pair_sums.values()):
            # Never for a moment of one that goes on: whoever writes it now would close it.
            row.is_over = row.is_over or going_on.get((row.kind, row.reason)) is not row
            if not row.waiting:
                self._queue(row)
        self._sums.clear()
        self._pair_sums = going_on

    def _has_room(self, pair: Pair, is_full: bool) -> bool:
        """Whether one more row may be made; each kind and reason seen keeps a place for the row that sums it up."""
        if is_full:
            return False
        places = len(self._pairs) + (pair not in self._pairs and len(self._pairs) < MAX_PAIRS)
        return self._rows + places < ROWS_PER_MINUTE

    def _pair(self, pair: Pair) -> Pair:
        return pair if pair in self._pair_sums or len(self._pair_sums) < MAX_PAIRS else (pair[0], "")

    def _queue(self, row: Row) -> Row:
        row.waiting = True
        self._waiting.append(row)
        return row


def key_of(row: Row) -> Key:
    return row.kind, row.reason, row.prefix, row.user_id


def _sum_of_key(row: Row) -> Row:
    # Path, origin, user agent and detail stay as a sample: they tell what kind of client it was.
    row.sums, row.ip, row.connection_id = True, row.prefix, ""
    row.detail = {**row.detail, "sum": "address and user"}
    return row


def _sum_of_pair(row: Row, pair: Pair) -> Row:
    return Row(
        kind=pair[0],
        reason=pair[1],
        created_at=row.created_at,
        last_at=row.last_at,
        uid=row.uid,
        count=row.count,
        detail={"sum": "kind and reason"},
        sums=True,
    )
