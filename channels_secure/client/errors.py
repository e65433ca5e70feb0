"""The client's exceptions.

SocketError
├── Refused          the connection was refused, or ended for good; `ending` says how
├── MessageDenied    the server refused one message
├── ConnectionLost   the connection ended before the answer to a request came
├── QueueFull        more messages wait than may
├── MessageTooBig    the server would close the connection for it
├── MessagesLost     more messages came than were taken from the iterator
└── SocketClosed     the socket was closed here
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from channels_secure.client.endings import Again, Ending, Headers, of_response, read_seconds, text_of


class SocketError(Exception):
    """Base of everything the client raises on purpose."""


class Refused(SocketError):
    """The connection was refused, or ended for good.

    A function that fetches a ticket or a token raises it too, see `from_response`.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending

    @property
    def reason(self) -> str | None:
        """The server's slug, for example ``"permission_denied"``; None where it gave none."""
        return self.ending.reason

    @classmethod
    def from_response(cls, status: int, headers: Headers, body: bytes) -> Self:
        """Make one of the ticket endpoint's answer, to be raised by the function that was to fetch the ticket.

        The socket then does as after a refused handshake: it waits as it was told to and asks again, or stops. A 403
        without a word is no riddle here, but a CSRF check or somebody in between, and final.
        """
        ending = of_response(status, headers, body, now=time.time())
        return cls(replace(ending, again=Again.NO) if ending.again is Again.DOUBTFUL else ending)


class MessageDenied(SocketError):
    """The server refused one message; the socket stays open.

    Attributes:
        reason: the slug, for example ``"rate_limited"``.
        message: plain words for people.
        retry_after: seconds after which it may succeed, or None.
        errors: what was wrong with which field, ``[{"path": …, "message": …}]``.
        ref: the `id` of the message, or None.
    """

    def __init__(self, frame: Mapping[str, Any]) -> None:
        self.reason = text_of(frame.get("code"))
        self.message = text_of(frame.get("message"))
        self.retry_after = read_seconds(frame.get("retry_after"))
        self.errors: list[dict[str, str]] = frame.get("errors") or []
        self.ref: str | int | None = frame.get("ref")
        super().__init__(f"{self.reason}: {self.message}")


class ConnectionLost(SocketError):
    """The connection ended while an answer was awaited: whether the message was handled is not known."""


class QueueFull(SocketError):
    """More messages wait for the connection than may; this one was not taken."""


class MessageTooBig(SocketError):
    """A message has more bytes than the server takes: it would close the connection for good."""


class MessagesLost(SocketError):
    """Messages came faster than they were taken from the iterator: the oldest `count` are gone."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} messages came that nobody took in time")
        self.count = count


class SocketClosed(SocketError):
    """The socket was closed here, or has not been entered yet."""
