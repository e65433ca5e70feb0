"""The supervisor with 10,000 open sockets of 10,000 users in one process: a pass, and re-validating everybody.

Python's own collector stops everything when it looks at all objects: that is left out, because any allocation may bring
it about and only a project can forbid it (`gc.freeze`).
"""

import asyncio
import gc
import threading
import time
from typing import Any

from channels_secure import database
from channels_secure.conf import get_settings
from channels_secure.connections import Connection, registry
from channels_secure.supervisor import sweeping
from channels_secure.supervisor.revalidation import revalidate, schedule
from channels_secure.supervisor.rounds import Rounds, is_due
from tests.benchmarks.project import session_of
from tests.benchmarks.report import Effort, Section, Table, show
from tests.benchmarks.stretches import PASS, STRETCH, Cost, accepted, goal, watched


def run(effort: Effort) -> Section:
    count = effort.choose(10_000, 2_000)
    costs = asyncio.run(_measure(count))
    settings = get_settings()
    # It asks who is due at each pass, looks at the deadlines once a second, and re-validates everybody in an interval.
    second = costs[SWEEP].loop + costs[DUE].loop / settings.audit_flush_interval
    second += costs[ALL].loop / settings.revalidate_interval
    rows = [(name, show(cost.took), show(cost.loop), show(cost.stretch)) for name, cost in costs.items()]
    longest = max(cost.stretch for cost in costs.values())
    return Section(
        name="supervisor",
        title=f"The supervisor, {count:,} sockets in one process",
        tables=[Table(head=("ms", "until done", "of the loop's CPU", "longest stretch of the loop"), rows=rows)],
        goals=[
            goal("supervisor: CPU of a second", second, PASS),
            goal("supervisor: longest stretch", longest, STRETCH),
        ],
        notes=["Python's garbage collector is left out: a full run takes as long as the process has objects."],
    )


SWEEP, DUE, CHUNK, ALL = "deadlines looked at", "asked who is due", "500 re-validated", "all re-validated"


async def _measure(count: int) -> dict[str, Cost]:
    people = await asyncio.to_thread(_log_all_in, count)
    connections = [_open(user, key) for user, key in people]
    for each in connections:
        registry().add(each)
    walk = Rounds(registry())

    async def sweep() -> None:
        await sweeping.sweep(registry(), time.monotonic())

    async def all_at_once() -> None:
        await revalidate(connections)

    async def one_chunk() -> None:
        await revalidate(connections[:500])

    costs = {}
    for name, work in ((SWEEP, sweep), (DUE, walk.go), (CHUNK, one_chunk), (ALL, all_at_once)):
        with _Collections() as collections:
            costs[name] = await watched(work, collections.so_far)
    if any(each.ended or is_due(each, time.monotonic()) for each in connections):
        raise RuntimeError("not everybody was re-validated")
    for each in connections:
        each.task.cancel()
    database.shutdown()
    return costs


class _Collections:
    """The seconds of the processor that the collector takes on the loop's own thread."""

    def __init__(self) -> None:
        self.total = self.began = 0.0

    def __enter__(self) -> "_Collections":
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def so_far(self) -> float:
        return self.total

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self.began = time.thread_time()
            return
        if threading.current_thread() is threading.main_thread():
            self.total += time.thread_time() - self.began


def _log_all_in(count: int) -> list[tuple[Any, str]]:
    from django.contrib.auth import get_user_model
    from django.contrib.sessions.backends.db import SessionStore

    model = get_user_model()
    users = model.objects.bulk_create([model(username=f"user{number}", password="x") for number in range(count)])
    store, rows = SessionStore(), []
    for number, user in enumerate(users):
        key = f"session{number:025d}"
        ends = store.get_expiry_date(expiry=None)
        rows.append(store.model(session_key=key, session_data=store.encode(session_of(user)), expire_date=ends))
    store.model.objects.bulk_create(rows, batch_size=1000)
    return [(user, row.session_key) for user, row in zip(users, rows, strict=True)]


def _open(user: Any, key: str) -> Connection:
    facts = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "client": None}
    # Severing it would cancel the task.
    connection = accepted(user, key, facts, task=asyncio.create_task(asyncio.Event().wait()))
    schedule(connection, time.monotonic())
    return connection
