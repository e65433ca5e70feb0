"""Rooms as one user stands before them: what they are there, and whether they may enter or join."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import Http404
from django.utils import timezone

from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import RANK, Role, admits, role_of

PEOPLE_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One room, one user, who may be nobody, and what was decided about them there."""

    room: Room
    user: Any
    membership: Membership | None

    @property
    def role(self) -> Role:
        return role_of(self.room, self.membership, self.user.pk)

    @property
    def is_open(self) -> bool:
        return bool(self.user.is_authenticated) and admits(self.room, self.membership, self.user.pk)

    @property
    def is_banned(self) -> bool:
        return self.membership is not None and self.membership.banned

    @property
    def is_inside(self) -> bool:
        return self.role is not Role.GUEST

    @property
    def is_moderated(self) -> bool:
        """Whether the user keeps order here."""
        return RANK[self.role] >= RANK[Role.MODERATOR]

    @property
    def may_join(self) -> bool:
        known = self.room.visibility != Room.Visibility.PRIVATE
        return bool(self.user.is_authenticated) and known and not self.is_inside and not self.is_banned

    @property
    def may_leave(self) -> bool:
        return self.is_inside and self.role is not Role.OWNER

    def people(self) -> list[dict[str, Any]]:
        """Who belongs to the room, for those inside; who is kept out of it, for those who keep order."""
        if not self.is_open:
            return []
        known = self.room.memberships.select_related("user")
        if not self.is_moderated:
            known = known.exclude(role=Role.GUEST).exclude(banned=True)
        return [
            {
                "id": each.user_id,
                "name": each.user.get_username(),
                "role": role_of(self.room, each, each.user_id),
                "banned": each.banned,
                "muted": seconds_until(each.muted_until),
            }
            for each in known[:PEOPLE_SHOWN]
        ]


def seconds_until(moment: datetime | None) -> float:
    return 0.0 if moment is None else max(0.0, (moment - timezone.now()).total_seconds())


def doors(user: Any, **which: Any) -> Iterator[Door]:
    """The rooms that a user may know of, also those they are kept out of: they are told why."""
    rooms = Room.objects.visible_to(user) | Room.objects.exclude(visibility=Room.Visibility.PRIVATE)
    own = {} if user.pk is None else {each.room_id: each for each in Membership.objects.filter(user=user)}
    for room in rooms.filter(**which):
        yield Door(room=room, user=user, membership=own.get(room.pk))


def door(user: Any, slug: str) -> Door:
    """One of them; Http404 is also for a private room of others."""
    for found in doors(user, slug=slug):
        return found
    raise Http404
