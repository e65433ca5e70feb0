"""Making rooms and saying who belongs to them: from synchronous code and, with the `a…` twins, from the event loop.

As in `channels_secure.rooms.moderation`, `by` is the user whose role must allow it, or the name of something else.
"""

from typing import Any

from channels_secure import database
from channels_secure.blocklist.changes import stored_user
from channels_secure.exceptions import Denied
from channels_secure.policy.decisions import Reason
from channels_secure.rooms import moderation
from channels_secure.rooms.acting import stored_room
from channels_secure.rooms.changes import changing, tell_user
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role, role_of


def role(room: Room | str, user: Any) -> Role:
    """What somebody is in a room; whoever is not known there is a guest."""
    stored, person = stored_room(room), stored_user(user)
    return role_of(stored, Membership._base_manager.filter(room=stored, user=person).first(), person.pk)


def join(room: Room | str, user: Any) -> None:
    """A user becomes a member by their own will; does nothing for somebody who is one.

    Raises:
        Denied: the room is private, or they are banned from it.
    """
    stored, person = stored_room(room), stored_user(user)
    with changing(stored) as using:
        fresh = stored_room(stored)
        rows = Membership._base_manager.filter(room=fresh, user=person)
        known = rows.first()
        if role_of(fresh, known, person.pk) is not Role.GUEST:
            return
        is_open = fresh.visibility in (Room.Visibility.PUBLIC, Room.Visibility.MEMBERS)
        if not is_open or (known is not None and known.banned):
            raise Denied(Reason.PERMISSION_DENIED, detail="may not join")
        if not rows.update(role=Role.MEMBER):
            Membership._base_manager.bulk_create([Membership(room=fresh, user=person, role=Role.MEMBER)])
        tell_user(person.pk, using=using)


def leave(room: Room | str, user: Any) -> None:
    """A user is a member no more by their own will; a mute or a ban is remembered.

    Raises:
        Denied: they own the room, and would have to hand it over first.
    """
    stored, person = stored_room(room), stored_user(user)
    with changing(stored) as using:
        if stored_room(stored).owner_id == person.pk:
            raise Denied(Reason.PERMISSION_DENIED, detail="owns the room")
        rows = Membership._base_manager.filter(room=stored, user=person)
        rows.filter(banned=False, muted_until=None).delete()
        rows.update(role=Role.GUEST)
        tell_user(person.pk, using=using)


def add(room: Room | str, user: Any, by: Any = None) -> None:
    """Make somebody a member, as whoever may promote does."""
    moderation.promote(room, user, Role.MEMBER, by)


def remove(room: Room | str, user: Any, by: Any = None) -> None:
    """Make somebody a guest; in a room for members that ends their sockets."""
    moderation.promote(room, user, Role.GUEST, by)


def hand_over(room: Room | str, user: Any, by: Any = None) -> None:
    """Give the room to another owner, whose predecessor moderates on."""
    moderation.promote(room, user, Role.OWNER, by)


async def arole(room: Room | str, user: Any) -> Role:
    """`role()` from the event loop."""
    return await database.run(role, room, user)


async def ajoin(room: Room | str, user: Any) -> None:
    """`join()` from the event loop."""
    await database.write(join, room, user)


async def aleave(room: Room | str, user: Any) -> None:
    """`leave()` from the event loop."""
    await database.write(leave, room, user)


async def aadd(room: Room | str, user: Any, by: Any = None) -> None:
    """`add()` from the event loop."""
    await moderation.apromote(room, user, Role.MEMBER, by)


async def aremove(room: Room | str, user: Any, by: Any = None) -> None:
    """`remove()` from the event loop."""
    await moderation.apromote(room, user, Role.GUEST, by)


async def ahand_over(room: Room | str, user: Any, by: Any = None) -> None:
    """`hand_over()` from the event loop."""
    await moderation.apromote(room, user, Role.OWNER, by)
