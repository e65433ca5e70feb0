"""Keeping order in a room: from views, commands and, with the `a…` twins, from the event loop.

`by` is the user who does it, whose role in the room must allow it, or else `Denied` is raised; with a text, the name of
something else, or None, nobody's role is asked. Whatever is done holds for the open sockets of every process within a
second, is recorded as `room.moderated`, and is told to everybody in the room. `room` is a `Room` or the slug of one,
`user` a user or the primary key of one; a ValueError says that there is none.
"""

import math
from datetime import timedelta
from typing import Any

from django.utils import timezone

from channels_secure.exceptions import Denied
from channels_secure.policy.decisions import Reason
from channels_secure.rooms.acting import Deed, doing, in_loop, own_words, stored_room, tell_after_commit, user_of
from channels_secure.rooms.changes import end_sockets, place_of, tell_room, tell_user
from channels_secure.rooms.message_ids import author_of
from channels_secure.rooms.messages import LONGEST_MUTE
from channels_secure.rooms.models import Room
from channels_secure.rooms.models.room import LONGEST_SLOW_MODE
from channels_secure.rooms.roles import Act, Role, role_of


def mute(room: Room | str, user: Any, seconds: float, by: Any = None) -> None:
    """Take the word from somebody for so many seconds, a year at most."""
    tell_after_commit(_mute(room, user, seconds, by))


def unmute(room: Room | str, user: Any, by: Any = None) -> None:
    """Give somebody the word again."""
    tell_after_commit(_unmute(room, user, by))


def kick(room: Room | str, user: Any, by: Any = None) -> None:
    """End somebody's open sockets in the room; whoever may enter may come back."""
    tell_after_commit(_kick(room, user, by))


def ban(room: Room | str, user: Any, by: Any = None) -> None:
    """Keep somebody out, and take their role."""
    tell_after_commit(_ban(room, user, by))


def unban(room: Room | str, user: Any, by: Any = None) -> None:
    """Lift a ban; the role does not come back."""
    tell_after_commit(_unban(room, user, by))


def promote(room: Room | str, user: Any, role: str, by: Any = None) -> None:
    """Give somebody a role, higher or lower than theirs; `owner` hands the room over, and its owner moderates on."""
    tell_after_commit(_promote(room, user, role, by))


def set_slow_mode(room: Room | str, seconds: int, by: Any = None) -> None:
    """Let members and guests say something only every so many seconds, six hours at most; 0 is off."""
    tell_after_commit(_set_slow_mode(room, seconds, by))


def delete_message(room: Room | str, message: str, by: Any = None) -> None:
    """Have every client take a message off its page, one's own or a lower role's; the package keeps none itself."""
    tell_after_commit(_delete_message(room, message, by))


async def amute(room: Room | str, user: Any, seconds: float, by: Any = None) -> None:
    """`mute()` from the event loop."""
    await in_loop(_mute, room, user, seconds, by)


async def aunmute(room: Room | str, user: Any, by: Any = None) -> None:
    """`unmute()` from the event loop."""
    await in_loop(_unmute, room, user, by)


async def akick(room: Room | str, user: Any, by: Any = None) -> None:
    """`kick()` from the event loop."""
    await in_loop(_kick, room, user, by)


async def aban(room: Room | str, user: Any, by: Any = None) -> None:
    """`ban()` from the event loop."""
    await in_loop(_ban, room, user, by)


async def aunban(room: Room | str, user: Any, by: Any = None) -> None:
    """`unban()` from the event loop."""
    await in_loop(_unban, room, user, by)


async def apromote(room: Room | str, user: Any, role: str, by: Any = None) -> None:
    """`promote()` from the event loop."""
    await in_loop(_promote, room, user, role, by)


async def aset_slow_mode(room: Room | str, seconds: int, by: Any = None) -> None:
    """`set_slow_mode()` from the event loop."""
    await in_loop(_set_slow_mode, room, seconds, by)


async def adelete_message(room: Room | str, message: str, by: Any = None) -> None:
    """`delete_message()` from the event loop."""
    await in_loop(_delete_message, room, message, by)


# The acts themselves --------------------------------------------------------------------------------------------------


def _mute(room: Room | str, user: Any, seconds: float, by: Any) -> Deed:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_MUTE:
        raise ValueError(f"{seconds!r} is not a duration: give seconds above 0, a year at most")
    with doing(Act.MUTE, room, by, user) as deed:
        deed.facts["seconds"] = math.ceil(seconds)
        deed.change(muted_until=timezone.now() + timedelta(seconds=seconds))
    return deed


def _unmute(room: Room | str, user: Any, by: Any) -> Deed:
    with doing(Act.UNMUTE, room, by, user) as deed:
        deed.is_void = deed.membership is None or deed.membership.muted_until is None
        if not deed.is_void:
            deed.change(muted_until=None)
    return deed


def _kick(room: Room | str, user: Any, by: Any) -> Deed:
    with doing(Act.KICK, room, by, user) as deed:
        end_sockets(place_of(deed.room.group, deed.target.pk), Reason.DISCONNECTED, using=deed.using)
    return deed


def _ban(room: Room | str, user: Any, by: Any) -> Deed:
    with doing(Act.BAN, room, by, user) as deed:
        deed.is_void = deed.membership is not None and deed.membership.banned
        # Whoever is entering is not in the room yet, and is asked once more when they are.
        deed.change(banned=True, role=Role.GUEST)
        end_sockets(place_of(deed.room.group, deed.target.pk), Reason.PERMISSION_DENIED, using=deed.using)
    return deed


def _unban(room: Room | str, user: Any, by: Any) -> Deed:
    with doing(Act.UNBAN, room, by, user) as deed:
        deed.is_void = deed.membership is None or not deed.membership.banned
        if not deed.is_void:
            deed.change(banned=False)
    return deed


def _promote(room: Room | str, user: Any, role: str, by: Any) -> Deed:
    given = Role(role)
    act = Act.HAND_OVER if given is Role.OWNER else Act.PROMOTE
    with doing(act, room, by, user, gives=given) as deed:
        if deed.membership is not None and deed.membership.banned:
            raise Denied(Reason.PERMISSION_DENIED, detail="lift the ban first")
        deed.facts["role"] = given
        if given is Role.OWNER:
            _hand_over(deed)
        else:
            deed.is_void = role_of(deed.room, deed.membership, deed.target.pk) is given
            if not deed.is_void:
                deed.change(role=given)
    return deed


def _hand_over(deed: Deed) -> None:
    before, deed.room.owner = deed.room.owner_id, deed.target
    # Saving brings the memberships into line.
    deed.room.save(update_fields=["owner"])
    for pk in {before, deed.target.pk} - {None}:
        tell_user(pk, using=deed.using)


def _set_slow_mode(room: Room | str, seconds: int, by: Any) -> Deed:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds <= LONGEST_SLOW_MODE:
        raise ValueError(f"{seconds!r} is no slow mode: give whole seconds, six hours at most, or 0")
    with doing(Act.SLOW, room, by) as deed:
        deed.is_void = deed.room.slow_mode == seconds
        deed.facts["seconds"] = seconds
        if not deed.is_void:
            Room._base_manager.filter(pk=deed.room.pk).update(slow_mode=seconds)
            tell_room(deed.room.group, using=deed.using)
    return deed


def _delete_message(room: Room | str, message: str, by: Any) -> Deed:
    stored = stored_room(room)
    author = author_of(message, stored.pk)
    if author == str(getattr(by, "pk", "")):
        # What one has said oneself is no matter of order, nor of the trail.
        return own_words(stored, by, message)
    with doing(Act.DELETE, stored, by, user_of(author)) as deed:
        deed.facts["message"] = message
    return deed
