"""Where slots are: members of sorted sets, and many of them in calls of a bounded length."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple

from channels_secure.background import start
from channels_secure.exceptions import Unavailable

# How many go into one call at most; how many connections are looked at, and perhaps hashed, before others may run.
BATCH, STRETCH = 700, 200


class Place(NamedTuple):
    """A key, the member that stands for a connection there, and that connection's id.

    What stands in the key's braces is noted beside it: to cut it out of ten thousand keys again and again is dear.
    """

    key: str
    member: str
    owner: str
    tag: str


def place_of(prefix: str, name: str, member: str, owner: str) -> Place:
    """``cs:{3}:slots:3f…``: one of 16 places of a cluster, not of the 256 of other keys.

    All slots of a process are renewed again and again, and what that costs is above all the number of the calls.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Place(f"{prefix}{{{digest[0]}}}:slots:{digest}", member, owner, digest[0])


async def by_tag(owners: Iterable[list[Place]]) -> list[list[Place]]:
    """The places of several connections, those together that may share a call: they are together in a cluster."""
    found: defaultdict[str, list[Place]] = defaultdict(list)
    for number, places in enumerate(owners, 1):
        for place in places:
            found[place.tag].append(place)
        if number % STRETCH == 0:
            await asyncio.sleep(0)
    return list(found.values())


def batches(places: list[Place], is_wanted: Callable[[str], bool] = lambda _: True) -> Iterator[tuple[list[Any], str]]:
    """Keys and a script's argument for each call; whose slots are wanted is asked when their turn has come."""
    calls = -(-len(places) // BATCH)
    for call in range(calls):
        members: dict[str, list[str]] = {}
        for key, member, owner, _ in places[call::calls]:
            if is_wanted(owner):
                members.setdefault(key, []).append(member)
        if members:
            # As bytes, because the client takes longer to encode a text than for all the rest of it.
            yield [key.encode() for key in members], ";".join(map(",".join, members.values()))


class Leaving:
    """The places that one event loop gives back: whoever ends while others are being freed goes with the next call.

    A server that restarts gives ten thousand back at once: a call for each would take so long that most were forgotten.
    """

    def __init__(self, free: Callable[[list[Any], str], Awaitable[object]]) -> None:
        self.lock = asyncio.Lock()
        self._free = free
        self._places: list[Place] = []
        self._task: asyncio.Task[None] | None = None

    async def free(self, places: Iterable[Place]) -> None:
        """Free some places; the cancellation of who waits keeps none of them."""
        self._places += places
        if self._task is None:
            self._task = start(self._work())
            self._task.add_done_callback(self._done)
        await asyncio.wait({self._task})

    def _done(self, _: asyncio.Task[None]) -> None:
        self._task = None

    async def _work(self) -> None:
        try:
            while self._places:
                places, self._places = self._places, []
                for together in await by_tag([place] for place in places):
                    for keys, those in batches(together):
                        async with self.lock:
                            await self._free(keys, those)
        except Unavailable:
            self._places.clear()  # their leases end by themselves
