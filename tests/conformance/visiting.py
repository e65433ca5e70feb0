"""What a visitor does on a live server: opens sockets, asks what is still alive, reads the audit trail."""

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from channels_secure.models import AuditEvent
from tests.conformance.table import ALLOWED_ORIGIN
from tests.conformance.world import World
from tests.live.servers import LiveServer, RawSocket

Status = dict[str, int]


def upgrade(path: str) -> bytes:
    lines = (
        f"GET {path} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Origin: {ALLOWED_ORIGIN}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


class Visit:
    """Opens sockets, all of which are closed at the end of the test."""

    def __init__(self) -> None:
        self.stack = ExitStack()

    def connect(self, server: LiveServer, source: str = "127.0.0.1") -> RawSocket:
        return self.stack.enter_context(server.connect(source=source))

    def __call__(self, server: LiveServer, path: str, *, source: str = "127.0.0.1", **more: Any) -> RawSocket:
        raw = self.connect(server, source)
        response = raw.handshake(path, origin=ALLOWED_ORIGIN, **more)
        assert response.status == 101, response
        return raw


def cookie(world: World, user: Any) -> list[tuple[bytes, bytes]]:
    return [(b"Cookie", "; ".join(f"{name}={value}" for name, value in world.session(user).items()).encode())]


def ask(watcher: RawSocket) -> Status:
    watcher.send_json({"type": "status"})
    answer: Status = watcher.read_json()
    return answer


def wait_until(watcher: RawSocket, done: Callable[[Status], bool], *, within: float) -> None:
    """Ask the server until it is so."""
    began = time.monotonic()
    while not done(status := ask(watcher)):
        assert time.monotonic() - began < within, status
        assert watcher.sent_nothing(within=0.05)


def wait_for_count(server: LiveServer, count: int, **filters: Any) -> None:
    """Wait until the audit trail has that many events of this kind, in however many rows."""
    deadline = time.monotonic() + 5
    while (found := sum(AuditEvent.objects.filter(**filters).values_list("count", flat=True))) < count:
        rows = list(AuditEvent.objects.values_list("kind", "reason", "ip", "path", "count"))
        assert time.monotonic() < deadline, rows
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.05)
    assert found == count


def measure_echo(bystander: RawSocket) -> float:
    began = time.monotonic()
    bystander.send_text("1")
    assert bystander.read_message().payload == b"1"
    return time.monotonic() - began


def check_log(server: LiveServer) -> None:
    log = server.log()
    assert "Traceback (most recent call last)" not in log, log[-2000:]
    assert "Exception in ASGI" not in log
