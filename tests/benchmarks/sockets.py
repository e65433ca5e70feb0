"""Messages over real sockets: 50 connections, each waiting for its answer before it sends again."""

import contextlib
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.benchmarks import subjects, wire
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, show
from tests.benchmarks.subjects import Subject
from tests.live.servers import KINDS, LiveServer, ServerKind

ROWS = (subjects.PLAIN, subjects.CHANX, subjects.DCRF, subjects.TYPED, subjects.DROP_IN, subjects.RAW)
QUICK_ROWS = (subjects.PLAIN, subjects.TYPED, subjects.RAW)
CONNECTIONS = 50
BOUNDS = {"uvicorn": (4.0, 4.5), "daphne": (1.9, 2.0)}

# Messages per second, and microseconds of the server's CPU per message.
Samples = dict[str, list[tuple[float, float]]]


def run(effort: Effort) -> Section:
    """Measure every subject on each server, in interleaved rounds."""
    tables, goals, charts = [], [], []
    for kind in reversed(KINDS):
        samples = _measure(kind, effort)
        rate = {label: median(each[0] for each in found) for label, found in samples.items()}
        cpu = {label: median(each[1] for each in found) for label, found in samples.items()}
        tables.append(_table(kind, samples, rate, cpu))
        goals += _goals(kind, rate, cpu)
        charts.append(
            Chart(name=f"sockets-{kind}", title=f"server CPU on {kind}, µs per message", bars=list(cpu.items()))
        )
    return Section(
        name="sockets",
        title=f"Messages over real sockets, {CONNECTIONS} connections",
        tables=tables,
        goals=goals,
        notes=[
            "Client and server share the machine, so CPU per message is the steadier figure.",
            f"uvicorn runs on {'uvloop' if find_spec('uvloop') else 'the event loop of the standard library'}.",
        ],
        charts=charts,
    )


def _measure(kind: ServerKind, effort: Effort) -> Samples:
    rows = effort.choose(ROWS, QUICK_ROWS)
    samples: Samples = {subject.label: [] for subject in rows}
    seconds = effort.choose(1.0, 0.4)
    cookie = log_in()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lanes = {}
        for subject in rows:
            # A process for each subject, so that nobody pays for another's background work.
            server = stack.enter_context(wire.serve(kind, directory))
            echo = wire.Echo(
                wire.open_sockets(server, subject.path, cookie, CONNECTIONS),
                wire.text_frame(subject.text),
                _answer(server, subject, cookie),
            )
            stack.callback(echo.close)
            echo.run(seconds / 4)
            lanes[subject.label] = server, echo
        for _ in range(effort.repeat(7, 3)):
            for label, (server, echo) in lanes.items():
                samples[label].append(_round(server, echo, seconds))
    return samples


def _round(server: LiveServer, echo: wire.Echo, seconds: float) -> tuple[float, float]:
    before = wire.cpu_seconds(server)
    answers, elapsed = echo.run(seconds)
    return answers / elapsed, (wire.cpu_seconds(server) - before) / answers * 1e6


def _answer(server: LiveServer, subject: Subject, cookie: str) -> bytes:
    """Ask once, make sure that it is an answer and no refusal, and return its frame."""
    connection = wire.open_socket(server, wire.request(server, subject.path, cookie))
    with connection:
        connection.sendall(wire.text_frame(subject.text))
        frame = connection.recv(4096)
    if b'"chat.said"' not in frame or subjects.TEXT.encode() not in frame:
        raise RuntimeError(f"{subject.label} answered {frame!r}\n{server.log()[-4000:]}")
    return frame


def _table(kind: str, samples: Samples, rate: dict[str, float], cpu: dict[str, float]) -> Table:
    plain = subjects.PLAIN.label
    rows = []
    for label, found in samples.items():
        least = min(each[1] for each in found)
        times, saved = rate[label] / rate[plain], cpu[plain] / cpu[label]
        rows.append((label, show(rate[label]), f"{times:.2f}", show(cpu[label]), show(least), f"{saved:.2f}"))
    head = (kind, "messages/s", "this / plain", "CPU µs per message", "least", "plain / this")
    return Table(head=head, rows=rows)


def _goals(kind: str, rate: dict[str, float], cpu: dict[str, float]) -> list[Goal]:
    plain, typed, raw = subjects.PLAIN.label, subjects.TYPED.label, subjects.RAW.label
    messages, processor = BOUNDS[kind]
    goals = [
        Goal(name=f"sockets on {kind}: messages/s against plain", measured=rate[typed] / rate[plain], bound=messages),
        Goal(
            name=f"sockets on {kind}: CPU per message, plain against ours",
            measured=cpu[plain] / cpu[typed],
            bound=processor,
        ),
        Goal(name=f"sockets on {kind}: messages/s against raw ASGI", measured=rate[typed] / rate[raw], bound=0.85),
    ]
    relatives = [rate[subject.label] for subject in (subjects.CHANX, subjects.DCRF) if subject.label in rate]
    if relatives:
        name = f"sockets on {kind}: messages/s against the better of chanx and DCRF"
        goals.append(Goal(name=name, measured=rate[typed] / max(relatives), bound=1))
    return goals
