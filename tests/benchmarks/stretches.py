"""What some work of the supervisor costs, with connections for it that no handshake has made."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from channels_secure.auth.base import Identity
from channels_secure.connections import Connection
from tests.benchmarks.report import Goal
from tests.standins import stand_in

# Milliseconds of the processor that the supervisor may take of a second, and of a stretch.
PASS, STRETCH = 50.0, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Milliseconds: until it was done, of the processor for the loop and for the process, and the longest stretch."""

    took: float
    loop: float
    process: float
    stretch: float


def goal(name: str, measured: float, bound: float) -> Goal:
    return Goal(name=name, measured=measured, bound=bound, unit=" ms", at_most=True)


async def watched(work: Callable[[], Awaitable[None]], left_out: Callable[[], float] = lambda: 0.0) -> Cost:
    """What some work costs; a stretch lies between two turns of the loop.

    A stretch counts by the processor, because how long others made it wait is not asked.

    Args:
        work: is begun when the watcher stands.
        left_out: seconds of the processor until now that no stretch is charged with.
    """
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        last = time.thread_time() - left_out()
        while not done:
            # With a pause: the watcher must not take the interpreter from the threads of the database.
            await asyncio.sleep(0.001)
            now = time.thread_time() - left_out()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    began, loop, process = time.perf_counter(), time.thread_time(), time.process_time()
    await work()
    took, loop, process = time.perf_counter() - began, time.thread_time() - loop, time.process_time() - process
    done = True
    await watcher
    return Cost(took=took * 1000, loop=loop * 1000, process=process * 1000, stretch=longest * 1000)


def accepted(user: Any, session_key: str, facts: dict[str, Any], **more: Any) -> Connection:
    """A user's open connection with these facts of a scope; nobody is at its other end."""

    async def send(event: Any) -> None:
        raise RuntimeError("nobody is there")

    return stand_in(facts, send, Identity(user=user, kind="session", session_key=session_key), **more)
