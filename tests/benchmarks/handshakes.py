"""What opening a connection costs, with a session: time over real sockets, and queries."""

import asyncio
import contextlib
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from django.db.backends.signals import connection_created

from tests.benchmarks import subjects, wire
from tests.benchmarks.local import Peer, scope
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, late, show
from tests.live.servers import KINDS, LiveServer, ServerKind

ROWS = (subjects.PLAIN, subjects.TYPED, subjects.RAW)
COUNTED = 50


def run(effort: Effort) -> Section:
    """Open and close connections one after the other, in interleaved rounds; then count queries in process."""
    tables, goals, bars = [], [], []
    for kind in reversed(KINDS):
        times = _measure(kind, effort)
        middle = {label: median(found) for label, found in times.items()}
        tables.append(_table(kind, times, middle))
        goals.append(_goal(kind, middle))
        bars += [(f"{label}, {kind}", value) for label, value in middle.items()]
    counts = asyncio.run(_count_queries())
    goals.append(_goal_of_queries(counts))
    return Section(
        name="handshake",
        title="Handshake with a session",
        tables=tables,
        goals=goals,
        notes=_notes(counts),
        charts=[Chart(name="handshake", title="ms from connecting to 101, p50", bars=bars)],
    )


def _measure(kind: ServerKind, effort: Effort) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {subject.label: [] for subject in ROWS}
    cookie = log_in()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {subject.label: stack.enter_context(wire.serve(kind, directory)) for subject in ROWS}
        upgrades = {subject.label: wire.request(servers[subject.label], subject.path, cookie) for subject in ROWS}
        for label, server in servers.items():
            _handshakes(server, upgrades[label], 20)
        for _ in range(effort.repeat(12, 4)):
            for label, server in servers.items():
                times[label] += _handshakes(server, upgrades[label], effort.choose(40, 15))
    return times


def _handshakes(server: LiveServer, upgrade: bytes, count: int) -> list[float]:
    """Return the milliseconds from connecting to the answer, for each of so many handshakes."""
    found = []
    for _ in range(count):
        started = time.perf_counter()
        connection = wire.open_socket(server, upgrade)
        found.append((time.perf_counter() - started) * 1000)
        connection.close()
    return found


class Queries:
    """Counts the statements of every thread: those of handshakes and those of the package's background work."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        is_background = "channels_secure" in sql or not sql.startswith("SELECT")
        with self._lock:
            self.counts["background" if is_background else "handshake"] += 1
        return execute(sql, *rest)

    def install(self, connection: Any, **_: Any) -> None:
        if self not in connection.execute_wrappers:
            connection.execute_wrappers.append(self)


@contextlib.contextmanager
def _counting() -> Iterator[Queries]:
    queries = Queries()
    connection_created.connect(queries.install)
    try:
        yield queries
    finally:
        connection_created.disconnect(queries.install)


async def _count_queries() -> dict[str, Counter[str]]:
    """Count in a fresh pool of threads, whose connections are made while somebody counts."""
    cookie = await asyncio.to_thread(log_in)
    counts = {}
    for subject in (subjects.PLAIN, subjects.TYPED):
        with _counting() as queries:
            for _ in range(COUNTED):
                async with Peer(subjects.application, scope(subject.path, cookie)):
                    pass
        counts[subject.label] = queries.counts
    return counts


def _table(kind: str, times: dict[str, list[float]], middle: dict[str, float]) -> Table:
    plain = middle[subjects.PLAIN.label]
    rows = []
    for label, found in times.items():
        rows.append((label, show(middle[label]), show(min(found)), show(late(found)), f"{middle[label] / plain:.2f}"))
    return Table(head=(f"{kind}, ms", "p50", "least", "p99", "this / plain"), rows=rows)


def _goal(kind: str, middle: dict[str, float]) -> Goal:
    ratio = middle[subjects.TYPED.label] / middle[subjects.PLAIN.label]
    return Goal(name=f"handshake on {kind}: p50 against plain", measured=ratio, bound=0.9, at_most=True)


def _goal_of_queries(counts: dict[str, Counter[str]]) -> Goal:
    each = {label: count["handshake"] / COUNTED for label, count in counts.items()}
    return Goal(
        name="queries per handshake, against plain's",
        measured=each[subjects.TYPED.label],
        bound=each[subjects.PLAIN.label],
        at_most=True,
    )


def _notes(counts: dict[str, Counter[str]]) -> list[str]:
    background = counts[subjects.TYPED.label]["background"]
    return [
        "Plain Channels is `AllowedHostsOriginValidator(AuthMiddlewareStack(…))` around the plain consumer.",
        "Ours asks every guard, registers the connection and audits it.",
        f"It made {background} more statements for {COUNTED} handshakes in the background: audit and changed blocks.",
    ]
