"""Errands: things done once, in the background of the running event loop."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("channels_secure")

# The loop keeps only weak references to its tasks, so that one nobody holds may vanish half-way.
_errands: set[asyncio.Task[Any]] = set()


def spawn(errand: Coroutine[Any, Any, Any]) -> None:
    """Run an errand as a task, keep it alive, and log what it raises."""
    _ = start(errand)


def start(errand: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """The same, for somebody who will look at the task."""
    task = asyncio.get_running_loop().create_task(errand)
    _errands.add(task)
    task.add_done_callback(_done)
    return task


def _done(task: asyncio.Task[Any]) -> None:
    _errands.discard(task)
    if not task.cancelled() and task.exception() is not None:
        logger.error("errand.failed", exc_info=task.exception())
