"""The application of the live tests with a room of each name: one joins it in the handshake, as chats do."""

from tests.live.app import Say, routes

from channels.routing import ProtocolTypeRouter, URLRouter  # isort: skip - Django has been set up by the line above
from django.urls import path

from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack

__all__ = ["application"]


class Room(SecureJsonConsumer):
    """A member of the group that its path names, from before the accept."""

    allow_anonymous = True
    handler_timeout = 3

    async def connect(self) -> None:
        await self.join(self.kwargs["name"])
        await self.accept()

    @handles("tell")
    async def tell(self, message: Say) -> None:
        await self.broadcast(self.kwargs["name"], {"type": "told", "text": message.text})
        await self.send_json({"type": "done"})

    @handles("say")
    async def say(self, message: Say) -> None:
        await self.send_json({"type": "said"})


application = ProtocolTypeRouter(
    {
        "lifespan": lifespan,
        "websocket": SecureMiddlewareStack(URLRouter([path("room/<slug:name>/", Room.as_asgi()), *routes.routes])),
    }
)
