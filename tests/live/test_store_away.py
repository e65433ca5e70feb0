"""A real store of limits that is stopped, paused, flushed and started again under two servers: failure-modes.md."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User
from redis import Redis

from channels_secure.auth.tickets import issue_ticket
from channels_secure.exceptions import Unavailable
from channels_secure.models import AuditEvent
from tests.live.servers import LiveServer, RawSocket, Response
from tests.live.test_presence import until
from tests.services import OwnRedis, own_redis

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "https://chat.example.com"
LIMIT = 4


@pytest.fixture
def store(settings: Any) -> Iterator[OwnRedis]:
    """A server for the limits of two processes and of this one, which gives out tickets."""
    with own_redis() as valkey:
        backend = "channels_secure.stores.redis.RedisStore"
        settings.CHANNELS_SECURE = {
            # A machine that runs servers and their clients is slow at times; a late answer is counted alone.
            "STORE": {"BACKEND": backend, "LOCATION": valkey.url, "SOCKET_TIMEOUT": 1.0},
            "HANDSHAKE_RATES": {"ip": f"{LIMIT}/h", "user": None},
            "ALLOWED_ORIGINS": [ORIGIN],
            "TRUSTED_PROXIES": [],
            "REJECTION": "http",
            "AUDIT_FLUSH_INTERVAL": 0.1,
        }
        yield valkey


@pytest.fixture
def servers(server: Callable[..., LiveServer], store: OwnRedis, settings: Any) -> list[LiveServer]:
    return [server("uvicorn", settings=settings.CHANNELS_SECURE), server("daphne", settings=settings.CHANNELS_SECURE)]


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Sockets that are open until the test ends."""
    with ExitStack() as stack:
        yield stack


def attempt(server: LiveServer, source: str, query: str = "") -> Response:
    with server.connect(source=source) as raw:
        return raw.handshake(f"/echo/{query}", origin=ORIGIN)


def admitted(servers: list[LiveServer], source: str) -> int:
    """How many of twice as many handshakes as are allowed get in, at these processes in turn."""
    asked = servers * (2 * LIMIT // len(servers))
    return sum(attempt(server, source).status == 101 for server in asked)


def refused(server: LiveServer, source: str, ticket: str, status: int) -> None:
    assert attempt(server, source, f"?ticket={ticket}").status == (403 if server.kind == "daphne" else status)


def answer(sockets: list[RawSocket]) -> None:
    for raw in sockets:
        raw.send_json([1])
        assert raw.read_json(timeout=5) == [1]


def ticket_of(user: User) -> str | None:
    try:
        return issue_ticket(user)
    except Unavailable:
        return None


@pytest.mark.parametrize(("misfortune", "remedy"), [("stop", "start"), ("pause", "resume")])
def test_while_it_is_away_each_process_counts_alone_and_no_ticket_is_taken(
    servers: list[LiveServer], store: OwnRedis, crowd: ExitStack, user: User, misfortune: str, remedy: str
) -> None:
    sockets = [crowd.enter_context(server.websocket("/echo/", origin=ORIGIN)) for server in servers]
    assert admitted(servers, "127.0.0.31") == LIMIT
    ticket = issue_ticket(user)
    getattr(store, misfortune)()
    for server in servers:
        assert admitted([server], "127.0.0.32") == LIMIT
        refused(server, "127.0.0.33", ticket, 503)
    assert ticket_of(user) is None
    answer(sockets)
    away = AuditEvent.objects.filter(kind="store.degraded", count=1)
    until(lambda: away.count() == len(servers), "its absence in the trail, once for each process")
    getattr(store, remedy)()
    back = AuditEvent.objects.filter(kind="store.recovered", count=1)
    until(lambda: back.count() == len(servers), "its return")
    assert admitted(servers, "127.0.0.34") == LIMIT
    until(lambda: ticket_of(user) is not None, "a ticket")
    for server in servers:
        assert attempt(server, "127.0.0.35", f"?ticket={ticket_of(user)}").status == 101
    answer(sockets)
    assert (away.count(), back.count()) == (len(servers), len(servers))


def test_flushed_it_counts_anew_and_its_tickets_are_gone(
    servers: list[LiveServer], store: OwnRedis, crowd: ExitStack, user: User
) -> None:
    sockets = [crowd.enter_context(server.websocket("/echo/", origin=ORIGIN)) for server in servers]
    assert [attempt(server, "127.0.0.31").status for server in servers * (LIMIT // 2)] == [101] * LIMIT
    assert admitted(servers, "127.0.0.32") == LIMIT
    ticket = issue_ticket(user)
    with Redis.from_url(store.url) as client:
        client.flushall()
    assert admitted(servers, "127.0.0.31") == LIMIT
    # Whom a process has refused it refuses again without asking.
    assert admitted(servers, "127.0.0.32") == 0
    for server in servers:
        refused(server, "127.0.0.33", ticket, 401)
        assert attempt(server, "127.0.0.33", f"?ticket={issue_ticket(user)}").status == 101
    answer(sockets)
    assert not AuditEvent.objects.filter(kind__startswith="store.").exists()
