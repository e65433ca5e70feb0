"""What clients may say in a room."""

from typing import Annotated

import msgspec
from msgspec import Meta

from channels_secure.rooms.models.room import LONGEST_SLOW_MODE
from channels_secure.rooms.roles import Role
from channels_secure.rooms.sealing import Sealed

# A user's primary key, as the server shows it in `{"id": …, "name": …}`.
UserKey = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(min_length=1, max_length=255)]
LONGEST_MUTE = 365 * 86400


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A message whose envelope's `id` comes back as `ref` when it has been done."""

    id: str | int | None = None


class Say(Request):
    """Something said: a text, or what only the members' browsers can open."""

    text: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    sealed: Sealed | None = None


class Who(Request):
    """Who is here?"""


class Aimed(Request):
    """An act that is done to somebody."""

    user: UserKey


class Mute(Aimed):
    """Take the word from somebody for so many seconds."""

    seconds: Annotated[int, Meta(ge=1, le=LONGEST_MUTE)]


class Unmute(Aimed):
    """Give it back."""


class Kick(Aimed):
    """End somebody's sockets in the room; whoever may enter may come back."""


class Ban(Aimed):
    """Keep somebody out."""


class Unban(Aimed):
    """Let somebody in again."""


class Promote(Aimed):
    """Give somebody a role, higher or lower; `owner` hands the room over."""

    role: Role


class Delete(Request):
    """Take a message back."""

    message: Annotated[str, Meta(min_length=1, max_length=300)]


class Slow(Request):
    """Set how many seconds members and guests wait between two messages; 0 is off."""

    seconds: Annotated[int, Meta(ge=0, le=LONGEST_SLOW_MODE)]
