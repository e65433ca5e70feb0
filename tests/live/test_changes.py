"""A change made in one process ends the sockets in all others: two uvicorns and a Daphne, on one database."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.test import RequestFactory

from channels_secure import blocklist, revocation
from channels_secure.connections import disconnect
from channels_secure.models import Revocation
from channels_secure.supervisor import push
from channels_secure.testing import log_in
from tests.auth.tokens import token_for
from tests.conftest import MakeUser
from tests.live.servers import Closing, LiveServer, RawSocket
from tests.test_push import Valkey, layers

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "https://chat.example.com"
SETTINGS: dict[str, Any] = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": None, "user": None},
}
POLL = 0.5
# What a busy machine may add; that it is no poll of ten minutes shows that it was told.
SLACK = 5.0


@pytest.fixture(scope="session")
def channel(redis_url: str) -> Iterator[Valkey]:
    server = Valkey(redis_url)
    yield server
    server.forget()
    server.client.close()


@pytest.fixture(params=["polling", "pushed"])
def servers(
    request: pytest.FixtureRequest, shared_server: Callable[..., LiveServer], settings: Any, channel: Valkey
) -> Iterator[list[LiveServer]]:
    """Processes that are told over Valkey and would not look for ten minutes, or that have only the database."""
    is_pushed = request.param == "pushed"
    layer: dict[str, str] = {}
    if is_pushed:
        settings.CHANNEL_LAYERS = layers(channel.url, channel.prefix)
        layer = {"CHANNELS_SECURE_TEST_CHANNEL_LAYERS": json.dumps(settings.CHANNEL_LAYERS)}
    own = {**SETTINGS, "POLICY_REFRESH_INTERVAL": 600.0 if is_pushed else POLL}
    yield [
        shared_server(kind, settings=own, environ={**layer, "CHANNELS_SECURE_TEST_NUMBER": str(number)})
        for number, kind in enumerate(("uvicorn", "uvicorn", "daphne"))
    ]
    push.finish()


def credentials(kind: str, user: User, secret: str) -> list[tuple[bytes, bytes]]:
    if kind == "session":
        return [(b"cookie", f"sessionid={secret}".encode())]
    return [(b"authorization", f"Bearer {secret}".encode())]


@contextlib.contextmanager
def sockets(servers: list[LiveServer], headers: Any) -> Iterator[list[RawSocket]]:
    """On each server one that rests, one whose handler hangs, and one that is flooded and reads nothing."""
    with contextlib.ExitStack() as stack:
        opened = []
        for server in servers:
            for demand in (None, "hang", "flood"):
                socket = stack.enter_context(server.websocket("/odd/", origin=ORIGIN, headers=headers))
                if demand is not None:
                    socket.send_json({"type": demand})
                opened.append(socket)
        for server in servers:
            wait_until_attended(server)
        yield opened


def wait_until_attended(server: LiveServer) -> None:
    """A round trip, so that the supervisor of the process has begun its work."""
    with server.websocket("/odd/", origin=ORIGIN) as probe:
        assert answers(probe)


def answers(socket: RawSocket) -> bool:
    socket.send_json({"type": "say", "text": "here"})
    return bool(socket.read_json() == {"type": "said"})


def log_out(key: str, user: User) -> None:
    request: Any = RequestFactory().post("/")
    request.session = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    request.user = user
    logout(request)


def deactivate(secret: str, user: User) -> None:
    user.is_active = False
    user.save()


CHANGES: dict[str, tuple[str, Callable[[str, User], Any], int]] = {
    "block": ("session", lambda secret, user: blocklist.block(user=user), 4423),
    "logout": ("session", log_out, 4401),
    "deactivated": ("session", deactivate, 4401),
    "disconnect": ("session", lambda secret, user: disconnect(user=user), 4440),
    "token": ("token", lambda secret, user: revocation.revoke_token(secret), 4401),
    "all tokens": ("token", lambda secret, user: revocation.revoke_user_tokens(user), 4401),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_ends_every_socket_it_concerns_in_every_process(
    servers: list[LiveServer], change: str, user: User, make_user: MakeUser, channel: Valkey
) -> None:
    kind, act, code = CHANGES[change]
    secret = log_in(user) if kind == "session" else token_for(user, jti=uuid4().hex)
    bob = credentials("session", user, log_in(make_user("bob")))
    wait_for_members(channel, 0)
    with sockets(servers, credentials(kind, user, secret)) as doomed, contextlib.ExitStack() as stack:
        others = [stack.enter_context(server.websocket("/odd/", origin=ORIGIN, headers=bob)) for server in servers]
        if "redis" in django_settings.CHANNEL_LAYERS["default"]["BACKEND"]:
            wait_for_members(channel, len(servers))
        began = time.monotonic()
        act(secret, user)
        closings = [socket.read_until_closed() for socket in doomed]
        took = time.monotonic() - began
        print(f"\n{change}: {len(doomed)} sockets of three processes ended within {took:.3f} s")
        assert took < POLL + SLACK
        for number, closing in enumerate(closings):
            assert is_told(closing, code, reads=number % 3 != 2), (number, closing)
        assert all(answers(other) for other in others)
    for server in servers:
        with server.connect() as raw:
            again = raw.handshake("/odd/", origin=ORIGIN, headers=credentials(kind, user, secret))
            assert change == "disconnect" or again.status != 101 or raw.read_json()["fatal"]
    assert Revocation.objects.exists() or change == "block"


def is_told(closing: Closing, code: int, *, reads: bool) -> bool:
    """The close code where the peer reads; no frame can reach one that does not, and it is enough that it ends."""
    return (closing.how, closing.code) == ("close", code) if reads else closing.how in {"close", "eof", "reset"}


def wait_for_members(channel: Valkey, count: int) -> None:
    """The layer announces neither joining nor leaving."""
    deadline, pause = time.monotonic() + 2 * push.RENEW_INTERVAL, threading.Event()
    while channel.members() != count:
        assert time.monotonic() < deadline, f"{channel.members()} listen instead of {count}"
        pause.wait(0.05)
