"""How long a decision takes to reach 300 open sockets, with slow readers and hung handlers among them."""

import contextlib
import json
import selectors
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import cast

from django.contrib.auth import get_user_model

from channels_secure.blocklist import block
from tests.benchmarks import victims, wire
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, late, show
from tests.live.raw import Opcode, RawSocket
from tests.live.servers import KINDS, LiveServer, ServerKind

IDLE, HUNG, SLOW = 260, 20, 20
COUNT = IDLE + HUNG + SLOW
NOTES = (
    f"{IDLE} idle connections, {HUNG} whose handler hangs and {SLOW} that do not read what is sent to them.",
    "Those that do not read cannot see a close, and are left out of what clients see.",
    "Blocked in this process counts from before the transaction.",
    "Blocked in another process counts from the commit, for which a server looks once a second.",
)
# What is done, and in which words the table says so.
WAYS = {"sever": "severed at once", "block": "blocked in this process", "watch": "blocked in another process"}
SETTLE = 1.5


@dataclass(slots=True)
class Times:
    """Milliseconds from the decision to the end of the application and to what the client sees."""

    ended: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    missing: int = 0


def run(effort: Effort) -> Section:
    """Cut the connections in each way on each server, several times."""
    found: dict[tuple[ServerKind, str], Times] = {}
    with tempfile.TemporaryDirectory() as directory:
        for kind in reversed(KINDS):
            with wire.serve(kind, Path(directory), "victims") as server:
                for number in range(effort.repeat(3, 1)):
                    for how in effort.choose(tuple(WAYS), ("sever",)):
                        _cut(server, how, f"{kind}-{how}-{number}", found.setdefault((kind, how), Times()))
    rows = [_row(kind, how, times) for (kind, how), times in found.items()]
    head = ("ms after the decision", "app ended, p50", "p99", "latest", "client sees, p50", "p99", "not within 10 s")
    return Section(
        name="sever",
        title=f"Severing {COUNT} sockets",
        tables=[Table(head=head, rows=rows)],
        goals=[
            Goal(
                name=f"severing on {kind}: p99 of 300", measured=late(times.ended), bound=100, unit=" ms", at_most=True
            )
            for (kind, how), times in found.items()
            if how == "sever"
        ],
        notes=NOTES,
        charts=[_chart(found)],
    )


def _cut(server: LiveServer, how: str, username: str, times: Times) -> None:
    cookie = log_in(username)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(each) for each in wire.open_sockets(server, "/idle/", cookie, IDLE)]
        hung = [stack.enter_context(each) for each in wire.open_sockets(server, "/hung/", cookie, HUNG)]
        upgrade = wire.request(server, "/stream/", cookie)
        slow = [stack.enter_context(wire.open_socket(server, upgrade, receive_buffer=4096)) for _ in range(SLOW)]
        for connection in hung + slow:
            connection.sendall(wire.text_frame("{}"))
        time.sleep(SETTLE)  # until the slow readers' buffers are full and the handlers hang
        control = _order(server, how, username)
        stack.enter_context(control)
        started = None
        if how == "watch":
            block(user=get_user_model().objects.get(username=username))
            started = time.monotonic()
        seen = watch(readers + hung)
        report = json.loads(control.read_message(timeout=victims.PATIENCE * 2).payload)
    started = report["started"] if started is None else started
    times.ended += [(moment - started) * 1000 for moment in report["finished"]]
    times.seen += [(moment - started) * 1000 for moment in seen]
    times.missing += COUNT - len(report["finished"])


def _order(server: LiveServer, how: str, username: str) -> RawSocket:
    control = server.connect()
    control.handshake(victims.CONTROL)
    control.send_json({"how": how, "count": COUNT, "username": username})
    control.read_message()
    return control


def watch(connections: Sequence[socket.socket]) -> list[float]:
    """Return when each connection had a close frame, or the end of its stream."""
    received = dict.fromkeys(connections, b"")
    seen = []
    deadline = time.monotonic() + victims.PATIENCE
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while received and time.monotonic() < deadline:
            for key, _ in selector.select(1):
                reader = cast("socket.socket", key.fileobj)
                data = reader.recv(65536)
                received[reader] += data
                if not data or _has_close(received[reader]):
                    seen.append(time.monotonic())
                    selector.unregister(reader)
                    del received[reader]
    return seen


def _has_close(data: bytes) -> bool:
    """Whether a close frame has begun among whole frames."""
    start = 0
    while start + 2 <= len(data):
        if data[start] & 0x0F == Opcode.CLOSE:
            return True
        length, size = data[start + 1] & 0x7F, 2
        if length == 126:
            length, size = int.from_bytes(data[start + 2 : start + 4]), 4
        start += size + length
    return False


def _row(kind: ServerKind, how: str, times: Times) -> tuple[str, ...]:
    figures = median(times.ended), late(times.ended), max(times.ended), median(times.seen), late(times.seen)
    return (f"{kind}, {WAYS[how]}", *(show(figure) for figure in figures), str(times.missing))


def _chart(found: dict[tuple[ServerKind, str], Times]) -> Chart:
    bars = [(f"{kind}, {WAYS[how]}", late(times.ended)) for (kind, how), times in found.items()]
    return Chart(name="sever", title=f"ms until {COUNT} applications have ended, p99", bars=bars)
