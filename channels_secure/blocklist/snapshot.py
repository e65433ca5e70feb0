"""The active blocks as this process knows them."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from django.db import router

from channels_secure import database
from channels_secure.models import Block, PolicyVersion, checked_network
from channels_secure.policy.addresses import IPAddress, IPNetwork, NetworkMap, network_for
from channels_secure.policy.decisions import Denial, Reason

logger = logging.getLogger("channels_secure")

Entry = tuple[Any, str | None, datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A block that applies: what it blocks, and until which Unix time, None for ever."""

    subject: str
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The blocks of one moment.

    Args:
        version: of the policy when it was read.
        loaded_at: monotonic seconds when reading began.
        users: Unix time at which a user's longest block ends, None for ever, by `str(pk)`.
        networks: the same by network.
    """

    version: int
    loaded_at: float
    users: Mapping[str, float | None]
    networks: NetworkMap[float | None]

    def for_user(self, pk: Any, now: float) -> Hit | None:
        """The block of a user at Unix time `now`."""
        ends = self.users.get(str(pk), now)
        return Hit(subject="user", expires_at=ends) if ends is None or ends > now else None

    def for_address(self, address: IPAddress, now: float) -> Hit | None:
        """The block, of all networks around the address, that lasts longest at Unix time `now`."""
        longest = now
        for ends in self.networks.matches(address):
            if ends is None:
                return Hit(subject="address", expires_at=None)
            longest = max(longest, ends)
        return Hit(subject="address", expires_at=longest) if longest > now else None


def denial(hit: Hit, now: float) -> Denial:
    """The refusal for a block at Unix time `now`; one that expires can be waited out."""
    wait = None if hit.expires_at is None else max(0.0, hit.expires_at - now)
    return Denial(reason=Reason.BLOCKED, retry_after=wait, detail=f"{hit.subject} is blocked")


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
    """Look whether blocks have changed, and read them if so; True when a new snapshot is in force.

    Callers that arrive while a look is under way share the next one, which begins after their call, so that a change
    committed before the call is always seen.

    Args:
        full: read the blocks even though the version is the same; finds what raw SQL changed.

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
        snapshot = current()
        known = None if full or snapshot is None else snapshot.version
        began = time.monotonic()
        version, entries = await database.run(_read, known)
        return _in_force.put(None if entries is None else build(version, entries, began), began)

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


def _read(known: int | None) -> tuple[int, list[Entry] | None]:
    """The version, then, if it is not the known one, the active blocks: in this order nothing can be missed."""
    # The primary, even where a router sends reads to a replica: a replica may lag behind a block.
    using = router.db_for_write(Block)
    version = PolicyVersion.current(using)
    if version == known:
        return version, None
    active = Block.objects.using(using).active().order_by()
    return version, list(active.values_list("user_id", "network", "expires_at"))


def build(version: int, entries: Iterable[Entry], loaded_at: float) -> Snapshot:
    """A snapshot of rows; of several for one subject the longest counts."""
    users: dict[str, float | None] = {}
    networks: dict[IPNetwork, float | None] = {}
    for user_id, text, expires_at in entries:
        ends = None if expires_at is None else expires_at.timestamp()
        if user_id is not None:
            users[str(user_id)] = _longer(users.get(str(user_id), ends), ends)
        elif (network := _enforceable(text)) is not None:
            networks[network] = _longer(networks.get(network, ends), ends)
    return Snapshot(version=version, loaded_at=loaded_at, users=users, networks=NetworkMap(networks.items()))


def _longer(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def _enforceable(text: str | None) -> IPNetwork | None:
    """Rows made by SQL, or before a proxy was declared, may name what must never be blocked: they are not enforced."""
    try:
        return network_for(checked_network(text or ""), 128)
    except ValueError as error:
        logger.error("block.not_enforced", extra={"network": text, "error": str(error)})
        return None
