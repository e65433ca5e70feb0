"""The application of the tests with real servers: rooms, in a process whose leases are short."""

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from channels_secure.lifespan import lifespan
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.rooms import rolls
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.models import attendance
from channels_secure.supervisor import leases, presence

leases.LEASE, leases.RENEWAL, leases.REAP_INTERVAL = 3.0, 0.5, 0.2
presence.LOOK_INTERVAL, presence.REFRESH_INTERVAL = 0.2, 0.2
rolls.LOOK_INTERVAL, attendance.FRESH = 0.5, 2.0

application = ProtocolTypeRouter(
    {
        "lifespan": lifespan,
        "websocket": SecureMiddlewareStack(URLRouter([path("ws/<str:room>/", RoomConsumer.as_asgi())])),
    }
)
