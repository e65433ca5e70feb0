"""The rows of who is where; blocking, for the package's threads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import router, transaction

from channels_secure.rooms.models import Attendance

CHUNK = 100


@dataclass(slots=True)
class Present:
    """Who is in a room: users by primary key, each once, and how many sockets of nobody in particular."""

    users: dict[Any, str] = field(default_factory=dict)
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
    live = Attendance.objects.live().filter(room_id__in=list(found)).order_by("entered_at", "connection_id")
    rows: Iterable[tuple[int, Any, str]] = live.values_list("room_id", "user_id", "username")
    for room_id, user_id, username in rows:
        if user_id is None:
            found[room_id].anonymous += 1
        else:
            found[room_id].users.setdefault(user_id, username)
    return found


def forget_stale() -> None:
    """Delete what killed processes have left behind."""
    Attendance.objects.using(router.db_for_write(Attendance)).stale().delete()
