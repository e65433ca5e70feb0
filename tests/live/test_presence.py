"""Real server processes on one database: what the others make of one that is killed, paused or stopped."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models import Count

from channels_secure.models import AuditEvent, LiveConnection, LiveProcess
from tests.live.servers import LiveServer, RawSocket

pytestmark = pytest.mark.django_db(transaction=True)

APP = "tests.live.brief_leases:application"
ORIGIN = "https://chat.example.com"
SETTINGS = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None},
    "MAX_CONNECTIONS": {"ip": None},
    "POLICY_REFRESH_INTERVAL": 0.1,
}
# As in `brief_leases`, which is for server processes only: it changes the constants.
LEASE = 3.0
PATIENCE = 20.0


@pytest.fixture
def servers(server: Callable[..., LiveServer]) -> list[LiveServer]:
    """Two uvicorns and a Daphne."""
    return [server(kind, APP, settings=SETTINGS) for kind in ("uvicorn", "uvicorn", "daphne")]


@contextlib.contextmanager
def sockets(server: LiveServer, count: int) -> Iterator[list[RawSocket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.websocket("/echo/", origin=ORIGIN)) for _ in range(count)]


def until(condition: Callable[[], bool], what: str) -> float:
    """Ask the database again until something holds; returns how long that took."""
    began = time.monotonic()
    pause = threading.Event()
    while not condition():
        if time.monotonic() - began > PATIENCE:
            raise AssertionError(f"{what} did not come true: {by_process()}")
        pause.wait(0.05)  # other processes write, and nobody announces it
    return time.monotonic() - began


def by_process() -> dict[int, int]:
    """How many sockets each process has, by its id in the system."""
    counted = LiveProcess.objects.annotate(count=Count("connections")).values_list("pid", "count")
    return dict(counted)


def ends(**which: Any) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind="connection.closed", **which))


def test_a_killed_process_is_gone_within_its_lease_and_each_socket_has_one_end(servers: list[LiveServer]) -> None:
    killed, *others = servers
    with sockets(killed, 3), sockets(others[0], 1), sockets(others[1], 2):
        pids = [server.process.pid for server in servers]
        until(lambda: by_process() == dict(zip(pids, (3, 1, 2), strict=True)), "every socket's row")
        opened = list(LiveConnection.objects.values_list("pk", flat=True))
        begun = AuditEvent.objects.filter(kind="connection.accepted", connection_id__in=opened)
        until(lambda: begun.count() == 6, "every beginning")
        lost = set(LiveConnection.objects.filter(process__pid=killed.process.pid).values_list("pk", flat=True))
        # The survivors must have seen the database at work for a lease before they call anybody dead.
        until(lambda: LiveProcess.objects.filter(pid__in=pids).count() == 3, "every process")
        killed.stop(first=signal.SIGKILL)
        hidden = until(lambda: LiveConnection.objects.live().count() == 3, "the end of its rows")
        assert hidden <= LEASE + 1
        until(lambda: by_process() == {pids[1]: 1, pids[2]: 2}, "their deletion")
        # Of these sockets: those of an earlier test, on the same servers, may be written late.
        until(lambda: len(ends(connection_id__in=lost)) == 3, "the ends of its sockets")
        ended = ends(connection_id__in=opened)
        assert {event.connection_id for event in ended} == lost
        assert {event.detail["by"] for event in ended} == {"lost"}
        assert all(event.detail["process"].endswith(f":{pids[0]}") for event in ended)
    until(lambda: len(ends(connection_id__in=opened)) == 6, "the ends of the others")
    until(lambda: by_process() == {}, "an empty table")
    assert sorted(opened) == sorted(event.connection_id for event in ends(connection_id__in=opened))


def test_a_paused_process_comes_back_with_its_sockets(servers: list[LiveServer]) -> None:
    paused, other, _ = servers
    pid = paused.process.pid
    with sockets(paused, 2) as held, sockets(other, 1):
        until(lambda: by_process() == {pid: 2, other.process.pid: 1}, "every socket's row")
        former = LiveProcess.objects.get(pid=pid).pk
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: by_process() == {other.process.pid: 1}, "its death")
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: by_process() == {pid: 2, other.process.pid: 1}, "its return")
        assert LiveProcess.objects.get(pid=pid).pk != former
        for raw in held:
            raw.send_json(["still here"])
            assert raw.read_json() == ["still here"]
        assert "presence.taken_for_dead" in paused.log()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_process_leaves_nothing_behind(servers: list[LiveServer], first: signal.Signals) -> None:
    for server in (servers[0], servers[2]):
        with sockets(server, 2):
            until(lambda: LiveConnection.objects.count() == 2, "both rows")
            server.stop(first=first, timeout=20)
            # At once, not when a lease runs out.
            assert by_process() == {}, server.log()[-3000:]
        assert {event.detail["by"] for event in ends()} <= {"policy", "client", "transport"}
    assert len(ends()) == 4
