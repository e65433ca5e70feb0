"""Who is in a room, over all processes: each user once, however many sockets they have open there."""

from typing import Any

from channels_secure import database
from channels_secure.rooms import attending
from channels_secure.rooms.acting import stored_room
from channels_secure.rooms.models import Room


def who(room: Room | str) -> dict[Any, str]:
    """The users in a room: names by primary key, the longest there first.

    Raises:
        ValueError: there is no such room.
    """
    return {pk: somebody.name for pk, somebody in _present(room).users.items()}


def count(room: Room | str) -> int:
    """How many are in a room: users, and the sockets of those who are not logged in.

    Raises:
        ValueError: there is no such room.
    """
    return _present(room).count


async def awho(room: Room | str) -> dict[Any, str]:
    """`who()` from the event loop."""
    return await database.run(who, room)


async def acount(room: Room | str) -> int:
    """`count()` from the event loop."""
    return await database.run(count, room)


def _present(room: Room | str) -> attending.Present:
    pk = stored_room(room).pk
    return attending.read([pk])[pk]
