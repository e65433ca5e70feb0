"""The rows of who is where; blocking, for the package's threads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import router, transaction
from django.db.models import F, OuterRef, Subquery

from channels_secure.rooms.models import Attendance, Membership
from channels_secure.rooms.roles import Role, role_from

CHUNK = 100


class Somebody(NamedTuple):
    """A user who is in a room, as the others see them."""

    name: str
    role: Role


@dataclass(slots=True)
class Present:
    """Who is in a room: users by primary key, each once, and how many sockets of nobody in particular."""

    users: dict[Any, Somebody] = field(default_factory=dict)
    anonymous: int = 0

    @property
    def count(self) -> int:
        return len(self.users) + self.anonymous


def write(entered: Sequence[Attendance], left: Sequence[str]) -> None:
    """Note who entered and who left; doing it twice changes nothing.

    Raises:
        django.db.Error: the database is away.
    """
    using = router.db_for_write(Attendance)
    rows = Attendance._base_manager.using(using)
    with transaction.atomic(using=using):
        rows.bulk_create(entered, batch_size=CHUNK, ignore_conflicts=True)
        for start in range(0, len(left), CHUNK):
            rows.filter(pk__in=left[start : start + CHUNK]).delete()


def read(rooms: Iterable[int]) -> dict[int, Present]:
    """Who is in some rooms, in whatever process."""
    found = {pk: Present() for pk in rooms}
    own = Membership._base_manager.filter(room=OuterRef("room_id"), user=OuterRef("user_id"), banned=False)
    live = Attendance.objects.live().filter(room_id__in=list(found)).order_by("entered_at", "connection_id")
    rows: Iterable[Any] = live.values_list(
        "room_id", "user_id", "username", F("room__owner"), Subquery(own.values("role")[:1])
    )
    for room_id, user_id, username, owner, stored in rows:
        if user_id is None:
            found[room_id].anonymous += 1
        else:
            found[room_id].users.setdefault(user_id, Somebody(username, role_from(user_id == owner, stored)))
    return found


def forget_stale() -> None:
    """Delete what killed processes have left behind."""
    Attendance.objects.using(router.db_for_write(Attendance)).stale().delete()
