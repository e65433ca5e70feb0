"""The names of messages: random, with their author, so that nobody has to keep what was said to know whose it is.

A moderator who writes another author into a name gains nothing: no client has a message of that name.
"""

from secrets import token_hex


def new_message_id(user_pk: object) -> str:
    """A name for what a user says now; nobody else can be made its author."""
    return f"{token_hex(8)}.{user_pk}"


def author_of(message_id: str) -> str:
    """The primary key, as text, of who said it; empty if the name is not one of ours."""
    return message_id.partition(".")[2]
