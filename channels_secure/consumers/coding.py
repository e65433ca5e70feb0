"""The codec of one connection: what it reads and sends passes it, from the moment it is let in.

Nothing stands in the way of frames that are JSON: a connection with a codec gets a plan and a `server_send` of its own.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from channels_secure.codecs import Codec, Unreadable
from channels_secure.connections.connection import Connection, Event
from channels_secure.consumers.handlers import Plan
from channels_secure.policy.decisions import Denial, FieldError, Reason
from channels_secure.policy.messages import Parsed, Refused

if TYPE_CHECKING:
    from channels_secure.consumers.consumer import SecureJsonConsumer

# One answer for a wrong key, an old token and noise.
UNREADABLE = Refused(
    Denial(reason=Reason.INVALID_MESSAGE, errors=(FieldError("", "Cannot be decrypted"),), detail="unreadable frame")
)


class Decoder:
    """Reads the frames of one connection; `text` is the JSON in the last that could be read."""

    __slots__ = ("_codec", "_parse", "text")

    def __init__(self, codec: Codec, parse: Callable[[str], Parsed | Refused]) -> None:
        self._codec, self._parse = codec, parse
        self.text = ""

    def __call__(self, frame: str) -> Parsed | Refused:
        try:
            self.text = self._codec.decode(frame)
        except Unreadable:
            return UNREADABLE
        return self._parse(self.text)


async def begin(consumer: "SecureJsonConsumer", plan: Plan) -> Plan:
    """The plan of a connection whose frames pass its codec from now on; the class's own where they are JSON."""
    if plan.codec is None:
        return plan
    declared: Any = plan.codec
    codec: Codec = await declared.open(consumer) if hasattr(declared, "open") else declared
    _encode_what_is_sent(consumer.connection, codec)
    return replace(plan, decode=Decoder(codec, plan.parse))


def text_of(plan: Plan, frame: str) -> str:
    """The JSON in the frame that has just been decoded, which its codec might not take a second time."""
    decoder = plan.decode
    return decoder.text if isinstance(decoder, Decoder) else frame


def _encode_what_is_sent(connection: Connection, codec: Codec) -> None:
    send = connection.server_send

    async def encoded(event: Event) -> None:
        # Before the accept there are only refusals, which are for people without keys too.
        if connection.accepted and event["type"] == "websocket.send":
            text = event.get("text")
            if not isinstance(text, str):
                raise TypeError("the codec carries text: a binary frame would be sent as it is")
            event = {"type": "websocket.send", "text": codec.encode(text)}
        await send(event)

    connection.server_send = encoded
