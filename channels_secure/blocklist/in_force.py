"""The snapshot that this process goes by, and how it is kept current."""

import asyncio
import math
import threading
import time
from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

from django.db import router

from channels_secure import database
from channels_secure.blocklist import revoked
from channels_secure.blocklist.revoked import NOTHING, Look, Revoked
from channels_secure.blocklist.snapshot import Snapshot, build
from channels_secure.models import Block, PolicyVersion, Revocation

# How many revocations a process keeps in memory; of more, the newest, and a handshake asks the database for the others.
MOST_REVOCATIONS = 10_000
# As many rows are asked for by their ids in one query; SQLite takes 999 parameters at least.
CHUNK = 500


class _InForce:
    """What this process goes by."""

    __slots__ = ("checked_at", "lock", "snapshot")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.snapshot: Snapshot | None = None
            self.checked_at = -math.inf

    def put(self, snapshot: Snapshot | None, began: float) -> bool:
        """Swap the snapshot, None if it is still right, unless another loop has put in force what was read later."""
        with self.lock:
            if began < self.checked_at:
                return False
            self.checked_at = began
            self.snapshot = snapshot or self.snapshot
            return snapshot is not None


_in_force = _InForce()


def current() -> Snapshot | None:
    """The snapshot in force, None before the first `refresh()`."""
    return _in_force.snapshot


def age(now: float) -> float:
    """Seconds since the snapshot was known to be right, for monotonic `now`; infinite before the first `refresh()`."""
    return now - _in_force.checked_at


def reset() -> None:
    """Forget the snapshot and whatever is being read; for tests."""
    _in_force.reset()
    _refreshers.clear()


async def refresh(*, full: bool = False) -> bool:
    """Look whether blocks or revocations have changed, and read them if so; True when a new snapshot is in force.

    Callers that arrive while a look is under way share the next one, which begins after their call, so that a change
    committed before the call is always seen.

    Args:
        full: read them even though the version is the same; finds what raw SQL changed.

    Raises:
        django.db.Error: the database is away; the old snapshot stays.
    """
    loop = asyncio.get_running_loop()
    refresher = _refreshers.get(loop)
    if refresher is None:
        refresher = _refreshers[loop] = _Refresher()
    return await refresher.refresh(full)


class _Refresher:
    """One event loop's looks: at most one under way and one to follow."""

    __slots__ = ("__weakref__", "_following", "_full", "_under_way")

    def __init__(self) -> None:
        self._under_way: asyncio.Task[bool] | None = None
        self._following: asyncio.Task[bool] | None = None
        self._full = False

    async def refresh(self, full: bool) -> bool:
        self._full = self._full or full
        if self._following is None:
            self._following = asyncio.create_task(self._follow(self._under_way), name="channels_secure.refresh")
            self._following.add_done_callback(self._done)
        # A caller that is cancelled does not take the look away from the others.
        return await asyncio.shield(self._following)

    async def _follow(self, earlier: asyncio.Task[bool] | None) -> bool:
        if earlier is not None:
            await asyncio.wait({earlier})
        self._under_way, self._following = self._following, None
        full, self._full = self._full, False
        snapshot, checked_at = current(), _in_force.checked_at
        began = time.monotonic()
        return _in_force.put(await database.run(_read, snapshot, checked_at, full), began)

    def _done(self, task: asyncio.Task[bool]) -> None:
        # A task holds its event loop, which this object must not outlive.
        if self._under_way is task:
            self._under_way = None
        if self._following is task:
            self._following = None
        # When every caller was cancelled, nobody asks for the error, and asyncio would log it as lost.
        if not task.cancelled():
            task.exception()


_refreshers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Refresher] = WeakKeyDictionary()


def _read(earlier: Snapshot | None, checked_at: float, full: bool) -> Snapshot | None:
    """The version, then, unless it is the known one, the rows: in this order nothing can be missed.

    The rows that are active are compared by their ids, all of them: `id > last` would miss those that were committed
    late, because ids are given out before the commit.
    """
    # The primary, even where a router sends reads to a replica: a replica may lag behind a block.
    using = router.db_for_write(Block)
    began = time.monotonic()
    version = PolicyVersion.current(using)
    is_known = earlier is not None and version == earlier.version
    if is_known and not full:
        return None
    active = Block.objects.using(using).active().order_by()
    entries = active.values_list("pk", "user_id", "network", "expires_at")
    # What SQL wrote without counting a version may have been there since the last reading.
    known_at = earlier.loaded_at if earlier is not None and is_known else checked_at
    before = NOTHING if earlier is None else earlier.revoked
    return build(version, entries, began, _read_revocations(before, known_at, full))


def _read_revocations(before: Revoked, known_at: float, full: bool) -> Revoked:
    """The newest revocations; of those that are known only the ids are read, unless SQL may have changed them."""
    using = router.db_for_write(Revocation)
    active = Revocation.objects.using(using).active().order_by("-id")
    ids = list(active.values_list("id", flat=True)[: MOST_REVOCATIONS + 1])
    is_partial = len(ids) > MOST_REVOCATIONS
    if is_partial:
        # What is new since the last look though it is not among the newest has to reach the open sockets once, too.
        newest, first = max(before.changes, default=math.inf), ids.pop()
        ids += active.filter(id__gt=newest, id__lte=first).values_list("id", flat=True) if newest < first else ()
    unknown = ids if full else [key for key in ids if key not in before.changes]
    rows = [row for start in range(0, len(unknown), CHUNK) for row in _rows(using, unknown[start : start + CHUNK])]
    ended = time.monotonic()
    look = Look(ended=ended, known_at=known_at, offset=time.time() - ended)
    return revoked.build(rows, before, look, ids=ids, is_partial=is_partial)


def _rows(using: str, ids: Sequence[int]) -> Iterable[revoked.Row]:
    return Revocation.objects.using(using).filter(id__in=ids).values_list(*revoked.COLUMNS)
