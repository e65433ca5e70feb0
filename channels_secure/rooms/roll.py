"""One room's roll in this process: who is known to be there, and the sockets here that are told of it."""

import asyncio
from itertools import islice
from typing import Any, Protocol

from channels_secure.connections import Connection
from channels_secure.groups import encode
from channels_secure.rooms.answers import Frame, Here, Joined, Left, Person, PersonHere
from channels_secure.rooms.attending import Present, Somebody
from channels_secure.rooms.models import Room
from channels_secure.rooms.roles import Role

# Beyond so many nobody is named one by one: what everybody is told of everybody grows with the square.
MOST_NAMED = 100


class Attendant(Protocol):
    """What a roll needs of a consumer."""

    connection: Connection
    room: Room
    scope: Any

    @property
    def role(self) -> Role: ...

    def say_what_changed(self) -> None:
        """Tell the client what is different for it, if anything is."""


class Roll:
    """Who is in a room, as its sockets in this process were told last."""

    def __init__(self) -> None:
        self.attendants: dict[Attendant, None] = {}
        self.present = Present()
        self.is_known = asyncio.Event()
        self.read_at = 0.0
        # Somebody was let in before anything could be read, and has to be told later.
        self.is_owed = False
        self._told = 0
        self._rules: tuple[Any, ...] = ()

    @property
    def is_crowd(self) -> bool:
        return self.present.count > MOST_NAMED

    def add(self, attendant: Attendant) -> None:
        """Somebody is here: the others hear of it now if they know who else is."""
        user, users = attendant.scope["user"], self.present.users
        if self.is_known.is_set() and user.pk is not None and user.pk not in users:
            if self.is_crowd:
                # Told with the next look, together with whoever else comes.
                users[user.pk] = _seen(attendant)
            else:
                self._go_over_to(Present({**users, user.pk: _seen(attendant)}, self.present.anonymous))
        self.attendants[attendant] = None

    def discard(self, attendant: Attendant) -> None:
        self.attendants.pop(attendant, None)

    def meet(self, found: Present, now: float) -> None:
        """Tell what is different in what was read; whoever has a socket here is here, whatever was read."""
        for attendant in self.attendants:
            user = attendant.scope["user"]
            if user.pk is not None:
                found.users.setdefault(user.pk, _seen(attendant))
        self.read_at = now
        if self.is_known.is_set():
            self._go_over_to(found)
        self.present, self._told = found, found.count
        self.is_known.set()
        if self.is_owed:
            self.is_owed = False
            self._tell(self.here())

    def here(self, ref: str | int | None = None) -> Here:
        """Who is here, a hundred at most by name."""
        return Here(count=self.present.count, members=self.named(), ref=ref)

    def named(self) -> list[PersonHere]:
        return [_shown(pk, somebody) for pk, somebody in islice(self.present.users.items(), MOST_NAMED)]

    def meet_rules(self, room: Room) -> None:
        """Tell everybody here of a room's new rules, which they share, before each of them is looked at again."""
        rules = (room.title, room.slow_mode, room.encrypted)
        if self._rules != rules:
            self._rules = rules
            for attendant in list(self.attendants):
                attendant.say_what_changed()

    def post(self, text: str) -> None:
        """Send a text to everybody in the room here."""
        for attendant in list(self.attendants):
            attendant.connection.post(text)

    def _go_over_to(self, found: Present) -> None:
        before, self.present = self.present, found
        has_other_roles = _has_other_roles(before, found)
        if found.count > MOST_NAMED or (before.users.keys() == found.users.keys() and not has_other_roles):
            if self._told != found.count:
                self._tell(Here(count=found.count))
        elif before.count > MOST_NAMED or has_other_roles:
            self._tell(self.here())
        else:
            self._name(before, found)
        self._told = found.count

    def _name(self, before: Present, found: Present) -> None:
        for pk in before.users.keys() - found.users.keys():
            self._tell(Left(user=Person(id=pk, name=before.users[pk].name), count=found.count))
        for pk in found.users.keys() - before.users.keys():
            self._tell(Joined(user=_shown(pk, found.users[pk]), count=found.count))

    def _tell(self, frame: Frame) -> None:
        self.post(encode(frame).decode())


def _seen(attendant: Attendant) -> Somebody:
    return Somebody(attendant.scope["user"].get_username(), attendant.role)


def _shown(pk: Any, somebody: Somebody) -> PersonHere:
    return PersonHere(id=pk, name=somebody.name, role=somebody.role)


def _has_other_roles(before: Present, found: Present) -> bool:
    both = before.users.keys() & found.users.keys()
    return any(before.users[pk].role is not found.users[pk].role for pk in both)
