"""What an idle connection keeps in memory, by the growth of a server process."""

import contextlib
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.benchmarks import subjects, wire
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, show
from tests.benchmarks.subjects import Subject
from tests.live.servers import KINDS, ServerKind

ROWS = (subjects.PLAIN, subjects.PLAIN_MEMBER, subjects.TYPED, subjects.TYPED_MEMBER, subjects.RAW)
QUICK_ROWS = (subjects.PLAIN, subjects.TYPED)
# Opened before anything is measured: what the first connections bring is not theirs alone.
FIRST = 50
SETTLE = 1.0


def run(effort: Effort) -> Section:
    """Measure every subject on each server, each time in a process of its own."""
    subjects_now = effort.choose(ROWS, QUICK_ROWS)
    found = {
        (kind, subject.label): median(_grow(kind, subject, effort) for _ in range(effort.repeat(1, 1)))
        for kind in reversed(KINDS)
        for subject in subjects_now
    }
    rows = []
    for subject in subjects_now:
        row = [subject.label]
        for kind in reversed(KINDS):
            size = found[kind, subject.label]
            row += [show(size), f"{size / found[kind, subjects.PLAIN.label]:.2f}"]
        rows.append(tuple(row))
    head = ("kB per idle connection", *(cell for kind in reversed(KINDS) for cell in (kind, "this / plain")))
    return Section(
        name="memory",
        title="Memory of an idle connection",
        tables=[Table(head=head, rows=rows)],
        goals=[_goal(kind, found) for kind in reversed(KINDS)],
        notes=["Growth of the resident set between the first connections and a thousand more, with a session each."],
        charts=[_chart(found)],
    )


def _grow(kind: ServerKind, subject: Subject, effort: Effort) -> float:
    """Return the kilobytes by which one more connection makes the process grow."""
    count = effort.choose(1_000, 200)
    cookie = log_in()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(wire.serve(kind, directory))
        process = wire.process_of(server)
        first = wire.open_sockets(server, subject.path, cookie, FIRST)
        stack.callback(wire.close_all, first)
        time.sleep(SETTLE)  # until what follows an accept, such as its rows, is done: nothing tells a client when
        before = process.memory_info().rss
        stack.callback(wire.close_all, wire.open_sockets(server, subject.path, cookie, count))
        time.sleep(SETTLE)  # until what follows the other accepts is done as well
        return float(process.memory_info().rss - before) / count / 1024


def _goal(kind: ServerKind, found: dict[tuple[ServerKind, str], float]) -> Goal:
    ratio = found[kind, subjects.TYPED.label] / found[kind, subjects.PLAIN.label]
    return Goal(name=f"memory on {kind}: idle connection against plain", measured=ratio, bound=0.8, at_most=True)


def _chart(found: dict[tuple[ServerKind, str], float]) -> Chart:
    bars = [(label, size) for (kind, label), size in found.items() if kind == "uvicorn"]
    return Chart(name="memory", title="kB per idle connection, uvicorn", bars=bars)
