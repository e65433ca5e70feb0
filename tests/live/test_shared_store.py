"""Four real server processes that count in one store: racing handshakes, a killed process, a store that goes away."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from redis import Redis

from channels_secure.models import AuditEvent
from tests.live.servers import LiveServer, RawSocket
from tests.services import OwnRedis
from tests.stores.conftest import own_redis, prefix  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "https://chat.example.com"
APP = "tests.live.brief_slots:application"
KINDS = ("uvicorn", "uvicorn", "uvicorn", "daphne")
# As in `brief_slots`, which is for server processes only.
LEASE = 3.0
PATIENCE = 20.0
LIMIT, RIVALS = 8, 32
Server = Callable[..., LiveServer]


def settings(url: str, prefix: str, **others: Any) -> dict[str, Any]:  # noqa: F811
    store = {
        "BACKEND": "channels_secure.stores.redis.RedisStore",
        "LOCATION": url,
        "PREFIX": prefix,
        # A machine that runs four servers and their clients is slow at times; a late answer is counted alone.
        "SOCKET_TIMEOUT": 5.0,
    }
    return {
        "STORE": store,
        "ALLOWED_ORIGINS": [ORIGIN],
        "TRUSTED_PROXIES": [],
        # So that a refusal is a status, also for a browser.
        "REJECTION": "http",
        "HANDSHAKE_RATES": {"ip": None},
        "MAX_CONNECTIONS": {"ip": LIMIT},
        **others,
    }


@pytest.fixture
def servers(shared_server: Server, redis_url: str) -> list[LiveServer]:
    """Four that several tests share, each test with an address of its own."""
    # Something differs, or the two uvicorns would be one.
    return [
        shared_server(kind, APP, settings=settings(redis_url, "live:", MAX_MESSAGE_SIZE=1_000 + number))
        for number, kind in enumerate(KINDS)
    ]


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Sockets that are open until the test ends."""
    with ExitStack() as stack:
        yield stack


def shake(
    server: LiveServer, crowd: ExitStack, source: str = "127.0.0.1", barrier: threading.Barrier | None = None
) -> int:
    """Open a socket that stays; returns the status of the answer."""
    raw: RawSocket = crowd.enter_context(server.connect(source=source))
    if barrier is not None:
        barrier.wait(timeout=PATIENCE)
    return raw.handshake("/echo/", origin=ORIGIN).status


def until(condition: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - began < PATIENCE, f"{what} did not come true"
        pause.wait(0.05)
    return time.monotonic() - began


def test_of_racing_handshakes_at_four_processes_exactly_the_limit_is_let_in(
    servers: list[LiveServer], crowd: ExitStack
) -> None:
    """Conformance row 51."""
    barrier = threading.Barrier(RIVALS)
    with ThreadPoolExecutor(RIVALS) as pool:
        asked = [servers[number % len(servers)] for number in range(RIVALS)]
        statuses = list(pool.map(lambda server: shake(server, crowd, "127.0.0.21", barrier), asked))
    assert statuses.count(101) == LIMIT
    # Daphne cannot send another status than 403.
    assert set(statuses) <= {101, 429, 403}
    refused = AuditEvent.objects.filter(kind="handshake.denied", reason="connection_limit")
    until(lambda: sum(refused.values_list("count", flat=True)) == RIVALS - LIMIT, "every refusal in the trail")


def test_the_slots_of_a_killed_process_are_free_after_the_lease(
    server: Server,
    redis_url: str,
    prefix: str,  # noqa: F811
    crowd: ExitStack,
) -> None:
    """Conformance row 52."""
    killed, other = (server("uvicorn", APP, settings=settings(redis_url, prefix)) for _ in range(2))
    assert [shake(killed, crowd) for _ in range(LIMIT - 1)] == [101] * (LIMIT - 1)
    assert [shake(other, crowd) for _ in range(2)] == [101, 429]
    killed.stop(first=signal.SIGKILL)
    assert shake(other, crowd) == 429
    assert until(lambda: shake(other, crowd) == 101, "a free slot") <= LEASE + 1
    for _ in range(LIMIT - 2):
        until(lambda: shake(other, crowd) == 101, "another free slot")
    assert shake(other, crowd) == 429


def test_a_closed_socket_frees_its_slot_at_once(servers: list[LiveServer], crowd: ExitStack) -> None:
    first, *others = servers
    address = "127.0.0.22"
    with ExitStack() as early:
        assert [shake(first, early, address) for _ in range(LIMIT)] == [101] * LIMIT
        assert {shake(server, crowd, address) for server in others} <= {429, 403}
    assert until(lambda: shake(others[0], crowd, address) == 101, "a free slot") < LEASE


@pytest.mark.parametrize("misfortune", ["killed", "paused"])
def test_a_hundred_idle_sockets_do_not_notice_that_the_store_went_and_came(
    server: Server,
    own_redis: OwnRedis,  # noqa: F811
    crowd: ExitStack,
    misfortune: str,
) -> None:
    """Conformance row 90; nobody sends, so that the renewals have to find out."""
    limits = {"MAX_CONNECTIONS": {"ip": 150}}
    options = settings(own_redis.url, "cs:", **limits)
    options["STORE"]["SOCKET_TIMEOUT"] = 0.25
    live = server("uvicorn", APP, settings=options)
    idle = [crowd.enter_context(live.websocket("/echo/", origin=ORIGIN)) for _ in range(100)]
    (own_redis.stop if misfortune == "killed" else own_redis.pause)()
    until(lambda: AuditEvent.objects.filter(kind="store.degraded").exists(), "the store's end in the trail")
    began = time.monotonic()
    assert shake(live, crowd) == 101
    assert time.monotonic() - began < 1
    (own_redis.start if misfortune == "killed" else own_redis.resume)()
    found = until(lambda: AuditEvent.objects.filter(kind="store.recovered").exists(), "its return")
    # Four seconds between two probes, one for the supervisor's pass, half of one for the trail.
    assert found < 6
    with Redis.from_url(own_redis.url) as client:
        key = "cs:*:slots:*"
        until(lambda: sum(client.zcard(name) for name in client.scan_iter(key)) == 101, "every slot")
    for raw in idle:
        raw.send_json([1])
    assert [raw.read_json() for raw in idle] == [[1]] * 100
    kinds = AuditEvent.objects.filter(kind__startswith="store.").order_by("pk").values_list("kind", "count")
    assert list(kinds) == [("store.degraded", 1), ("store.recovered", 1)]
