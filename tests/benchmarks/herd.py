"""A server restarts under 1,000 clients: how they are spread when they come back, and what a handshake costs them."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from statistics import median

from channels_secure.client import Backoff, Limits, SecureSocket, SocketState
from tests.benchmarks.project import GENEROUS, ORIGIN, log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, late, show
from tests.client.restarting import Restarting
from tests.live.servers import ServerKind

APP = "tests.client.app:application"
OPTIONS = {"daphne": ("-v", "0"), "uvicorn": ("--log-level", "warning")}
AT_ONCE = 50
# Seconds: what is counted in one, and how long a whole way may take to be entered, and to come back.
SLOT, ENTERING, PATIENCE = 0.1, 180.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the server ends, and the share of its clients, in percent, that may come in one tenth of a second.

    Without a bound, every wait is the longest that might have been chosen.
    """

    name: str
    kind: ServerKind
    how: Signals
    bound: float | None


WAYS = (
    Way(name="uvicorn, restarted", kind="uvicorn", how=SIGTERM, bound=10.0),
    Way(name="Daphne, restarted", kind="daphne", how=SIGTERM, bound=10.0),
    Way(name="uvicorn, killed", kind="uvicorn", how=SIGKILL, bound=10.0),
    Way(name="uvicorn, restarted, no jitter", kind="uvicorn", how=SIGTERM, bound=None),
)


@dataclass(slots=True)
class Herd:
    """When each attempt began and when each client was let in again, in seconds since the server was back."""

    count: int
    away: float = 0.0
    attempts: list[float] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    handshakes: list[float] = field(default_factory=list)

    def per_slot(self, moments: Sequence[float]) -> Counter[int]:
        return Counter(int(moment / SLOT) for moment in moments)

    @property
    def busiest(self) -> float:
        """The share of all clients that begin an attempt in the busiest slot, in percent."""
        return 100 * max(self.per_slot(self.attempts).values(), default=0) / self.count


def run(effort: Effort) -> Section:
    count = effort.choose(1000, 200)
    cookie = log_in().partition("=")[2]
    found: dict[str, Herd] = {}
    with tempfile.TemporaryDirectory() as directory:
        for way in WAYS:
            server = Restarting(way.kind, APP, Path(directory), GENEROUS, OPTIONS[way.kind])
            with server:
                found[way.name] = asyncio.run(_scatter(way, server, cookie, count))
    spread = {way.name: found[way.name] for way in WAYS if way.bound is not None}
    return Section(
        name="herd",
        title=f"{count:,} clients come back to a server that restarts",
        tables=[_summary(found), *(_distribution(name, herd) for name, herd in spread.items())],
        goals=[
            Goal(
                name=f"{way.name}: busiest 100 ms",
                measured=found[way.name].busiest,
                bound=way.bound,
                unit=" %",
                at_most=True,
            )
            for way in WAYS
            if way.bound is not None
        ],
        notes=[
            "The Python client, all in one process beside the server; counted from when the server listens again.",
            "Without jitter: the same client, whose every wait is the longest that it might have chosen.",
        ],
        charts=[
            Chart(
                name="herd",
                title="% of the clients that begin a handshake in the busiest 100 ms",
                bars=[(name, herd.busiest) for name, herd in found.items()],
            )
        ],
    )


async def _scatter(way: Way, server: Restarting, cookie: str, count: int) -> Herd:
    herd, log = Herd(count), _Log()
    limits = Limits(heartbeat_interval=3600, open_timeout=PATIENCE, close_timeout=1)
    async with contextlib.AsyncExitStack() as stack:
        sockets = []
        for number in range(count):
            jitter = _always_longest if way.bound is None else random.Random(number).random
            listener = log.listener(number)
            sockets.append(
                SecureSocket(
                    f"{server.url}/answering/", session=cookie, origin=ORIGIN, proxy=None, limits=limits,
                    backoff=Backoff(jitter=jitter), on_state=listener,
                )
            )  # fmt: skip
        async with asyncio.timeout(ENTERING):
            for first in range(0, count, AT_ONCE):
                await asyncio.gather(*(stack.enter_async_context(each) for each in sockets[first : first + AT_ONCE]))
        log.begin()
        left = time.monotonic()
        await asyncio.to_thread(server.stop, way.how)
        await asyncio.to_thread(server.start)
        back = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(each.opened() for each in sockets))
        herd.away = back - left
        log.tell(herd, back)
        await asyncio.to_thread(server.stop, SIGKILL)
    return herd


def _always_longest() -> float:
    return 1.0


class _Log:
    """What each client did, and when."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}
        self._attempts: list[float] = []
        self._returns: list[tuple[float, float]] = []

    def listener(self, number: int) -> Callable[[SocketState], None]:
        def note(state: SocketState) -> None:
            now = time.monotonic()
            if state is SocketState.CONNECTING:
                self._began[number] = now
                self._attempts.append(now)
            elif state is SocketState.OPEN:
                self._returns.append((now, now - self._began[number]))

        return note

    def begin(self) -> None:
        self._attempts.clear()
        self._returns.clear()

    def tell(self, herd: Herd, back: float) -> None:
        # What finds nobody listening costs the server nothing.
        herd.attempts += (moment - back for moment in self._attempts if moment >= back)
        herd.returns += (max(0.0, moment - back) for moment, _ in self._returns)
        herd.handshakes += (took * 1000 for _, took in self._returns)


def _summary(found: dict[str, Herd]) -> Table:
    head = (
        "",
        "s away",
        "half are back, s",
        "all are back, s",
        "not back",
        "busiest 100 ms",
        "handshake p50, ms",
        "p99, ms",
    )
    return Table(head=head, rows=[(name, *_figures(herd)) for name, herd in found.items()])


def _figures(herd: Herd) -> tuple[str, ...]:
    if len(herd.returns) < 2:
        return (show(herd.away), "–", "–", str(herd.count - len(herd.returns)), f"{show(herd.busiest)} %", "–", "–")
    return (
        show(herd.away),
        show(median(herd.returns)),
        show(max(herd.returns)),
        str(herd.count - len(herd.returns)),
        f"{show(herd.busiest)} %",
        show(median(herd.handshakes)),
        show(late(herd.handshakes)),
    )


def _distribution(name: str, herd: Herd) -> Table:
    """How many were let in again in each tenth of a second: a row for a second."""
    slots = herd.per_slot(herd.returns)
    seconds = max(slots, default=0) // 10 + 1
    rows = [
        (f"second {number + 1}", *(str(slots[number * 10 + part]) for part in range(10))) for number in range(seconds)
    ]
    return Table(head=(f"{name}: let in again", *(f".{part}" for part in range(10))), rows=rows)
