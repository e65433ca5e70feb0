"""Who may do what to whom: one table, which code, documentation and tests share."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from django.utils.translation import gettext_lazy as _


class Role(StrEnum):
    """What somebody is in a room, the highest first; not Django's `TextChoices`, which no schema can be made of."""

    OWNER = "owner"
    MODERATOR = "moderator"
    MEMBER = "member"
    GUEST = "guest"

    @property
    def label(self) -> str:
        """The role in the reader's language."""
        return str(_LABELS[self])


_LABELS = {
    Role.OWNER: _("owner"),
    Role.MODERATOR: _("moderator"),
    Role.MEMBER: _("member"),
    Role.GUEST: _("guest"),
}
ROLE_NAMES = [(role.value, name) for role, name in _LABELS.items()]
RANK: Mapping[Role, int] = MappingProxyType({role: rank for rank, role in enumerate(reversed(Role))})


class Act(StrEnum):
    """What is done to a room or to somebody in it; the word stands on the wire and in the audit trail."""

    MUTE = "mute"
    UNMUTE = "unmute"
    KICK = "kick"
    BAN = "ban"
    UNBAN = "unban"
    DELETE = "delete"
    SLOW = "slow"
    PROMOTE = "promote"
    HAND_OVER = "hand_over"


# The least role that may do it. To somebody: only to a lower role than one's own; and nobody gives away a role as high
# as their own, but for the owner, who hands the room over.
LEAST: Mapping[Act, Role] = MappingProxyType(
    dict.fromkeys(Act, Role.MODERATOR) | {Act.HAND_OVER: Role.OWNER},
)


def may(act: Act, actor: Role, target: Role | None = None, gives: Role | None = None) -> bool:
    """Whether a role may do something to another, or to the room when `target` is None.

    Args:
        gives: the role that the target is to have.
    """
    if RANK[actor] < RANK[LEAST[act]]:
        return False
    if target is not None and RANK[target] >= RANK[actor]:
        return False
    return gives is None or act is Act.HAND_OVER or RANK[gives] < RANK[actor]


def role_of(room: Any, membership: Any, user_pk: Any) -> Role:
    """What somebody is in a room.

    The room's `owner` alone says who owns it: a membership that says so of somebody else, as SQL may leave it behind,
    is a moderator's. What is no role at all counts as none.
    """
    owns = user_pk is not None and room.owner_id == user_pk
    return role_from(owns, None if membership is None or membership.banned else membership.role)


def role_from(owns: bool, stored: str | None) -> Role:
    """The same from what is stored: whether it is their room, and the role of a membership without a ban."""
    if owns:
        return Role.OWNER
    return min(Role(stored), Role.MODERATOR, key=RANK.__getitem__) if stored in set(Role) else Role.GUEST


def admits(room: Any, membership: Any, user_pk: Any) -> bool:
    """Whether somebody may be in a room; a visibility that does not exist counts as private."""
    role = role_of(room, membership, user_pk)
    if role is Role.OWNER:
        return True
    if membership is not None and membership.banned:
        return False
    return room.visibility == room.Visibility.PUBLIC or RANK[role] >= RANK[Role.MEMBER]
