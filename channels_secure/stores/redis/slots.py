"""Connections counted over all processes: one sorted set for each user and address, a lease for each connection."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from secrets import token_hex
from typing import Any
from weakref import WeakKeyDictionary

from channels_secure.exceptions import Unavailable
from channels_secure.stores.base import Slot
from channels_secure.stores.redis.keys import mark_of
from channels_secure.stores.redis.link import Away, Command, Script
from channels_secure.stores.redis.places import Leaving, Place, batches, by_tag, place_of

logger = logging.getLogger("channels_secure")

# Milliseconds after which the slots of a process that died are free.
LEASE = 30_000
# Seconds between two calls of a renewal of more than a few: it has all the time until the next.
PAUSE, FEW = 0.02, 1_000

CLAIM, MAKE_ROOM, RENEW = Script("claim.lua"), Script("make_room.lua"), Script("renew.lua")
FREE = Script("free.lua")
# So that an operator who looks at a key sees which connections belong together.
_process = token_hex(4)


def _forked() -> None:
    global _process
    _process = token_hex(4)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class RedisSlots:
    """A member of a set reads ``<owner's mark>:<opened, ms>:<process>:<connection>``.

    While the store is away every claim is granted: this process has counted its own connections before it asked.
    """

    def __init__(self, ask: Callable[[Command], Awaitable[Any]], prefix: str) -> None:
        self._ask = ask
        self._prefix = prefix
        # By connection: to hash names again and again is dear.
        self._places: dict[str, list[Place]] = {}
        # Who has no answer yet must not be renewed: that would be a claim that is always granted.
        self._claiming: set[str] = set()
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Leaving] = WeakKeyDictionary()

    async def claim(self, slot: Slot, *, replaces: bool) -> str | None:
        self._claiming.add(slot.id)
        try:
            return await self._claim(slot, replaces=replaces)
        finally:
            self._claiming.discard(slot.id)

    async def _claim(self, slot: Slot, *, replaces: bool) -> str | None:
        mark = mark_of(slot.owner)
        claimed: list[Place] = []
        for place, (name, limit) in zip(self._place(slot), slot.limits.items(), strict=True):
            try:
                granted = await self._ask(CLAIM(place.key)(place.member, mark, limit, LEASE, int(replaces)))
            except Unavailable:
                return None
            if not granted:
                self._places.pop(slot.id, None)
                await self._leaving().free(claimed)
                return name
            claimed.append(place)
        return None

    async def make_room(self, slot: Slot) -> list[str]:
        evicted: dict[str, None] = {}
        try:
            for place, limit in zip(self._place(slot), slot.limits.values(), strict=True):
                members = await self._ask(MAKE_ROOM(place.key)(place.member, mark_of(slot.owner), limit))
                evicted.update(dict.fromkeys(member.decode().rpartition(":")[2] for member in members))
        except Unavailable as error:
            logger.warning("slots.not_asked", extra={"error": str(error)})
        return list(evicted)

    async def renew(self, slots: Iterable[Slot]) -> None:
        # Others run while these are taken: who is given back before it comes to them must not come any more. Who is
        # given back later is missing among the places.
        found = await by_tag(self._place(slot) for slot in slots if slot.id not in self._claiming)
        many, failed = sum(map(len, found)) > FEW, None
        for places in found:
            for keys, those in batches(places, self._places.__contains__):
                try:
                    # In order with those who leave: what is freed must not be renewed after that.
                    async with self._leaving().lock:
                        await self._ask(RENEW(*keys)(LEASE, those))
                except Away as away:
                    failed = away
                    if not away.counts:
                        raise
                if many:
                    await asyncio.sleep(PAUSE)
        if failed is not None:
            raise failed

    async def give_back(self, slot: Slot) -> None:
        places = self._place(slot)
        del self._places[slot.id]
        await self._leaving().free(places)

    def _leaving(self) -> Leaving:
        async def free(keys: list[Any], those: str) -> None:
            await self._ask(FREE(*keys)(those))

        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            found = self._by_loop[loop] = Leaving(free)
        return found

    def _place(self, slot: Slot) -> list[Place]:
        places = self._places.get(slot.id)
        if places is None:
            member = f"{mark_of(slot.owner)}{int(slot.since * 1000):013d}:{_process}:{slot.id}"
            places = [place_of(self._prefix, name, member, slot.id) for name in slot.limits]
            self._places[slot.id] = places
        return places
