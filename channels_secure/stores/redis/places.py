"""Where slots are: members of sorted sets, and many of them in calls of a bounded length."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

from channels_secure.background import start
from channels_secure.exceptions import Unavailable
from channels_secure.stores.redis.keys import tag_of

# A key, and the member that stands for a connection there.
Place = tuple[str, str]
# How many go into one call, and are sorted before others may run.
BATCH = 500

Members = dict[str, list[str]]


async def by_tag(places: Iterable[Place]) -> dict[str, Members]:
    """The members of each key, by the place of the key in a cluster."""
    found: dict[str, Members] = {}
    for number, (key, member) in enumerate(places, 1):
        found.setdefault(tag_of(key), {}).setdefault(key, []).append(member)
        if number % BATCH == 0:
            await asyncio.sleep(0)
    return found


def batches(members: Members, is_wanted: Callable[[str], bool] = lambda _: True) -> Iterator[tuple[list[str], str]]:
    """Keys and a script's argument for each call; who is wanted is asked when its turn has come."""
    keys: list[str] = []
    groups: list[str] = []
    count = 0
    for key, those in members.items():
        for start_at in range(0, len(those), BATCH):
            some = [member for member in those[start_at : start_at + BATCH] if is_wanted(member)]
            if not some:
                continue
            keys.append(key)
            groups.append(",".join(some))
            count += len(some)
            if count >= BATCH:
                yield keys, ";".join(groups)
                keys, groups, count = [], [], 0
    if keys:
        yield keys, ";".join(groups)


class Leaving:
    """The places that one event loop gives back: whoever ends while others are being freed goes with the next call.

    A server that restarts gives ten thousand back at once: a call for each would take so long that most were forgotten.
    """

    def __init__(self, free: Callable[[list[str], str], Awaitable[object]]) -> None:
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
                for members in (await by_tag(places)).values():
                    for keys, those in batches(members):
                        async with self.lock:
                            await self._free(keys, those)
        except Unavailable:
            self._places.clear()  # their leases end by themselves
