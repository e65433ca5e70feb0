"""An application that says who it thinks is connecting, to be deployed behind a proxy."""

import os
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.apps import apps
from django.urls import path

if not apps.ready:
    django.setup()

from channels_secure.consumers import SecureJsonConsumer
from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack


class Who(SecureJsonConsumer):
    """Says at once whom it sees, and each value back."""

    allow_anonymous = True

    async def connect(self) -> None:
        handshake = self.connection.handshake
        await self.accept()
        await self.send_json({"address": str(handshake.address), "secure": handshake.secure, "process": os.getpid()})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class Beating(Who):
    heartbeat_interval = 1


routes = URLRouter([path("who/", Who.as_asgi()), path("beating/", Beating.as_asgi())])
application = ProtocolTypeRouter({"lifespan": lifespan, "websocket": SecureMiddlewareStack(routes)})
