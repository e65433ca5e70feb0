"""Who is where, as this process tells its sockets.

The rows of `Attendance` are the truth, each for as long as its socket's process lives. A process writes its own, many
at a time, and compares what it reads with what it has told: so nobody has to be told by a process that has died.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from secrets import token_hex
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseTrouble

from channels_secure import database
from channels_secure.audit import plain
from channels_secure.background import start
from channels_secure.groups import hub
from channels_secure.rooms import attending
from channels_secure.rooms.looking import desk
from channels_secure.rooms.models import Attendance, Room
from channels_secure.rooms.roll import Attendant, Roll

logger = logging.getLogger("channels_secure")

# Nobody is ever told anything in it but that some rooms have to be read again.
GROUP = "channels_secure.rooms"
# Seconds: between two looks at every room, between two writings, and between two looks at a crowd.
LOOK_INTERVAL, PAUSE, CROWD_PAUSE = 5.0, 0.05, 1.0
STALE_INTERVAL = 60.0
PATIENCE = 2.0
MOST_ROOMS_TOLD, MOST_LEFT = 200, 10_000
RETRY = 1.0


class Ear:
    """What hears of other processes' changes, in the place of a consumer and its connection."""

    def __init__(self, rolls: "Rolls") -> None:
        self._rolls = rolls
        self.connection = self.inbox = self

    def post(self, text: str) -> None:
        sender, _, rooms = text.partition(":")
        if sender != self._rolls.id:
            self._rolls.hear(rooms)

    def put(self, event: dict[str, Any]) -> None:
        """Nothing else is listened to."""


class Rolls:
    """The rooms in which this event loop has sockets; its task runs while there are any, or something to write."""

    def __init__(self) -> None:
        self.id = token_hex(8)
        self._rolls: dict[int, Roll] = {}
        self._where: dict[str, int] = {}
        self._entered: dict[str, Attendance] = {}
        self._left: dict[str, int] = {}
        self._due: set[int] = set()
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._looked_at = self._tidied_at = time.monotonic()
        self._failed = False

    async def enter(self, attendant: Attendant) -> Roll:
        """Somebody is in a room; returns its roll once it has been read, or two seconds later."""
        room = attendant.room.pk
        roll = self._rolls.setdefault(room, Roll())
        user, key = attendant.scope["user"], attendant.connection.id
        self._entered[key] = Attendance(
            connection_id=key, room_id=room, user_id=user.pk, username=plain.text(user.get_username())
        )
        self._where[key] = room
        roll.add(attendant)
        self._change(room)
        if not roll.is_known.is_set():
            try:
                async with asyncio.timeout(PATIENCE):
                    await roll.is_known.wait()
            except TimeoutError:
                roll.is_owed = True
        return roll

    def leave(self, attendant: Attendant) -> None:
        """A socket has ended; does nothing for one that never entered."""
        room = self._where.pop(attendant.connection.id, None)
        if room is None:
            return
        roll = self._rolls[room]
        roll.discard(attendant)
        if not roll.attendants:
            del self._rolls[room]
        if self._entered.pop(attendant.connection.id, None) is None:
            self._left[attendant.connection.id] = room
        self._change(room)

    def tell(self, room: int, text: str) -> None:
        """Send a text to the sockets that this loop has in a room."""
        if room in self._rolls:
            self._rolls[room].post(text)

    def meet_rules(self, room: Room) -> None:
        """Somebody has looked a room up: what is new about it is told to everybody at once."""
        if room.pk in self._rolls:
            self._rolls[room.pk].meet_rules(room)

    def hear(self, rooms: str) -> None:
        """Other processes have written about these rooms; whatever else stands there means nothing."""
        told = rooms.split(",")[:MOST_ROOMS_TOLD]
        self._due.update(int(room) for room in told if room.isdecimal() and len(room) < 19)
        self._awake.set()

    def _change(self, room: int) -> None:
        self._due.add(room)
        self._awake.set()
        if self._task is None or self._task.done():
            self._begin()

    def _begin(self) -> None:
        self._task = start(self._run())
        self._task.add_done_callback(self._ended)

    def _is_needed(self) -> bool:
        return bool(self._rolls or self._entered or self._left)

    async def _run(self) -> None:
        ear: Any = Ear(self)
        await hub().join(ear, GROUP)
        try:
            while self._is_needed():
                self._awake.clear()
                try:
                    await self._pass()
                except Exception as error:
                    # Tried again whatever it was, or nobody would be told of anybody any more.
                    if not self._failed:
                        known = isinstance(error, DatabaseTrouble)
                        facts = {"error": type(error).__name__}
                        logger.error("attendance.unwritable", extra=facts, exc_info=None if known else error)
                    self._failed = True
                await self._pause()
        finally:
            await hub().leave(ear, GROUP)

    async def _pass(self) -> None:
        """Write first: what is read then has it."""
        now = time.monotonic()
        await self._write()
        if now - self._looked_at >= LOOK_INTERVAL:
            self._looked_at = now
            self._due.update(self._rolls)
        if now - self._tidied_at >= STALE_INTERVAL:
            self._tidied_at = now
            await database.write(attending.forget_stale)
        due = [room for room in self._due if self._is_time(room, now)]
        self._due.difference_update(due)
        # The rooms' own rules, which all their sockets share, while it takes its time to look at each of these.
        for answer in await asyncio.gather(
            *(desk().ask(room, None) for room in self._due.union(due) & self._rolls.keys())
        ):
            if answer is not None:
                self.meet_rules(answer[0])
        for room, present in (await database.run(attending.read, due) if due else {}).items():
            if room in self._rolls:
                self._rolls[room].meet(present, now)
        self._due &= self._rolls.keys()
        self._failed = False

    def _is_time(self, room: int, now: float) -> bool:
        roll = self._rolls.get(room)
        return roll is not None and not (roll.is_crowd and now - roll.read_at < CROWD_PAUSE)

    async def _write(self) -> None:
        entered, left = self._entered, self._left
        if not entered and not left:
            return
        self._entered, self._left = {}, {}
        try:
            await database.write(attending.write, list(entered.values()), list(left))
        except Exception:
            self._entered = {**entered, **self._entered}
            # What cannot be deleted ends with its live connection.
            self._left = {} if len(left) > MOST_LEFT else {**left, **self._left}
            raise
        rooms = sorted({row.room_id for row in entered.values()} | set(left.values()))
        for first in range(0, len(rooms), MOST_ROOMS_TOLD):
            await have_looked_at(rooms[first : first + MOST_ROOMS_TOLD], teller=self.id)

    async def _pause(self) -> None:
        if not self._is_needed():
            return
        pause = RETRY if self._failed else CROWD_PAUSE if self._due else LOOK_INTERVAL
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._awake.wait()
        await asyncio.sleep(RETRY if self._failed else PAUSE)

    def _ended(self, _: asyncio.Task[None]) -> None:
        # Somebody may have come while it was leaving its group.
        if self._is_needed():
            self._begin()


_rolls: WeakKeyDictionary[asyncio.AbstractEventLoop, Rolls] = WeakKeyDictionary()


def rolls() -> Rolls:
    """The rolls of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _rolls.get(loop)
    if found is None:
        found = _rolls[loop] = Rolls()
    return found


async def have_looked_at(rooms: Iterable[int], *, teller: str = "") -> None:
    """Have every process look at some rooms again, but for the rolls of `teller`, which have just done so."""
    await hub().broadcast(GROUP, f"{teller}:{','.join(map(str, rooms))}", must_arrive=False)


def tell_every_loop(room: int, text: str) -> None:
    """Send a text to the sockets that this process has in a room, from a thread of whatever kind."""
    # `keyrefs()` is a copy: loops begin and end in other threads while this one goes through them.
    for loop in filter(None, (reference() for reference in _rolls.keyrefs())):
        found = _rolls.get(loop)
        with contextlib.suppress(RuntimeError):
            if found is not None:
                loop.call_soon_threadsafe(found.tell, room, text)
