"""What the server says in a room."""

from datetime import datetime
from typing import Any

import msgspec

from channels_secure.blocklist.changes import name_of
from channels_secure.rooms.roles import Act, Role
from channels_secure.rooms.sealing import Sealed


class Person(msgspec.Struct, frozen=True):
    """Somebody: a user, or with no id what acts by a name alone."""

    id: int | str | None
    name: str


class PersonHere(Person, frozen=True):
    """Somebody who is in the room, and what they are there."""

    role: Role


def shown(user: Any) -> Person:
    """Somebody as the wire shows them."""
    return Person(id=getattr(user, "pk", None), name=name_of(user))


class Frame(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type"):
    """One message of the server's; what does not apply is left out."""


class Entered(Frame, tag="room.entered"):
    """The first message in a room: its rules, what one is there, and who else is, a hundred at most of `count`."""

    room: str
    title: str
    role: Role
    slow: int
    encrypted: bool
    muted: int
    members: list[PersonHere]
    count: int


class Said(Frame, tag="room.said"):
    """Somebody said something."""

    id: str
    user: Person
    at: datetime
    text: str | None = None
    sealed: Sealed | None = None


class Joined(Frame, tag="room.joined"):
    """Somebody is here now, with the first of their sockets."""

    user: PersonHere
    count: int


class Left(Frame, tag="room.left"):
    """Somebody is here no more, with none of their sockets."""

    user: Person
    count: int


class Here(Frame, tag="room.here"):
    """Who is here: the answer to `room.who`; also said when roles have changed, and how many are, in a crowd."""

    count: int
    members: list[PersonHere] | None = None
    ref: str | int | None = None


class Deleted(Frame, tag="room.deleted"):
    """A message was taken back: take it off the page."""

    id: str
    by: Person


class Moderated(Frame, tag="room.moderated"):
    """Somebody kept order."""

    act: Act
    by: Person
    user: Person | None = None
    seconds: int | None = None
    role: Role | None = None


class Changed(Frame, tag="room.changed"):
    """What is different for oneself now: the room's rules, one's role, or for how many seconds one is muted."""

    title: str | None = None
    slow: int | None = None
    encrypted: bool | None = None
    role: Role | None = None
    muted: int | None = None


class Done(Frame, tag="room.done"):
    """What was asked with an `id` has been done; `message` names what was said."""

    ref: str | int
    message: str | None = None


FRAMES = (Entered, Said, Joined, Left, Here, Deleted, Moderated, Changed, Done)
