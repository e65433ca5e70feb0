"""Floods of refusals: what each costs, what the audit trail keeps of them, and whether memory stays flat."""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
from django.db.models import Max, Sum
from django.test import override_settings

from channels_secure import audit
from channels_secure.audit.volume import ROWS_PER_MINUTE
from channels_secure.models import AuditEvent
from tests.benchmarks import subjects
from tests.benchmarks.local import scope
from tests.benchmarks.project import GENEROUS, ORIGIN, log_in
from tests.benchmarks.report import Effort, Goal, Section, Table, show

ADDRESSES = 10_000
# Nothing closes the socket and nobody is blocked, so that the flood is as long as it can be.
ENDLESS = {**GENEROUS, "ERROR_BUDGET": None, "AUTO_BLOCK_AFTER": None, "AUDIT_ADMISSIONS": False}
NOTES = (
    f"Messages on one socket with `ERROR_BUDGET = None`; each handshake from one of {ADDRESSES:,} addresses.",
    "Memory is what the process grew by between the first tenth of the flood and its end.",
    f"Each minute of the clock allows {ROWS_PER_MINUTE} rows, and one more for each reason that sums up the rest.",
)
# What an allocator may keep though nothing is kept.
FLAT = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One flood, over."""

    label: str
    microseconds: float
    sent: int
    counted: int
    rows: int
    rows_allowed: int
    growth: float


class Flood:
    """A client of one socket that sends equal frames as fast as they are taken, and counts what comes back."""

    def __init__(self, text: str, count: int, mark: Callable[[int], None]) -> None:
        self.text, self.left, self.mark = text, count, mark
        self.greeted = False
        self.said = 0
        self.refused = False

    async def receive(self) -> dict[str, Any]:
        if not self.greeted:
            self.greeted = True
            return {"type": "websocket.connect"}
        if not self.left:
            return {"type": "websocket.disconnect", "code": 1000}
        self.left -= 1
        self.mark(self.left)
        return {"type": "websocket.receive", "text": self.text}

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] in ("websocket.close", "websocket.http.response.start"):
            self.refused = True
        elif event["type"] == "websocket.send" and '"chat.said"' in event["text"]:
            self.said += 1


class Memory:
    """The process's resident set after a tenth of a flood, when all that is kept is there, and at its end."""

    def __init__(self, count: int) -> None:
        self.at = count - count // 10
        self.first = 0

    def mark(self, left: int) -> None:
        if left == self.at:
            self.first = _resident()

    def growth(self) -> float:
        return (_resident() - self.first) / 1024 / 1024


def run(effort: Effort) -> Section:
    """Run four floods, each once: two of messages, two of handshakes."""
    count = effort.choose(100_000, 5_000)
    found = asyncio.run(_measure(count))
    rows = [
        (
            each.label,
            show(each.microseconds),
            f"{each.sent:,}",
            f"{each.counted:,}",
            f"{each.rows:,}",
            f"{each.rows_allowed:,}",
            f"{each.growth:+.1f}",
        )
        for each in found
    ]
    head = ("flood", "µs each", "refused", "counted in the trail", "rows", "rows allowed", "memory, MB")
    return Section(
        name="flood",
        title=f"Floods of {count:,} refusals",
        tables=[Table(head=head, rows=rows)],
        goals=[
            Goal(name="flood: refusals not counted exactly", measured=_miscounted(found), bound=0, at_most=True),
            Goal(name="flood: rows above the volume rule", measured=_excess(found), bound=0, at_most=True),
            Goal(
                name="flood: growth of memory",
                measured=max(f.growth for f in found),
                bound=FLAT,
                unit=" MB",
                at_most=True,
            ),
        ],
        notes=NOTES,
    )


async def _measure(count: int) -> list[Found]:
    cookie = await asyncio.to_thread(log_in)
    slow = {"MESSAGE_RATES": {"connection": "20/s"}}
    few = {"HANDSHAKE_RATES": {"ip": "5/m"}}
    return [
        await _flood("messages that are not JSON", {}, count, lambda memory: _messages("{", cookie, count, memory)),
        await _flood(
            "messages over their rate",
            slow,
            count,
            lambda memory: _messages(subjects.TYPED.text, cookie, count, memory),
        ),
        await _flood(
            "handshakes from another origin", {}, count, lambda memory: _handshakes("https://evil.test", count, memory)
        ),
        await _flood("handshakes of nobody, 5/m", few, count, lambda memory: _handshakes(ORIGIN, count, memory)),
    ]


async def _flood(
    label: str, settings: Mapping[str, Any], count: int, run_flood: Callable[[Memory], Awaitable[int]]
) -> Found:
    """Run one flood under its settings and look at what the audit trail has of it."""
    audit.reset()
    last = (await AuditEvent.objects.aaggregate(Max("pk")))["pk__max"] or 0
    with override_settings(CHANNELS_SECURE={**ENDLESS, **settings}):
        memory = Memory(count)
        minute, started = int(time.time() // 60), time.perf_counter()
        refused = await run_flood(memory)
        seconds = time.perf_counter() - started
        await audit.flush()
        growth = memory.growth()
        minutes = int(time.time() // 60) - minute + 1
    kept = AuditEvent.objects.filter(pk__gt=last)
    reasons = {reason async for reason in kept.values_list("kind", "reason")}
    return Found(
        label=label,
        microseconds=seconds / count * 1e6,
        sent=refused,
        counted=(await kept.aaggregate(Sum("count")))["count__sum"] or 0,
        rows=await kept.acount(),
        rows_allowed=(ROWS_PER_MINUTE + len(reasons)) * minutes,
        growth=growth,
    )


async def _messages(text: str, cookie: str, count: int, memory: Memory) -> int:
    """Flood one socket; return how many messages had no handler's answer."""
    flood = Flood(text, count, memory.mark)
    await subjects.application(scope(subjects.TYPED.path, cookie), flood.receive, flood.send)
    if flood.left:
        raise RuntimeError(f"the socket ended with {flood.left} messages left")
    return count - flood.said


async def _handshakes(origin: str, count: int, memory: Memory) -> int:
    """Try to connect without credentials, from one address after the other; return how often that was refused."""
    refused = 0
    for number in range(count):
        memory.mark(count - number)
        flood = Flood("", 0, memory.mark)
        place = number % ADDRESSES
        client = f"198.18.{place // 256}.{place % 256}"
        connection = scope(subjects.TYPED.path, client=client, origin=origin)
        await subjects.application(connection, flood.receive, flood.send)
        refused += flood.refused
    return refused


def _resident() -> int:
    gc.collect()
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _miscounted(found: list[Found]) -> int:
    return sum(abs(each.sent - each.counted) for each in found)


def _excess(found: list[Found]) -> int:
    return sum(max(0, each.rows - each.rows_allowed) for each in found)
