"""The tables of the rooms."""

from channels_secure.rooms.models.attendance import Attendance, AttendanceQuerySet
from channels_secure.rooms.models.keys import Epoch, PublicKey, WrappedKey
from channels_secure.rooms.models.membership import Membership
from channels_secure.rooms.models.room import Room, RoomQuerySet

__all__ = ["Attendance", "AttendanceQuerySet", "Epoch", "Membership", "PublicKey", "Room", "RoomQuerySet", "WrappedKey"]
