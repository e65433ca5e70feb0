"""Racing for tickets: each is redeemed by ten clients at once, over four processes; exactly one may get in."""

import contextlib
import itertools
import selectors
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from django.contrib.auth import get_user_model
from django.test.utils import override_settings

from channels_secure.auth.tickets import issue_ticket
from tests import services
from tests.benchmarks import wire
from tests.benchmarks.project import GENEROUS, USERNAME, log_in
from tests.benchmarks.report import Effort, Goal, Section, Table, show
from tests.live.servers import HOST, LiveServer

TICKETS, CLIENTS, PROCESSES = 1_000, 10, 4
# So many tickets are raced for at the same time.
TOGETHER = 5


def run(effort: Effort) -> Section:
    count = effort.choose(TICKETS, 100)
    log_in()
    with services.own_redis() as server:
        stores: dict[str, dict[str, Any]] = {
            "Redis": {"BACKEND": "channels_secure.stores.redis.RedisStore", "LOCATION": server.url},
            "no shared store": {"BACKEND": "channels_secure.stores.memory.MemoryStore"},
        }
        found = {name: _race(store, count) for name, store in stores.items()}
    rows = [(name, f"{count * CLIENTS:,}", f"{accepted:,}", show(took)) for name, (accepted, took) in found.items()]
    return Section(
        name="tickets",
        title=f"{count:,} tickets, {CLIENTS} racing clients each, {PROCESSES} processes",
        tables=[Table(head=("", "handshakes", "accepted", "seconds"), rows=rows)],
        goals=[
            Goal(name=f"accepted more often than once, {name}", measured=accepted - count, bound=0, at_most=True)
            for name, (accepted, _) in found.items()
        ],
    )


def _race(store: dict[str, Any], count: int) -> tuple[int, float]:
    settings = {**GENEROUS, "STORE": store}
    user = get_user_model().objects.get(username=USERNAME)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(override_settings(CHANNELS_SECURE=settings))
        servers = [
            stack.enter_context(wire.serve("uvicorn", directory, "victims", settings=settings))
            for _ in range(PROCESSES)
        ]
        accepted, began = 0, time.monotonic()
        for _ in range(count // TOGETHER):
            tickets = [issue_ticket(user) for _ in range(TOGETHER)]
            accepted += _redeem(servers, tickets)
        return accepted, time.monotonic() - began


def _redeem(servers: list[LiveServer], tickets: list[str]) -> int:
    """Let every ticket's clients connect, send all their handshakes at once, and count those that were let in."""
    turns = itertools.cycle(servers)
    waiting: dict[socket.socket, bytes] = {}
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for ticket in tickets:
            for _ in range(CLIENTS):
                server = next(turns)
                connection = stack.enter_context(socket.create_connection((HOST, server.port), timeout=wire.TIMEOUT))
                waiting[connection] = wire.request(server, f"/idle/?ticket={ticket}")
                selector.register(connection, selectors.EVENT_READ)
        for connection, upgrade in waiting.items():
            connection.sendall(upgrade)
        accepted = 0
        while waiting:
            ready = selector.select(wire.TIMEOUT)
            if not ready:
                raise RuntimeError("a server stopped answering")
            for key, _ in ready:
                connection = cast("socket.socket", key.fileobj)
                accepted += _was_let_in(connection)
                selector.unregister(connection)
                del waiting[connection]
    return accepted


def _was_let_in(connection: socket.socket) -> bool:
    """Whether the socket opens and stays open; a page of ours is told of a refusal by a socket that closes."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096) or b"\r\n\r\n"
    if not answer.startswith(b"HTTP/1.1 101"):
        return False
    if not answer.endswith(b"\r\n\r\n"):
        return False
    connection.sendall(wire.text_frame("1"))
    reply = connection.recv(4096)
    return reply[2:3] == b"1"
