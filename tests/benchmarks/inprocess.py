"""What one message costs, in process: no socket, no client, nothing but the application."""

import asyncio
import gc
import time
from contextlib import AsyncExitStack
from statistics import median

from tests.benchmarks import subjects
from tests.benchmarks.local import Peer, scope
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, show

ROWS = (
    subjects.PLAIN, subjects.CHANX, subjects.DCRF, subjects.TYPED, subjects.TYPED_MEMBER, subjects.DROP_IN,
    subjects.RAW,
)  # fmt: skip
# Batches of about the same length, so that a busy moment of the machine hits all alike.
SLOW = (subjects.PLAIN, subjects.CHANX, subjects.DCRF)
MESSAGES, MESSAGES_OF_SLOW = 5_000, 100
WARM_UP = 50
SETTLE = 0.02

Samples = dict[str, list[tuple[float, float]]]


def run(effort: Effort) -> Section:
    """Measure every subject in interleaved rounds."""
    samples = asyncio.run(_measure(effort.repeat(40, 6)))
    wall = {label: median(each[0] for each in found) for label, found in samples.items()}
    cpu = {label: median(each[1] for each in found) for label, found in samples.items()}
    plain = subjects.PLAIN.label
    rows = []
    for label, found in samples.items():
        least = min(each[0] for each in found)
        times = wall[plain] / wall[label]
        rows.append((label, show(wall[label]), show(least), show(cpu[label]), f"{times:.1f}"))
    return Section(
        name="inprocess",
        title="One message, in process",
        tables=[Table(head=("µs per message", "median", "least", "CPU, median", "plain / this"), rows=rows)],
        goals=_goals(wall),
        notes=_notes(),
        charts=[Chart(name="inprocess", title="µs per message in process, median", bars=list(wall.items()))],
    )


async def _measure(rounds: int) -> Samples:
    samples: Samples = {subject.label: [] for subject in ROWS}
    cookie = await asyncio.to_thread(log_in)
    async with AsyncExitStack() as stack:
        peers = {
            subject.label: await stack.enter_async_context(Peer(subjects.application, scope(subject.path, cookie)))
            for subject in ROWS
        }
        for subject in ROWS:
            await peers[subject.label].exchange(subject.text, WARM_UP)
        for _ in range(rounds):
            for subject in ROWS:
                samples[subject.label].append(await _batch(peers[subject.label], subject))
    return samples


async def _batch(peer: Peer, subject: subjects.Subject) -> tuple[float, float]:
    """Return the microseconds per message: by the clock, and of this process's CPUs."""
    count = MESSAGES_OF_SLOW if subject in SLOW else MESSAGES
    # Whoever was measured before may have something to finish.
    await asyncio.sleep(SETTLE)
    gc.collect()
    before = time.process_time()
    seconds = await peer.exchange(subject.text, count)
    used = time.process_time() - before
    return seconds / count * 1e6, used / count * 1e6


def _goals(wall: dict[str, float]) -> list[Goal]:
    plain, typed = wall[subjects.PLAIN.label], wall[subjects.TYPED.label]
    return [
        Goal(name="message: plain against typed, every guard on", measured=plain / typed, bound=40, unit=" times"),
        Goal(name="message: typed, median", measured=typed, bound=9, unit=" µs", at_most=True),
        Goal(
            name="message: drop-in, median", measured=wall[subjects.DROP_IN.label], bound=12, unit=" µs", at_most=True
        ),
    ]


def _notes() -> list[str]:
    return [
        "Ours: size, JSON, duplicate keys, depth, schema, a rate per connection, one per user, deadlines, dispatch.",
        "Plain Channels, and what is built on it, waits for a thread at every message (`aclose_old_connections`).",
    ]
