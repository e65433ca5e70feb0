"""The ASGI application, walked to its consumers."""

from functools import partial, wraps
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from channels_secure.asyncapi import Route, routes_of
from channels_secure.middleware import SecureMiddlewareStack
from tests.asyncapi.wire import DropIn, EverythingConsumer, Plain


def application(*routes: Any) -> ProtocolTypeRouter:
    return ProtocolTypeRouter({"websocket": SecureMiddlewareStack(URLRouter(list(routes)))})


def addresses(app: Any) -> list[str | None]:
    return [route.address for route in routes_of(app)]


def test_a_route_is_found_with_its_address_and_parameters() -> None:
    (route,) = routes_of(application(path("ws/chat/<slug:room>/<int:page>", DropIn.as_asgi())))
    assert route.consumer is DropIn
    assert route.address == "/ws/chat/{room}/{page}"
    assert route.parameters == {"room": "[-a-zA-Z0-9_]+", "page": "[0-9]+"}
    assert route.guarded


def test_a_regular_expression_becomes_an_address_too() -> None:
    routes = routes_of(application(re_path(r"^ws/v1\.0/(?P<room>(a|b)\w+)/(?:x)?$", DropIn.as_asgi())))
    assert [(route.address, route.parameters) for route in routes] == [("/ws/v1.0/{room}/", {"room": ""})]


def test_routers_in_routers_add_up() -> None:
    inner = URLRouter([path("<slug:room>/", DropIn.as_asgi()), re_path(r"^(?P<n>\d+)$", Plain.as_asgi())])
    app = application(path("ws/<str:team>/", inner))
    assert addresses(app) == ["/ws/{team}/{n}", "/ws/{team}/{room}/"]
    assert routes_of(app)[1].parameters == {"team": "[^/]+", "room": "[-a-zA-Z0-9_]+"}


def test_one_consumer_at_two_addresses_is_two_routes() -> None:
    app = application(path("b/", DropIn.as_asgi()), path("a/", DropIn.as_asgi()))
    assert addresses(app) == ["/a/", "/b/"]


def test_what_stands_outside_the_stack_is_told_apart() -> None:
    app = URLRouter([
        path("in/", SecureMiddlewareStack(DropIn.as_asgi())),
        path("out/", EverythingConsumer.as_asgi()),
        path("auth/", AuthMiddlewareStack(Plain.as_asgi())),
    ])  # fmt: skip
    found = {route.address: route.guarded for route in routes_of(app)}
    assert found == {"/in/": True, "/out/": False, "/auth/": False}


def test_the_stack_is_seen_through_middleware_of_any_make() -> None:
    def closing(app: Any) -> Any:
        @wraps(app)
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        return middleware

    class Keeping:
        def __init__(self, application: Any) -> None:
            self.kept = application

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    routes = [path("x/", Keeping(closing(DropIn.as_asgi())))]
    app = closing(ProtocolTypeRouter({"websocket": closing(SecureMiddlewareStack(Keeping(URLRouter(routes))))}))
    assert routes_of(app) == [Route(consumer=DropIn, address="/x/", guarded=True)]


def test_what_a_middleware_keeps_twice_is_one_route() -> None:
    class Keeping:
        def __init__(self, app: Any) -> None:
            async def guarded(scope: Any, receive: Any, send: Any) -> None:
                await app(scope, receive, send)

            self.app, self.guarded = app, guarded

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    app = application(path("<slug:room>/", Keeping(DropIn.as_asgi())), path("b/", Keeping(DropIn.as_asgi())))
    assert addresses(app) == ["/b/", "/{room}/"]


def test_an_application_that_leads_back_to_itself_ends() -> None:
    class Loop:
        def __init__(self) -> None:
            self.app = partial(self)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    loop = Loop()
    loop.app = loop  # type: ignore[assignment]
    assert routes_of(loop) == []


def test_an_application_without_websockets_has_no_routes() -> None:
    async def http(scope: Any, receive: Any, send: Any) -> None: ...

    assert routes_of(ProtocolTypeRouter({"http": http})) == []
    assert routes_of(None) == []
