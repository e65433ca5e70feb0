"""What outlives a connection: the messages that wait, the requests, and how to talk."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from channels_secure.client.bell import Bell
from channels_secure.client.calls import Calls
from channels_secure.client.credentials import Credentials
from channels_secure.client.errors import MessageDenied, MessageTooBig
from channels_secure.client.queues import Inbox, Outbox

logger = logging.getLogger("channels_secure.client")


class Codec(Protocol):
    """Turns a JSON text into the frame that carries it, and back; what `decode` raises says that it carries none."""

    def encode(self, text: str, /) -> str: ...

    def decode(self, frame: str, /) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a socket allows itself and its server.

    Args:
        open_timeout: seconds that an attempt may take, with the fetching of its credentials.
        close_timeout: seconds that a closing handshake may take.
        heartbeat_interval: seconds between two signs of life that are asked of the server.
        heartbeat_timeout: seconds after which a server that gives none is left.
        heartbeat_frames: whether a `ping` frame goes with each but the first, for the server's `IDLE_TIMEOUT` counts
            nothing less. False for a consumer that would take it for a message of the application.
        queue_size: how many messages may wait to be sent, and how many requests for their answer.
        inbox_size: how many messages may wait to be taken from the iterator.
        pace: seconds between two messages that have waited for a connection: the server limits their rate.
        max_message_size: bytes that a message to the server may have, until its `hello` says otherwise.
        max_size: bytes that a message of the server may have.
    """

    open_timeout: float = 10.0
    close_timeout: float = 5.0
    heartbeat_interval: float = 25.0
    heartbeat_timeout: float = 10.0
    heartbeat_frames: bool = True
    queue_size: int = 100
    inbox_size: int = 1000
    pace: float = 0.06
    max_message_size: int = 65_536
    max_size: int = 2**20


@dataclass(slots=True)
class Desk:
    """Shared by the socket and the connection that it has at the moment."""

    credentials: Credentials
    limits: Limits
    codec: Codec | None
    on_denied: Callable[[MessageDenied], object] | None
    outbox: Outbox = field(init=False)
    inbox: Inbox = field(init=False)
    calls: Calls = field(init=False)
    bell: Bell = field(default_factory=Bell)
    hello: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.limits.queue_size)
        self.inbox = Inbox(self.limits.inbox_size)
        self.calls = Calls(self.limits.queue_size)

    def encode(self, message: Any) -> str:
        """The frame of a message.

        Raises:
            MessageTooBig: the server would not take it.
            TypeError: JSON cannot say it; a msgspec error for what is no text.
        """
        text = msgspec.json.encode(message).decode()
        frame = text if self.codec is None else self.codec.encode(text)
        told = (self.hello or {}).get("max_message_size")
        limit = told if isinstance(told, int) else self.limits.max_message_size
        if len(frame) > limit or len(frame.encode()) > limit:
            raise MessageTooBig(f"a message may have {limit} bytes")
        return frame


def call(listener: Callable[..., object], *arguments: object) -> None:
    """Tell the application's own function; what it raises is logged, and changes nothing here."""
    try:
        listener(*arguments)
    except Exception:
        logger.exception("client.listener_failed")
