"""The same on real servers: peers that vanish, readers that stall, signals, and a database that is away."""

import contextlib
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection as database_connection

from channels_secure.models import AuditEvent
from tests.live.servers import LiveServer, RawSocket, ServerKind, SocketEnded, SocketTimeout

pytestmark = pytest.mark.django_db(transaction=True)

Server = Callable[..., LiveServer]
ORIGIN = "https://chat.example.com"
SETTINGS = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None},
    "MAX_CONNECTIONS": {"ip": None},
}


def shake_and_vanish(server: LiveServer, path: str, text: str | None = None) -> None:
    """Tear the connection down before the handshake's answer, or after one message."""
    with server.connect() as raw:
        if text is None:
            key = b"GET " + path.encode() + b" HTTP/1.1\r\nHost: " + raw.authority.encode()
            key += b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
            key += b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: " + ORIGIN.encode() + b"\r\n\r\n"
            raw.send_raw(key)
        else:
            assert raw.handshake(path, origin=ORIGIN).status == 101
            raw.send_text(text)
        raw.reset()


def answers(server: LiveServer) -> bool:
    with server.websocket("/echo/", origin=ORIGIN) as raw:
        raw.send_json([1])
        return bool(raw.read_json() == [1])


def closed_rows(server: LiveServer, count: int, timeout: float = 8) -> int:
    """How many connections the audit trail says have ended, once it says `count` or time is up."""
    deadline = time.monotonic() + timeout
    while (found := AuditEvent.objects.filter(kind="connection.closed").count()) < count:
        if time.monotonic() > deadline:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.05)
    return found


def test_peers_that_vanish_leave_no_traceback(server: Server, kind: ServerKind) -> None:
    settings = {**SETTINGS, "HANDSHAKE_TIMEOUT": 0.3, "HANDLER_TIMEOUT": 0.5}
    running = server(kind, settings=settings, environ={})
    for path in ("/authorize/hang/", "/connect/hang/", "/connect/never/", "/authorize/false/", "/nowhere/"):
        shake_and_vanish(running, path)
    for message in ("hang", "hang.stubbornly", "flood", "close", "stop", "raise"):
        shake_and_vanish(running, "/odd/", f'{{"type":"{message}"}}')
    shake_and_vanish(running, "/odd/?disconnect=hang", "1")
    assert answers(running)
    assert closed_rows(running, 7) >= 7
    log = running.log()
    allowed = log.count("internal-text-of-an-exception")
    assert log.count("Traceback") <= allowed, log[-6000:]
    assert "never retrieved" not in log


def test_a_reader_that_stalls_is_cut_and_delays_no_other(server: Server, kind: ServerKind) -> None:
    running = server(kind, settings={**SETTINGS, "HANDLER_TIMEOUT": 2, "SEND_TIMEOUT": 1})
    with running.websocket("/odd/", origin=ORIGIN) as slow:
        slow.send_json({"type": "flood"})
        began = time.monotonic()
        assert answers(running)
        assert time.monotonic() - began < 2
        assert closed_rows(running, 2) == 2
    assert "Traceback" not in running.log()


def test_sigterm_with_open_sockets_hung_handlers_and_stalled_readers_ends_in_time(
    server: Server, kind: ServerKind
) -> None:
    arguments = ["--timeout-graceful-shutdown", "2"] if kind == "uvicorn" else []
    running = server(kind, settings={**SETTINGS, "SEND_TIMEOUT": 1}, arguments=arguments)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(running.websocket("/odd/", origin=ORIGIN)) for _ in range(6)]
        for raw, message in zip(sockets, ["hang", "hang", "flood", "flood"], strict=False):
            raw.send_json({"type": message})
        assert answers(running)
        began = time.monotonic()
        running.stop(first=signal.SIGTERM, timeout=12)
        assert time.monotonic() - began < 10, running.log()[-3000:]
    log = running.log()
    # uvicorn logs its own cancellation, whatever the application does with it.
    assert log.count("Traceback") == log.count("CancelledError: Task cancelled, timeout graceful shutdown exceeded")
    if kind == "uvicorn":
        assert closed_rows(running, 7, timeout=0) == 7


def test_a_database_that_is_away_refuses_handshakes_as_unavailable(
    server: Server, kind: ServerKind, tmp_path: Path
) -> None:
    away = {"CHANNELS_SECURE_TEST_DATABASE_NAME": str(tmp_path / "missing" / "db.sqlite3"), "DATABASE": "sqlite"}
    running = server(kind, settings=SETTINGS, environ=away)
    with running.connect() as raw:
        response = raw.handshake("/echo/")
        assert response.status == (503 if kind == "uvicorn" else 403)
    with running.connect() as raw:
        assert raw.handshake("/echo/", origin=ORIGIN).status == 101
        closing = raw.read_until_closed()
        assert (closing.code, closing.json_frames()[0]["code"]) == (4503, "unavailable")
    assert "Traceback" not in running.log()


def test_a_database_that_cannot_be_written_stops_no_socket_and_loses_no_row(server: Server) -> None:
    if database_connection.vendor != "sqlite":
        return
    running = server("uvicorn", settings=SETTINGS)
    assert answers(running)
    name = database_connection.settings_dict["NAME"]
    lock = sqlite3.connect(name, isolation_level=None, timeout=5)
    lock.execute("BEGIN IMMEDIATE")
    try:
        with running.websocket("/echo/", origin=ORIGIN) as raw:
            for n in range(20):
                raw.send_json([n])
                assert raw.read_json() == [n]
        assert answers(running)
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert closed_rows(running, 3) == 3


def test_a_half_open_handshake_holds_up_nobody(server: Server, kind: ServerKind) -> None:
    running = server(kind, settings=SETTINGS)
    with contextlib.ExitStack() as stack:
        halves: list[RawSocket] = [stack.enter_context(running.connect()) for _ in range(50)]
        for raw in halves:
            raw.send_raw(b"GET /echo/ HTTP/1.1\r\nHost: ")
        assert answers(running)
        with contextlib.suppress(SocketEnded, SocketTimeout):
            halves[0].read_exactly(1, timeout=0.05)
    assert "Traceback" not in running.log()
