"""Slots counted over all processes, where the store does that; the registry counts those of this process."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from weakref import WeakKeyDictionary, WeakSet

from channels_secure.background import spawn, start
from channels_secure.connections.connection import Connection
from channels_secure.connections.disconnecting import adisconnect
from channels_secure.connections.live import registry
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.stores import get_store
from channels_secure.stores.base import Slot

# By connection's id; only where there is a shared store: most connections have none, and need no field for it. One dict
# for each loop, because one that is abandoned gives nothing back.
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Slot]] = WeakKeyDictionary()
_leaving: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakSet[asyncio.Task[None]]] = WeakKeyDictionary()


async def claim_shared_slot(connection: Connection, limits: Mapping[str, int], *, replaces: bool) -> Denial | None:
    """Occupy a slot of the user and of the address, counted together with those of other processes."""
    slots = get_store().slots
    slot = None if slots is None else _slot_of(connection, limits)
    if slots is None or slot is None:
        return None
    # Before it is asked for: a handshake that ends meanwhile gives it back whatever the answer would have been.
    _slots.setdefault(connection.loop, {})[connection.id] = slot
    full = await slots.claim(slot, replaces=replaces)
    if full is None:
        return None
    _slots_in(connection.loop).pop(connection.id, None)
    name = full.partition(":")[0]
    return Denial(reason=Reason.CONNECTION_LIMIT, detail=f"{name} limit {slot.limits[full]}")


def make_shared_room(connection: Connection) -> None:
    """Close the oldest connections of the same user over the limits, in whatever process they are."""
    slot = _slots_in(connection.loop).get(connection.id)
    if slot is not None:
        spawn(_make_room(slot))


async def _make_room(slot: Slot) -> None:
    slots = get_store().slots
    if slots is None:
        return
    for connection_id in await slots.make_room(slot):
        connection = registry().by_id.get(connection_id)
        if connection is not None:
            connection.sever(Denial(reason=Reason.CONNECTION_REPLACED))
        else:
            await adisconnect(connection_id=connection_id, reason=Reason.CONNECTION_REPLACED)


def give_back_slot(connection: Connection) -> None:
    """Free the slot of a connection that has ended; nobody waits for it, and a lost one ends by its lease."""
    slot, slots = _slots_in(connection.loop).pop(connection.id, None), get_store().slots
    if slot is not None and slots is not None:
        # From here on `slots_are_back` waits for it.
        _leaving.setdefault(asyncio.get_running_loop(), WeakSet()).add(start(slots.give_back(slot)))


async def slots_are_back(seconds: float) -> None:
    """Wait until the slots of connections that have ended are free: whoever comes back to another process needs one."""
    leaving = list(_leaving.get(asyncio.get_running_loop(), ()))
    if leaving:
        await asyncio.wait(leaving, timeout=seconds)


def held_slots(connections: Iterable[Connection]) -> Iterator[Slot]:
    """The slots of connections of the running event loop that are open when it comes to them."""
    slots = _slots_in(asyncio.get_running_loop())
    for connection in connections:
        slot = slots.get(connection.id)
        if slot is not None and not connection.ended:
            yield slot


def _slots_in(loop: asyncio.AbstractEventLoop) -> dict[str, Slot]:
    return _slots.get(loop, {})


def _slot_of(connection: Connection, limits: Mapping[str, int]) -> Slot | None:
    occupied = {}
    if "user" in limits and connection.user_key is not None:
        occupied[f"user:{connection.user_key}"] = limits["user"]
    if "ip" in limits and connection.address_key is not None:
        occupied[f"ip:{connection.address_key}"] = limits["ip"]
    if not occupied:
        return None
    return Slot(id=connection.id, owner=connection.user_key or connection.id, since=time.time(), limits=occupied)
