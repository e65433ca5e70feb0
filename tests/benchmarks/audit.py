"""The audit trail: what an event costs, how fast rows are stored and verified, and a database that is away."""

import asyncio
import tempfile
from pathlib import Path

from tests.benchmarks import audit_outage, audit_recording, audit_trails
from tests.benchmarks.report import Effort, Goal, Section, Table, show

MEMORY, SPOOL, DRAIN, VERIFY, LATENCY = 3.0, 15.0, 10_000, 20.0, 1.2
MILLION = 1_000_000
# The default of AUDIT_QUEUE_SIZE.
QUEUE = 10_000


def run(effort: Effort) -> Section:
    """Record, store and verify in turn; each database in a process of its own."""
    costs = asyncio.run(audit_recording.measure(effort.repeat(30, 5)))
    rows = effort.choose(MILLION, 50_000)
    trails = {name: audit_trails.measure(name, rows) for name in audit_trails.DATABASES}
    with tempfile.TemporaryDirectory(prefix="channels-secure-bench-") as directory:
        outage = audit_outage.measure(Path(directory), *effort.choose((MILLION, 60.0), (50_000, 5.0)))
    return Section(
        name="audit",
        title="The audit trail",
        tables=[_recording(costs), _trails(trails, rows), _outage(outage)],
        goals=_goals(costs, trails, rows, outage),
        notes=[
            "Recording is measured with logging off. A single event is a row of its own, another is added to a sum.",
            "Rows are stored and linked in batches of 500, beside batches that Django's `bulk_create` inserts raw.",
            "The flood: frames over their rate on ten sockets of one uvicorn process, at the same pace each time.",
            f"Rows that wait for the database take about a kilobyte each, and {QUEUE:,} may wait: that is the bound.",
        ],
    )


def _recording(costs: dict[str, float]) -> Table:
    plain = costs[audit_recording.PLAIN]
    rows = [(name, show(cost), f"{cost / plain:.3f}") for name, cost in costs.items()]
    return Table(head=("µs, median", "each", "of plain Channels' message"), rows=rows)


def _trails(trails: dict[str, audit_trails.Trail], rows: int) -> Table:
    lines = [
        ("rows stored and linked per second", *(show(each.stored) for each in trails.values())),
        ("rows inserted raw per second", *(show(each.raw) for each in trails.values())),
        ("raw / stored and linked", *(f"{each.raw / each.stored:.2f}" for each in trails.values())),
        ("events of a flood per second, recorded and stored", *(show(each.flood) for each in trails.values())),
        (f"seconds to verify {rows:,} rows", *(show(each.verified) for each in trails.values())),
        ("memory that verifying takes, MB", *(show(each.memory) for each in trails.values())),
    ]
    return Table(head=("trail", *trails), rows=lines)


def _outage(outage: audit_outage.Outage) -> Table:
    lines = [
        (
            name,
            f"{each.frames:,}",
            *(show(figure) for figure in (each.seconds, each.processor, each.median, each.worst)),
            f"{each.growth:+.1f}",
        )
        for name, each in outage.phases.items()
    ]
    head = ("PostgreSQL", "refusals", "s", "CPU of the server, s", "others' median, ms", "p99, ms", "memory, MB")
    return Table(head=head, rows=lines)


def _goals(
    costs: dict[str, float], trails: dict[str, audit_trails.Trail], rows: int, outage: audit_outage.Outage
) -> list[Goal]:
    memory = max(costs[audit_recording.SINGLE], costs[audit_recording.ADDED])
    spool = max(costs[audit_recording.SPOOLED_SINGLE], costs[audit_recording.SPOOLED_ADDED])
    goals = [
        Goal(name="audit: an event in memory", measured=memory, bound=MEMORY, unit=" µs", at_most=True),
        Goal(name="audit: an event with a spool", measured=spool, bound=SPOOL, unit=" µs", at_most=True),
        Goal(name="audit: rows a second, PostgreSQL", measured=trails["PostgreSQL"].stored, bound=DRAIN),
    ]
    for name, each in trails.items():
        million = each.verified * MILLION / rows
        goals.append(
            Goal(
                name=f"audit: a million rows verified, {name}", measured=million, bound=VERIFY, unit=" s", at_most=True
            )
        )
    goals += [
        Goal(name="audit: p99 beside an outage", measured=outage.ratio, bound=LATENCY, unit=" times", at_most=True),
        Goal(name="audit: refusals not counted exactly", measured=outage.miscounted, bound=0, at_most=True),
    ]
    return goals
