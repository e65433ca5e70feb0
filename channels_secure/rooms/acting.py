"""One act in a room: may it be done, then done, recorded and told, all of it or nothing."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec

from asgiref.sync import async_to_sync
from django.db import router, transaction

from channels_secure import audit, database
from channels_secure.audit.acting import place
from channels_secure.background import spawn
from channels_secure.blocklist.changes import name_of, stored_user
from channels_secure.exceptions import Denied
from channels_secure.groups import encode, hub
from channels_secure.policy.decisions import Reason
from channels_secure.policy.group_names import group_name
from channels_secure.rooms.answers import Deleted, Frame, Moderated, shown
from channels_secure.rooms.changes import changing, tell_user
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Act, Role, may, role_of
from channels_secure.rooms.rolls import have_looked_at, tell_every_loop
from channels_secure.supervisor.push import shared_layer

logger = logging.getLogger("channels_secure")

P = ParamSpec("P")


@dataclass(slots=True, kw_only=True)
class Deed:
    """An act that is being done, inside its transaction.

    Args:
        using: the database in which other processes are told.
        target: to whom it is done, with the membership that they have.
        facts: what the room and the audit trail are told of it.
        is_void: there was nothing to do, so nobody is told.
    """

    act: Act
    room: Room
    by: Any
    using: str
    target: Any = None
    membership: Membership | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    is_void: bool = False

    def change(self, **columns: Any) -> None:
        """Store what is decided about the target, and have their sockets looked at again."""
        rows = Membership._base_manager.filter(room=self.room, user=self.target)
        if not rows.update(**columns):
            Membership._base_manager.bulk_create(
                [Membership(room=self.room, user=self.target, **{"role": Role.GUEST, **columns})]
            )
        tell_user(self.target.pk, using=self.using)

    def frame(self) -> Frame:
        """What everybody in the room is told."""
        by, user = shown(self.by), None if self.target is None else shown(self.target)
        if self.act is Act.DELETE:
            return Deleted(id=self.facts["message"], by=by)
        return Moderated(act=self.act, by=by, user=user, **self.facts)


@contextmanager
def doing(act: Act, room: Room | str, by: Any, user: Any = None, *, gives: Role | None = None) -> Iterator[Deed]:
    """Do something in a room; the body stores it.

    The roles are read after every other decision about the room, so that whoever has just been demoted does nothing any
    more.

    Raises:
        Denied: the role of `by` does not allow it. A text or None is not asked for one; everything else is, and so
            somebody who is not logged in does nothing.
        ValueError: there is no such room or user.
    """
    stored = stored_room(room)
    with changing(stored) as using:
        fresh = stored_room(stored)
        actor = None if by is None or isinstance(by, str) else _role(fresh, by)
        if actor is not None and not may(act, actor):
            raise Denied(Reason.PERMISSION_DENIED, detail=f"{actor} may not {act}")
        target = None if user is None else stored_user(user)
        membership = None if target is None else _membership(fresh, target)
        role = None if target is None else role_of(fresh, membership, target.pk)
        is_fixed = role is Role.OWNER and act is not Act.DELETE
        if is_fixed or (actor is not None and not may(act, actor, role, gives)):
            raise Denied(Reason.PERMISSION_DENIED, detail=f"may not {act} the {role}")
        deed = Deed(act=act, room=fresh, by=by, using=using, target=target, membership=membership)
        yield deed
        if not deed.is_void:
            detail = {"room": fresh.slug, **deed.facts}
            audit.write("room.moderated", act, user=target, actor=name_of(by), detail=detail)


def own_words(room: Room, by: Any, message: str) -> Deed:
    """Somebody takes back what they have said themselves."""
    return Deed(act=Act.DELETE, room=room, by=by, using=router.db_for_write(Room), facts={"message": message})


def stored_room(room: Room | str) -> Room:
    """A room as it is stored now.

    Raises:
        ValueError: there is none.
    """
    which = {"pk": room.pk} if isinstance(room, Room) else {"slug": room}
    found = Room._base_manager.filter(**which).first()
    if found is None:
        raise ValueError(f"there is no room {str(room)!r}")
    return found


def user_of(key: str) -> Any:
    """The user with this primary key; None where there is none any more."""
    try:
        return stored_user(key)
    except ValueError:
        return None


def _role(room: Room, user: Any) -> Role:
    pk = getattr(user, "pk", None)
    return Role.GUEST if pk is None else role_of(room, _membership(room, user), pk)


def _membership(room: Room, user: Any) -> Membership | None:
    return Membership._base_manager.filter(room=room, user=user).first()


# Telling the room -----------------------------------------------------------------------------------------------------


def tell_after_commit(deed: Deed | None) -> None:
    """From synchronous code: have the room told once the act stands."""
    if deed is not None and not deed.is_void:
        transaction.on_commit(lambda: _tell(deed), using=deed.using, robust=True)


def _tell(deed: Deed) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if shared_layer() is None:
            tell_every_loop(deed.room.pk, encode(deed.frame()).decode())
        else:
            async_to_sync(_broadcast)(deed)
    else:
        spawn(_broadcast(deed))


async def in_loop(act: Callable[P, Deed], *args: P.args, **kwargs: P.kwargs) -> Deed:
    """From the event loop: do an act in the thread that writes, and tell the room."""
    deed = await database.write(_placed, place(), partial(act, *args, **kwargs))
    if not deed.is_void:
        await _broadcast(deed)
    return deed


def _placed(where: str, act: Callable[[], Deed]) -> Deed:
    with audit.acting_from(where):
        return act()


async def _broadcast(deed: Deed) -> None:
    """Tell everybody in the room; a layer that is away costs those in other processes the message, not the act."""
    try:
        if deed.target is None:
            await have_looked_at([deed.room.pk])
        await hub().broadcast(group_name(deed.room.group), encode(deed.frame()).decode(), must_arrive=False)
    except Exception as error:  # noqa: BLE001 - layers raise what their clients do
        logger.warning("layer.failed", extra={"error": type(error).__name__})
