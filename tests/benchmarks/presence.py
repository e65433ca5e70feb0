"""The table of open sockets: what it costs a process that has 10,000 of them, and what its event loop feels of it."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model

from channels_secure import database
from channels_secure.auth.base import Identity
from channels_secure.conf import get_settings
from channels_secure.connections import Connection, Registry
from channels_secure.limits import limits_of
from channels_secure.middleware import read_handshake
from channels_secure.supervisor import presence
from tests.benchmarks.local import scope
from tests.benchmarks.report import Effort, Goal, Section, Table, show

# What the supervisor may take of a second, and of a stretch.
PASS, STRETCH = 50.0, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Milliseconds: until it was done, of the processor for the loop and for the process, and the longest stretch."""

    took: float
    loop: float
    process: float
    stretch: float

    def row(self, name: str) -> tuple[str, ...]:
        return name, *(show(value) for value in (self.took, self.loop, self.process, self.stretch))


def run(effort: Effort) -> Section:
    count = effort.choose(10_000, 2_000)
    costs = asyncio.run(_measure(count))
    database.shutdown()
    seconds = presence.REFRESH_INTERVAL
    # In ten seconds there are nine looks that find nothing, and one that finds what everybody has received.
    loop = (costs["a look, nothing new"].loop * (seconds - 1) + costs["a look, everybody was heard"].loop) / seconds
    stretch = max(costs[name].stretch for name in ("a look, nothing new", "a look, everybody was heard"))
    return Section(
        name="presence",
        title=f"The table of open sockets, {count:,} in one process",
        tables=[
            Table(
                head=("", "ms", "of the loop's CPU", "of the process's CPU", "longest stretch of the loop"),
                rows=[cost.row(name) for name, cost in costs.items()],
            )
        ],
        goals=[
            Goal(
                name="presence, CPU of the event loop in a second", measured=loop, bound=PASS, unit=" ms", at_most=True
            ),
            Goal(
                name="presence, longest stretch of the loop", measured=stretch, bound=STRETCH, unit=" ms", at_most=True
            ),
        ],
        notes=["Rows are made and written in the writing thread; SQLite, so that its work is in the process's figure."],
    )


async def _measure(count: int) -> dict[str, Cost]:
    model = get_user_model()
    users = await database.run(
        lambda: model.objects.bulk_create([model(username=f"present{number}") for number in range(count)])
    )
    registry = Registry()
    for number, user in enumerate(users):
        registry.add(_open(user, number))
    table = presence.Presence(registry)

    async def look(*, refreshes: bool) -> None:
        table._looked_at = time.monotonic() - presence.LOOK_INTERVAL
        table._refreshed_at = 0.0 if refreshes else time.monotonic()
        await table.look()

    costs = {"the first look, all are new": await _watched(lambda: look(refreshes=False))}
    costs["a look, nothing new"] = await _watched(lambda: look(refreshes=False))
    for connection in registry:
        connection.heard_at += 1
        connection.received += 1
    costs["a look, everybody was heard"] = await _watched(lambda: look(refreshes=True))
    for connection in registry:
        registry.discard(connection)
    costs["the last look, all are gone"] = await _watched(lambda: look(refreshes=False))
    return costs


def _open(user: Any, number: int) -> Connection:
    settings = get_settings()
    facts = scope("/ws/", client=f"10.0.{number >> 8}.{number & 255}")

    async def nothing(*_: Any) -> Any:
        raise RuntimeError("nobody is there")

    connection = Connection(
        handshake=read_handshake(facts, settings),
        scope=facts,
        server_receive=nothing,
        server_send=nothing,
        settings=settings,
        limits=limits_of(settings),
    )
    connection.identify(Identity(user=user, kind="session", session_key=f"session{number}"))
    connection.accepted = True
    return connection


async def _watched(work: Callable[[], Awaitable[None]]) -> Cost:
    """What some work costs; a stretch counts by the processor, because how long others made it wait is not asked."""
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        last = time.thread_time()
        while not done:
            # With a pause: the watcher must not take the interpreter from the thread that writes.
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.thread_time() - last), time.thread_time()

    # Python's collector stops everything when it looks at all objects: any allocation may bring that about, here too.
    gc.collect()
    gc.freeze()
    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    began, loop, process = time.perf_counter(), time.thread_time(), time.process_time()
    await work()
    took, loop, process = time.perf_counter() - began, time.thread_time() - loop, time.process_time() - process
    done = True
    await watcher
    return Cost(took=took * 1000, loop=loop * 1000, process=process * 1000, stretch=longest * 1000)
