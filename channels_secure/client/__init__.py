"""A client for services and tests: what the browser's does, in Python. It needs the extra `client`, and no Django.

async with SecureSocket("wss://chat.example.com/ws/chat/lobby/", token=fetch_token) as socket:
    await socket.send({"type": "chat.say", "text": "Hello"})
    async for message in socket:
        ...
"""

try:
    # Everything below needs the library, and what came before its version 15 does not have this.
    from websockets.exceptions import InvalidProxy as _InvalidProxy  # noqa: F401
except ImportError as error:
    raise ImportError('the client needs an extra: pip install "channels-secure[client]"') from error

from channels_secure.client.backoff import Backoff
from channels_secure.client.desk import Limits
from channels_secure.client.endings import Again, Ending
from channels_secure.client.errors import (
    ConnectionLost,
    MessageDenied,
    MessagesLost,
    MessageTooBig,
    QueueFull,
    Refused,
    SocketClosed,
    SocketError,
)
from channels_secure.client.keeper import SocketState
from channels_secure.client.socket import SecureSocket

__all__ = [
    "Again",
    "Backoff",
    "ConnectionLost",
    "Ending",
    "Limits",
    "MessageDenied",
    "MessageTooBig",
    "MessagesLost",
    "QueueFull",
    "Refused",
    "SecureSocket",
    "SocketClosed",
    "SocketError",
    "SocketState",
]
