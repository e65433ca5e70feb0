"""An ASGI application with a consumer behind the stack and two outside of it."""

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from channels_secure.middleware import SecureMiddlewareStack
from tests.asyncapi.wire import DropIn, EverythingConsumer, Plain

guarded = SecureMiddlewareStack(URLRouter([path("ws/<slug:room>/", EverythingConsumer.as_asgi())]))
application = ProtocolTypeRouter({"websocket": guarded})
outside = URLRouter([
    path("in/", SecureMiddlewareStack(DropIn.as_asgi())),
    path("out/", EverythingConsumer.as_asgi()),
    path("plain/", Plain.as_asgi()),
])  # fmt: skip
nothing = ProtocolTypeRouter({})
