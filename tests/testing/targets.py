"""Consumers to attack: one that keeps to the rules, and others that do not."""

from typing import Any

import msgspec
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from channels_secure.codecs import FernetCodec, Unreadable
from channels_secure.consumers import SecureJsonConsumer, handles

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SECRETS = FernetCodec(KEY)
EXAMPLE = {"type": "chat.say", "text": "hello", "n": 1}


class Say(msgspec.Struct):
    text: Any
    n: Any = None


class Chat(SecureJsonConsumer):
    """Declares its messages, and has no schema worth the name: what is refused is refused by the package."""

    @handles("chat.say")
    async def say(self, message: Say) -> None:
        await self.send_json({"type": "chat.said"})


class OpenChat(Chat):
    allow_anonymous = True


class Echo(SecureJsonConsumer):
    """A drop-in consumer."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"got": content})


class Secret(Chat):
    """Speaks in Fernet tokens, with a key for each connection."""

    codec = FernetCodec(lambda consumer: KEY)


class Credulous:
    """A codec that takes what it cannot decrypt for plain text."""

    def encode(self, text: str) -> str:
        return SECRETS.encode(text)

    def decode(self, frame: str) -> str:
        try:
            return SECRETS.decode(frame)
        except Unreadable:
            return frame


class HalfSecret(Chat):
    codec = Credulous()


class Naked(AsyncJsonWebsocketConsumer):
    """Channels' own, with nothing around it."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"got": 1})
