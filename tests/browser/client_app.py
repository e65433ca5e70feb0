"""What the browser's client is shown: a room, tickets over HTTP, and the package's own static files."""

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # before everything that imports models

from typing import Annotated  # noqa: E402

import msgspec  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.urls import path  # noqa: E402

from channels_secure.consumers import SecureJsonConsumer, handles  # noqa: E402
from channels_secure.lifespan import lifespan  # noqa: E402
from channels_secure.middleware import SecureMiddlewareStack  # noqa: E402


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class Room(SecureJsonConsumer):
    """Everybody who is logged in may enter, but for the room that nobody may."""

    async def authorize(self) -> bool:
        return bool(self.kwargs["room"] != "closed")

    async def connect(self) -> None:
        await self.join(self.kwargs["room"])
        await self.accept()

    @handles("say")
    async def say(self, message: Say) -> None:
        await self.broadcast(self.kwargs["room"], {"type": "said", "text": message.text})

    @handles("ask")
    async def ask(self, message: Ask) -> None:
        await self.send_json({"type": "answer", "ref": message.id, "user": self.scope["user"].get_username()})


class Greeting(Room):
    """The same, where the first frame says that one was let in."""

    send_hello = True
    heartbeat_interval = 1


application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(django_application),
        "lifespan": lifespan,
        "websocket": SecureMiddlewareStack(
            URLRouter(
                [path("ws/<slug:room>/", Room.as_asgi()), path("ws/greeting/<slug:room>/", Greeting.as_asgi())],
            )
        ),
    }
)
