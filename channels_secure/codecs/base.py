"""What a codec is, and the one that does nothing."""

from typing import Protocol


class Unreadable(ValueError):
    """A frame is not what the codec makes. It says nothing about why, and never repeats the frame."""


class Codec(Protocol):
    """Turns a JSON text into the frame that carries it, and back.

    One instance serves all connections of a consumer class, unless it has ``async open(consumer) -> Codec``: that is
    called for every connection, after `authorize()`. A `problem() -> str` says what is wrong with its declaration.
    """

    def encode(self, text: str, /) -> str:
        """The frame that carries a JSON text."""
        ...

    def decode(self, frame: str, /) -> str:
        """The JSON text that a frame carries.

        Raises:
            Unreadable: it carries none.
        """
        ...


class JsonCodec:
    """The default: a frame is the JSON text itself, and no message costs a call for it."""

    def encode(self, text: str, /) -> str:
        return text

    def decode(self, frame: str, /) -> str:
        return frame
