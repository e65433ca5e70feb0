"""How much of what happens becomes rows: the volume rule, pure, with the time in the events.

The first 20 events per key (kind, reason, address prefix, user) and minute are rows of their own, the rest of that
minute is one row per key with a `count`. Once the minute has 600 rows, what does not fit is one row per kind and
reason. When the rows that wait for the database reach `capacity`, everything goes into such rows, until they can be
written. Whatever happens, the counts of all rows add up to the number of events.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SINGLES_PER_KEY = 20
ROWS_PER_MINUTE = 600
MAX_PAIRS = 256
# Every connection's beginning and end has a row of its own while there is room at all.
ALWAYS_SINGLE = frozenset({"connection.accepted", "connection.closed"})

Key = tuple[str, str, str, Any]
Pair = tuple[str, str]


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One row to be: an event, or the sum of several. Times are Unix seconds.

    Args:
        prefix: what the address counts as, the address itself or the network of an IPv6 client.
        sums: whether more events may be added after the row was written.
        pk: the stored row, None before it is stored; kept for rows that sum up.
        waiting: in the queue, so that it need not be queued again.
        stored: written since it was last taken from the queue.
    """

    kind: str
    reason: str
    created_at: float
    last_at: float
    count: int = 1
    user_id: Any = None
    username: str = ""
    ip: str = ""
    prefix: str = ""
    path: str = ""
    origin: str = ""
    user_agent: str = ""
    connection_id: str = ""
    actor: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    sums: bool = False
    pk: Any = None
    waiting: bool = False
    stored: bool = False

    def absorb(self, other: "Row") -> None:
        self.count += other.count
        self.last_at = max(self.last_at, other.last_at)


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

    def add(self, row: Row, capacity: int) -> bool:
        """Take one event; True when it became a row, False when it was added to one."""
        is_full = len(self._waiting) + self._under_way >= capacity
        minute = int(row.created_at // 60)
        # Threads that meet at the turn of a minute come in either order; a clock that was set back is another minute.
        if minute > self._minute or minute < self._minute - 1:
            self._turn(minute, is_full)
        key = row.kind, row.reason, row.prefix, row.user_id
        known = self._sums.get(key)
        if known is not None:
            return self._absorb(known, row)
        pair = row.kind, row.reason
        if pair not in self._pairs and len(self._pairs) < MAX_PAIRS:
            self._pairs.add(pair)
        # Each kind and reason seen keeps a place for the row that sums it up, so that the cap holds.
        if is_full or self._rows + len(self._pairs) >= ROWS_PER_MINUTE:
            return self._add_to_pair(row, pair)
        return self._add_row(row, key)

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

    def _turn(self, minute: int, is_full: bool) -> None:
        self._minute = minute
        self._rows = 0
        self._singles.clear()
        self._sums.clear()
        self._pairs.clear()
        # While nothing can be written, a new minute adds no rows: the unwritten sums go on.
        self._pair_sums = {pair: row for pair, row in self._pair_sums.items() if is_full and row.pk is None}

    def _add_row(self, row: Row, key: Key) -> bool:
        self._rows += 1
        if row.kind not in ALWAYS_SINGLE:
            seen = self._singles.get(key, 0)
            if seen < SINGLES_PER_KEY:
                self._singles[key] = seen + 1
            else:
                self._sums[key] = _sum_of_key(row)
        return self._queue(row)

    def _add_to_pair(self, row: Row, pair: Pair) -> bool:
        if pair not in self._pair_sums and len(self._pair_sums) >= MAX_PAIRS:
            pair = row.kind, ""
        known = self._pair_sums.get(pair)
        if known is not None:
            return self._absorb(known, row)
        self._pair_sums[pair] = total = _sum_of_pair(row, pair)
        return self._queue(total)

    def _absorb(self, known: Row, row: Row) -> bool:
        known.absorb(row)
        if not known.waiting:
            self._queue(known)
        return False

    def _queue(self, row: Row) -> bool:
        row.waiting = True
        self._waiting.append(row)
        return True


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
        count=row.count,
        detail={"sum": "kind and reason"},
        sums=True,
    )
