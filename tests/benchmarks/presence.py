"""The table of open sockets: what it costs a process that has 10,000 of them, and what its event loop feels of it."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

from django.contrib.auth import get_user_model

from channels_secure import database
from channels_secure.connections import Connection, Registry
from channels_secure.supervisor import presence
from tests.benchmarks.local import scope
from tests.benchmarks.report import Effort, Section, Table, show
from tests.benchmarks.stretches import PASS, STRETCH, Cost, accepted, goal, watched


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
                rows=[
                    (name, show(cost.took), show(cost.loop), show(cost.process), show(cost.stretch))
                    for name, cost in costs.items()
                ],
            )
        ],
        goals=[
            goal("presence, CPU of the event loop in a second", loop, PASS),
            goal("presence, longest stretch of the loop", stretch, STRETCH),
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
    return accepted(user, f"session{number}", scope("/ws/", client=f"10.0.{number >> 8}.{number & 255}"))


async def _watched(work: Callable[[], Awaitable[None]]) -> Cost:
    # Python's collector stops everything when it looks at all objects: any allocation may bring that about, here too.
    gc.collect()
    gc.freeze()
    return await watched(work)
