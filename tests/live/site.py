"""The application of `tests.live.app` with Django's side of the project, as one server serves both."""

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

# As in every project's asgi.py: models can be imported only afterwards.
django_application = get_asgi_application()

from channels_secure.lifespan import lifespan  # noqa: E402
from channels_secure.middleware import SecureMiddlewareStack  # noqa: E402
from tests.live.app import routes  # noqa: E402

application = ProtocolTypeRouter({
    "lifespan": lifespan,
    "http": django_application,
    "websocket": SecureMiddlewareStack(routes),
})  # fmt: skip
