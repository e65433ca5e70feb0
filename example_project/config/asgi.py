"""HTTP, WebSocket and lifespan under one application."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
http = get_asgi_application()  # before everything that imports models

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.urls import path  # noqa: E402

from channels_secure.lifespan import lifespan  # noqa: E402
from channels_secure.middleware import SecureMiddlewareStack  # noqa: E402
from chat.consumers import ChatConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(http) if settings.DEBUG else http,
        "lifespan": lifespan,
        "websocket": SecureMiddlewareStack(URLRouter([path("ws/chat/<slug:room>/", ChatConsumer.as_asgi())])),
    }
)
