"""The names of messages: random, with their room and author, so that nobody has to keep what was said to know whose.

A moderator who writes another author into a name gains nothing: no client has a message of that name.
"""

import re
from secrets import token_hex

_NAME = re.compile(r"[0-9a-f]{16}\.([0-9]+)\.(.+)", re.ASCII)


def new_message_id(room_pk: int, user_pk: object) -> str:
    """A name for what a user says now in a room; nobody else can be made its author."""
    return f"{token_hex(8)}.{room_pk}.{user_pk}"


def author_of(message_id: str, room_pk: int) -> str:
    """The primary key, as text, of who said it in this room.

    Raises:
        ValueError: the name is none of this room's. What else would be passed on to everybody could be a message from
            somebody who is muted, and a name of another room's would delete what a project has stored there.
    """
    parts = _NAME.fullmatch(message_id)
    if parts is None or parts[1] != str(room_pk):
        raise ValueError("no message of this room has this name")
    return parts[2]
