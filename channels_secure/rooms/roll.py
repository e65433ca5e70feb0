"""One room's roll in this process: who is known to be there, and the sockets here that are told of it."""

import asyncio
from typing import Any, Protocol

from channels_secure.connections import Connection
from channels_secure.groups import encode
from channels_secure.rooms.answers import Frame, Here, Joined, Left, Person
from channels_secure.rooms.attending import Present
from channels_secure.rooms.models import Room

# Beyond so many nobody is named one by one: what everybody is told of everybody grows with the square.
MOST_NAMED = 100


class Attendant(Protocol):
    """What a roll needs of a consumer."""

    connection: Connection
    room: Room
    scope: Any


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

    @property
    def is_crowd(self) -> bool:
        return self.present.count > MOST_NAMED

    def add(self, attendant: Attendant) -> None:
        """Somebody is here: the others hear of it now if they know who else is."""
        user, users = attendant.scope["user"], self.present.users
        if self.is_known.is_set() and user.pk is not None and user.pk not in users:
            if self.is_crowd:
                # Told with the next look, together with whoever else comes.
                users[user.pk] = user.get_username()
            else:
                self._go_over_to(Present({**users, user.pk: user.get_username()}, self.present.anonymous))
        self.attendants[attendant] = None

    def discard(self, attendant: Attendant) -> None:
        self.attendants.pop(attendant, None)

    def meet(self, found: Present, now: float) -> None:
        """Tell what is different in what was read; whoever has a socket here is here, whatever was read."""
        for attendant in self.attendants:
            user = attendant.scope["user"]
            if user.pk is not None:
                found.users.setdefault(user.pk, user.get_username())
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

    def named(self) -> list[Person]:
        return [Person(id=pk, name=name) for pk, name in list(self.present.users.items())[:MOST_NAMED]]

    def post(self, text: str) -> None:
        """Send a text to everybody in the room here."""
        for attendant in list(self.attendants):
            attendant.connection.post(text)

    def _go_over_to(self, found: Present) -> None:
        before, self.present = self.present, found
        if found.count > MOST_NAMED or before.users.keys() == found.users.keys():
            if self._told != found.count:
                self._tell(Here(count=found.count))
        elif before.count > MOST_NAMED:
            self._tell(self.here())
        else:
            self._name(before, found)
        self._told = found.count

    def _name(self, before: Present, found: Present) -> None:
        for pk in before.users.keys() - found.users.keys():
            self._tell(Left(user=Person(id=pk, name=before.users[pk]), count=found.count))
        for pk in found.users.keys() - before.users.keys():
            self._tell(Joined(user=Person(id=pk, name=found.users[pk]), count=found.count))

    def _tell(self, frame: Frame) -> None:
        self.post(encode(frame).decode())
