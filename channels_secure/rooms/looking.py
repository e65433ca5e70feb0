"""Looking up rooms and memberships for many sockets at once.

Ten thousand sockets that are asked to authorise again are some hundred queries, not twenty thousand, and the sockets of
one room share its object: what one of them learns of the room holds for all of this process.
"""

import asyncio
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from django.db.models import Q

from channels_secure import database
from channels_secure.background import start
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.models.room import SLUG_LENGTH

AT_ONCE = 200


class Question(NamedTuple):
    """Somebody in front of a room, which is known by its slug or its primary key; nobody has None as theirs."""

    room: str | int
    user_pk: Any


Answer = tuple[Room, Membership | None] | None
Waiting = tuple[Question, "asyncio.Future[Answer]"]


class Desk:
    """Answers the questions of one event loop, those that come meanwhile together, and strictly in order.

    A question is answered by a look that began after it was asked.
    """

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._rooms: WeakValueDictionary[int, Room] = WeakValueDictionary()

    async def ask(self, room: str | int, user_pk: Any) -> Answer:
        """The room of this slug or primary key with the user's membership, or None where there is no such room.

        Raises:
            django.db.Error: the database is away.
        """
        name = unicodedata.normalize("NFC", room) if isinstance(room, str) else room
        if isinstance(name, str) and not _can_exist(name):
            return None
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((Question(name, user_pk), answer))
        if self._task is None or self._task.done():
            self._task = start(self._work())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            try:
                rooms, memberships = await database.run(_look_up, [question for question, _ in some])
            except Exception as error:  # noqa: BLE001 - it is the askers'
                for _, answer in some:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            shared = {name: self._share(room) for name, room in rooms.items()}
            for (name, user_pk), answer in some:
                room = shared.get(name)
                if not answer.done():
                    answer.set_result(None if room is None else (room, memberships.get((room.pk, user_pk))))

    def _share(self, fresh: Room) -> Room:
        known = self._rooms.setdefault(fresh.pk, fresh)
        if known is not fresh:
            known.__dict__ = fresh.__dict__
        return known


def _can_exist(slug: str) -> bool:
    """Whether a database can be asked for it: PostgreSQL takes neither NUL nor a lone surrogate."""
    return 0 < len(slug) <= SLUG_LENGTH and slug.isprintable()


def _look_up(questions: Sequence[Question]) -> tuple[dict[str | int, Room], dict[tuple[int, Any], Membership]]:
    names = {name for name, _ in questions}
    about = Q(slug__in=[name for name in names if isinstance(name, str)])
    about |= Q(pk__in=[name for name in names if isinstance(name, int)])
    rooms: dict[str | int, Room] = {}
    for room in Room._base_manager.filter(about):
        rooms[room.slug] = rooms[room.pk] = room
    wanted = [(rooms[name].pk, pk) for name, pk in questions if name in rooms and pk is not None]
    return rooms, {(row.room_id, row.user_id): row for row in _memberships(wanted)}


def _memberships(wanted: Iterable[tuple[int, Any]]) -> Iterable[Membership]:
    pairs = set(wanted)
    if not pairs:
        return []
    rows = Membership._base_manager.filter(
        room_id__in={room for room, _ in pairs}, user_id__in={user for _, user in pairs}
    )
    # Defer nothing and join nothing: more rows than pairs come only where two rooms share two users.
    return [row for row in rows if (row.room_id, row.user_id) in pairs]


_desks: WeakKeyDictionary[asyncio.AbstractEventLoop, Desk] = WeakKeyDictionary()


def desk() -> Desk:
    """The desk of the running event loop."""
    return _desks.setdefault(asyncio.get_running_loop(), Desk())
