"""The chat's WebSocket: a room of the package's, with a rule of our own."""

from channels_secure.consumers import handles
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.messages import Say


class ChatConsumer(RoomConsumer):
    """One user in one room, who says five things in ten seconds at most, in all rooms together."""

    @handles("room.say", rate="5/10s")
    async def say(self, message: Say) -> None:
        """Something said, for everybody in the room."""
        await super().say(message)
