"""One connection to what is attacked, and what the guards around it know of it."""

from dataclasses import dataclass
from typing import Any

from channels_secure.codecs import Codec
from channels_secure.connections import registry
from channels_secure.connections.connection import Connection
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.consumers.handlers import Plan, plan_of
from channels_secure.testing.communicator import SecureCommunicator
from channels_secure.testing.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A handshake that has ended, and perhaps an open socket.

    Args:
        connection: of the guards; None where there are none around the application.
        plan: what the consumer declares, where it is one of the package's.
        codec: how its frames stand on the wire, where they are not plain JSON.
    """

    socket: SecureCommunicator
    outcome: Outcome
    connection: Connection | None
    plan: Plan | None
    codec: Codec | None

    async def send(self, frame: str | bytes) -> None:
        """Send a frame as an honest client would, encrypted where that is spoken here; bytes as they are."""
        if isinstance(frame, bytes):
            await self.socket.send_bytes(frame)
        else:
            await self.socket.send_text(frame if self.codec is None else self.codec.encode(frame))

    def read(self, frame: str) -> str:
        """The JSON in a frame that came, or the frame itself where it carries none."""
        try:
            return frame if self.codec is None else self.codec.decode(frame)
        except ValueError:
            return frame


async def enter(socket: SecureCommunicator, outcome: Outcome) -> Visit:
    """Look at what stands behind a socket; in this process, so that the attacked need not tell."""
    connection = next((each for each in registry() if each.task is socket.future), None)
    if connection is None or connection.consumer is None:
        return Visit(socket=socket, outcome=outcome, connection=connection, plan=None, codec=None)
    kind: Any = type(connection.consumer)
    plan = plan_of(kind, SecureJsonConsumer, connection.settings)
    codec: Any = plan.codec
    if outcome.accepted and hasattr(codec, "open"):
        codec = await codec.open(connection.consumer)
    return Visit(socket=socket, outcome=outcome, connection=connection, plan=plan, codec=codec)


def has_closed(socket: SecureCommunicator) -> bool:
    """Whether the application has closed what it accepted, without a pause: consumers that refuse after accepting."""
    events = socket.take_events()
    socket.put_back(events)
    return any(event["type"] == "websocket.close" for event in events)
