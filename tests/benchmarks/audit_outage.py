"""A flood of refusals while PostgreSQL is stopped: what it does to memory, to the counts, and to everybody else."""

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from tests.benchmarks import wire
from tests.benchmarks.project import GENEROUS, ORIGIN
from tests.live.own_postgresql import OwnPostgreSQL, own_postgresql
from tests.live.raw import Opcode, encode_frame, upgrade_request
from tests.live.servers import LiveServer, start_server

FLOODERS, OTHERS = 10, 20
TICK = 0.01
# Each of the others asks so often; with their rate they are never refused.
PAUSE = 0.1
PATIENCE = 120.0
SETTINGS = {
    **GENEROUS,
    "ALLOWED_ORIGINS": [ORIGIN],
    # All come from one address: what floods has a limit of its own, and takes nothing from the others.
    "MESSAGE_RATES": {"connection": "20/s", "user": "100000000/s", "ip": "100000000/s"},
    "ERROR_BUDGET": None,
    "AUTO_BLOCK_AFTER": None,
    "SNAPSHOT_MAX_STALE": 3600,
    "AUDIT_KEY": "the key of the benchmarks, which seals nothing but them",
}
REFUSED = wire.text_frame('{"type":"no.such.type"}')
ASKED = wire.text_frame("1")
LAST = b"the end of a flood"
PING = encode_frame(Opcode.PING, LAST, mask=wire.MASK)
SUM = "SELECT coalesce(sum(count), 0) FROM channels_secure_auditevent WHERE kind = 'message.denied'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What others met in it, in milliseconds, and what the server's process grew by, in megabytes.

    `seconds` is how long it took, `processor` what the server used of its processor meanwhile.
    """

    frames: int
    seconds: float
    processor: float
    median: float
    worst: float
    growth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    phases: dict[str, Phase]
    miscounted: int

    @property
    def ratio(self) -> float:
        """The others' p99 while the database is away, as a multiple of the same flood's while it is there."""
        return self.phases[AWAY].worst / self.phases[THERE].worst


IDLE, THERE, AWAY = "there, no flood", "there", "stopped"


def measure(directory: Path, frames: int, seconds: float) -> Outage:
    """Flood so many frames in so many seconds: with the database, and without it."""
    with own_postgresql() as database:
        server = start_server(
            "uvicorn",
            directory=directory,
            settings=SETTINGS,
            environ=database.environ,
            arguments=("--log-level", "warning", "--ws-ping-interval", "3600"),
        )
        try:
            return _measure(server, database, frames, seconds)
        finally:
            server.stop()


def _measure(server: LiveServer, database: OwnPostgreSQL, frames: int, seconds: float) -> Outage:
    load = Load(_open(server, "/open/", FLOODERS), _open(server, "/echo/", OTHERS))
    memory = wire.process_of(server)
    # What is allocated once, and what is imported with the first event.
    load.go(frames // 20, max(1.0, seconds / 20), memory)
    sent = frames // 20 // FLOODERS * FLOODERS
    phases = {IDLE: load.go(0, seconds, memory), THERE: load.go(frames, seconds, memory)}
    database.stop()
    phases[AWAY] = load.go(frames, seconds, memory)
    database.start()
    sent += sum(phase.frames for phase in phases.values())
    load.close()
    return Outage(phases=phases, miscounted=abs(sent - _counted(database, sent)))


def _open(server: LiveServer, path: str, count: int) -> list[socket.socket]:
    upgrade = upgrade_request(path, f"localhost:{server.port}", wire.KEY, [], ORIGIN, (), {})
    return [wire.open_socket(server, upgrade) for _ in range(count)]


def _counted(database: OwnPostgreSQL, expected: int) -> int:
    """How many refusals the trail has, once it has all of them or has had the time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        ((counted,),) = database.execute(SUM)
        if counted == expected or time.monotonic() > deadline:
            return int(counted)
        time.sleep(0.5)  # the server that writes is another process, which tells nobody when a row is there


def _processor(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Load:
    """Sockets that are refused at a given pace, and others that are answered and timed."""

    def __init__(self, flooders: Sequence[socket.socket], others: Sequence[socket.socket]) -> None:
        self.flooders, self.others = flooders, others
        self._selector = selectors.DefaultSelector()
        for each in (*flooders, *others):
            self._selector.register(each, selectors.EVENT_READ, each in others)
        self._asked: dict[Any, float] = {}
        self._times: list[float] = []
        self._unanswered: dict[Any, bytes] = {}

    def go(self, frames: int, seconds: float, process: psutil.Process) -> Phase:
        """Send so many frames, evenly over so many seconds."""
        before, used, self._times = process.memory_info().rss, _processor(process), []
        started = time.perf_counter()
        left, share = frames // FLOODERS, frames // FLOODERS / seconds
        sent, next_ask = 0, started
        largest = before
        while (elapsed := time.perf_counter() - started) < seconds or sent < left:
            due = min(left, int(elapsed * share)) - sent
            if due > 0:
                for each in self.flooders:
                    each.sendall(REFUSED * due)
                sent += due
            if time.perf_counter() >= next_ask and elapsed < seconds:
                # What could not be asked in time is left out: more at once would be refused themselves.
                next_ask = max(next_ask, time.perf_counter() - PAUSE / OTHERS) + PAUSE / OTHERS
                self._ask()
                largest = max(largest, process.memory_info().rss)
            self._read()
        self._finish()
        took = time.perf_counter() - started
        return Phase(
            frames=sent * FLOODERS,
            seconds=took,
            processor=_processor(process) - used,
            median=median(self._times) * 1000,
            worst=quantiles(self._times, n=100)[98] * 1000,
            growth=(max(largest, process.memory_info().rss) - before) / 1024 / 1024,
        )

    def close(self) -> None:
        self._selector.close()
        wire.close_all([*self.flooders, *self.others])

    def _ask(self) -> None:
        """Let the one that has waited longest ask, if anybody is free."""
        for each in self.others:
            if each not in self._asked:
                self._asked[each] = time.perf_counter()
                each.sendall(ASKED)
                self.others = [*(other for other in self.others if other is not each), each]
                return

    def _read(self) -> None:
        for key, _ in self._selector.select(TICK / 4):
            data = key.fileobj.recv(65536)  # type: ignore[union-attr]
            if not data:
                raise RuntimeError("a socket was closed")
            if key.data and (asked := self._asked.pop(key.fileobj, None)) is not None:
                self._times.append(time.perf_counter() - asked)
            elif (begun := self._unanswered.get(key.fileobj)) is not None:
                # Error frames may come before the pong, and end anywhere.
                self._unanswered[key.fileobj] = (begun + data)[-len(LAST) :]
                if LAST in begun + data:
                    del self._unanswered[key.fileobj]

    def _finish(self) -> None:
        """Wait until the server has read everything: a ping stands behind each flood."""
        for each in self.flooders:
            each.sendall(PING)
            self._unanswered[each] = b""
        deadline = time.perf_counter() + PATIENCE
        while self._asked or self._unanswered:
            self._read()
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{len(self._asked) + len(self._unanswered)} sockets are not answered")
