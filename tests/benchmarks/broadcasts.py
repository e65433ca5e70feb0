"""One message to a thousand members of one process, all of whom read, and then with one who does not."""

import asyncio
import gc
import time
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

from tests.benchmarks import subjects
from tests.benchmarks.local import Peer, scope
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, show
from tests.benchmarks.subjects import PLAIN_MEMBER, TYPED_MEMBER, Subject

# Consumers have more to do when their frame has been sent; the next round is not to wait for that.
SETTLE = 0.3
NOTES = (
    "In process, with the in-memory layer. Plain is `group_send` and `send_json` in each member's handler.",
    "Where one member does not read, the time is until the other members have it.",
)
STUCK = ", one member does not read"


class StuckPeer(Peer):
    """A client that never reads: whoever sends to it waits until the connection ends."""

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] == "websocket.send":
            await asyncio.Event().wait()
        await super().send(event)

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


def run(effort: Effort) -> Section:
    """Measure plain Channels and ours, in interleaved rounds."""
    members = effort.choose(1_000, 300)
    times = asyncio.run(_measure(members, effort.repeat(9, 3)))
    middle = {label: median(found) for label, found in times.items()}
    plain = middle[PLAIN_MEMBER.label]
    rows = [
        (label, show(middle[label]), show(min(found)), f"{plain / middle[label]:.1f}") for label, found in times.items()
    ]
    return Section(
        name="broadcast",
        title=f"A broadcast to {members:,} members of one process",
        tables=[Table(head=("ms until the last has it", "median", "least", "plain / this"), rows=rows)],
        goals=_goals(middle),
        notes=NOTES,
        charts=[Chart(name="broadcast", title=f"ms for {members:,} members", bars=list(middle.items()))],
    )


async def _measure(members: int, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    cookie = await asyncio.to_thread(log_in)
    async with AsyncExitStack() as stack:
        lanes = []
        for subject in (PLAIN_MEMBER, TYPED_MEMBER):
            peers = [Peer(subjects.application, scope(subject.path, cookie)) for _ in range(members)]
            for peer in peers:
                await stack.enter_async_context(peer)
            lanes.append((subject, peers))
        for suffix in ("", STUCK):
            for _ in range(rounds):
                for subject, peers in lanes:
                    times.setdefault(subject.label + suffix, []).append(await _deliver(subject, peers))
            if not suffix:
                for subject, _ in lanes:
                    await stack.enter_async_context(StuckPeer(subjects.application, scope(subject.path, cookie)))
    return times


async def _deliver(subject: Subject, peers: list[Peer]) -> float:
    """Return the milliseconds until every peer has one more frame."""
    await asyncio.sleep(SETTLE)
    gc.collect()
    for peer in peers:
        peer.expect(1)
    started = time.perf_counter()
    await (subjects.plain_broadcast if subject is PLAIN_MEMBER else subjects.secure_broadcast)()
    last = max([await peer.arrived() for peer in peers])
    return (last - started) * 1000


def _goals(middle: dict[str, float]) -> list[Goal]:
    ours = middle[TYPED_MEMBER.label]
    return [
        Goal(name="broadcast: plain against ours", measured=middle[PLAIN_MEMBER.label] / ours, bound=40, unit=" times"),
        Goal(
            name="broadcast: what a member that does not read adds for others",
            measured=max(0.0, middle[TYPED_MEMBER.label + STUCK] / ours - 1) * 100,
            bound=25,
            unit=" %",
            at_most=True,
        ),
    ]
