"""What is said about keys in an encrypted room, both ways."""

from typing import Annotated

import msgspec
from msgspec import Meta

from channels_secure.rooms.answers import Frame, Person
from channels_secure.rooms.messages import Request
from channels_secure.rooms.sealing import Box, EpochNumber, Fingerprint, Key

# As many fit into one frame of the default MAX_MESSAGE_SIZE.
MAX_HOLDERS = 200


class Publish(Request):
    """This is my public key; `replace` says that it is to take the place of another one."""

    key: Key
    replace: bool = False


class Fetch(Request):
    """Whose keys are there, and which room key may I open? `epoch` asks for an older one."""

    epoch: EpochNumber | None = None


class Wrapped(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A room key for whoever has the private half of the key with this fingerprint."""

    to: Fingerprint
    box: Box


class Rotate(Request):
    """Here is a new room key, for every member."""

    epoch: EpochNumber
    boxes: Annotated[list[Wrapped], Meta(min_length=1, max_length=MAX_HOLDERS)]


class Holder(msgspec.Struct, frozen=True):
    """A member with a public key."""

    user: Person
    key: str


class Published(Frame, tag="keys.published"):
    """The public key that is in force for oneself: the one sent, or the one that was there before."""

    key: str
    ref: str | int | None = None


class State(Frame, tag="keys.state"):
    """Who has which key, and the room key of one epoch: by whom it was made, and wrapped for oneself, if it was."""

    epoch: int
    members: list[Holder]
    in_line: bool
    maker: Holder | None = None
    box: str | None = None
    ref: str | int | None = None


class KeyChanged(Frame, tag="keys.changed"):
    """A member has another public key now: compare fingerprints again."""

    user: Person
    key: str


class EpochBegun(Frame, tag="keys.epoch"):
    """There is a new room key."""

    epoch: int
    maker: Holder
    boxes: list[Wrapped]


class Rotated(Frame, tag="keys.rotated"):
    """One's own new room key is in force."""

    epoch: int
    ref: str | int | None = None


class Stale(Frame, tag="keys.stale"):
    """Not passed on: members or their keys have changed, or another room key is in force. Fetch, and make a new one."""

    epoch: int
    ref: str | int | None = None


KEY_FRAMES = (Published, State, KeyChanged, EpochBegun, Rotated, Stale)
