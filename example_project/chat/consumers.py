"""A room's WebSocket: who may enter, and what may be said how often."""

from typing import Annotated

import msgspec

from channels_secure.consumers import SecureJsonConsumer, handles
from chat.models import Room


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class ChatConsumer(SecureJsonConsumer):
    """Passes what one user says on to everybody in the room."""

    async def authorize(self) -> bool:
        room = await Room.objects.filter(slug=self.kwargs["room"]).afirst()
        return room is not None and room.admits(self.scope["user"])

    async def connect(self) -> None:
        await self.join(self.kwargs["room"])
        await self.accept()

    @handles("chat.say", rate="5/10s")
    async def say(self, message: Say) -> None:
        username = self.scope["user"].get_username()
        await self.broadcast(self.kwargs["room"], {"type": "chat.said", "user": username, "text": message.text})
