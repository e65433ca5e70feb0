"""The supervisor with 10,000 open sockets of 10,000 users in one process: a pass, and re-validating everybody.

Python's own collector stops everything when it looks at all objects: that is left out, because any allocation may bring
it about and only a project can forbid it (`gc.freeze`).
"""

import asyncio
import gc
import threading
import time
from dataclasses import dataclass
from typing import Any

from channels_secure import database
from channels_secure.conf import get_settings
from channels_secure.connections import registry
from channels_secure.supervisor import sweeping
from channels_secure.supervisor.revalidation import revalidate
from channels_secure.supervisor.rounds import Rounds, is_due
from tests.benchmarks.report import Effort, Goal, Section, Table, show

# Milliseconds of the processor that the supervisor may take of a second, and of a stretch.
PASS, STRETCH = 50.0, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Milliseconds: until it was done, of the processor, and the longest stretch of the loop."""

    took: float
    processor: float
    stretch: float


def run(effort: Effort) -> Section:
    count = effort.choose(10_000, 2_000)
    costs = asyncio.run(_measure(count))
    settings = get_settings()
    # It asks who is due at each pass, looks at the deadlines once a second, and re-validates everybody in an interval.
    second = costs[SWEEP].processor + costs[DUE].processor / settings.audit_flush_interval
    second += costs[ALL].processor / settings.revalidate_interval
    rows = [(name, show(cost.took), show(cost.processor), show(cost.stretch)) for name, cost in costs.items()]
    longest = max(cost.stretch for cost in costs.values())
    return Section(
        name="supervisor",
        title=f"The supervisor, {count:,} sockets in one process",
        tables=[Table(head=("ms", "until done", "of the loop's CPU", "longest stretch of the loop"), rows=rows)],
        goals=[
            Goal(name="supervisor: CPU of a second", measured=second, bound=PASS, unit=" ms", at_most=True),
            Goal(name="supervisor: longest stretch", measured=longest, bound=STRETCH, unit=" ms", at_most=True),
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
            costs[name] = await _watched(work, collections)
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

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self.began = time.thread_time()
            return
        if threading.current_thread() is threading.main_thread():
            self.total += time.thread_time() - self.began


async def _watched(work: Any, collections: _Collections) -> Cost:
    """What some work costs; stretches lie between two turns of the loop."""
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        # Of the processor: how long others made the machine wait is not the question.
        last, collected = time.thread_time(), collections.total
        while not done:
            # With a pause: the watcher must not take the interpreter from the thread that reads.
            await asyncio.sleep(0.001)
            now, collecting = time.thread_time(), collections.total - collected
            longest = max(longest, now - last - collecting)
            last, collected = now, collections.total

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    began, used = time.perf_counter(), time.thread_time()
    await work()
    took, processor = time.perf_counter() - began, time.thread_time() - used
    done = True
    await watcher
    return Cost(took=took * 1000, processor=processor * 1000, stretch=longest * 1000)


def _log_all_in(count: int) -> list[tuple[Any, str]]:
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.backends.db import SessionStore

    model = get_user_model()
    users = model.objects.bulk_create([model(username=f"user{number}", password="x") for number in range(count)])
    store, rows = SessionStore(), []
    for number, user in enumerate(users):
        data = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        key = f"session{number:025d}"
        ends = store.get_expiry_date(expiry=None)
        rows.append(store.model(session_key=key, session_data=store.encode(data), expire_date=ends))
    store.model.objects.bulk_create(rows, batch_size=1000)
    return [(user, row.session_key) for user, row in zip(users, rows, strict=True)]


def _open(user: Any, key: str) -> Any:
    from channels_secure.auth.base import Identity
    from channels_secure.connections import Connection
    from channels_secure.limits import limits_of
    from channels_secure.middleware import read_handshake
    from channels_secure.supervisor.revalidation import schedule

    settings = get_settings()
    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "client": None}

    async def nothing(*_: Any) -> Any:
        await asyncio.Event().wait()

    connection = Connection(
        handshake=read_handshake(scope, settings),
        scope=scope,
        server_receive=nothing,
        server_send=nothing,
        settings=settings,
        limits=limits_of(settings),
        task=asyncio.create_task(nothing()),
    )
    connection.accepted = True
    connection.identify(Identity(user=user, kind="session", session_key=key))
    schedule(connection, time.monotonic())
    return connection
