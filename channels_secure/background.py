"""Errands: things done once, in the background of the running event loop."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("channels_secure")

# An event loop keeps only weak references to its tasks, so that one nobody holds may vanish half-way.
_errands: dict[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = {}


def spawn(errand: Coroutine[Any, Any, Any]) -> None:
    """Run an errand as a task, keep it alive, and log what it raises; once the loop has ended it is left undone."""
    try:
        _ = start(errand)
    except RuntimeError:
        errand.close()
        logger.warning("errand.left_undone", extra={"errand": getattr(errand, "__qualname__", "")})


def start(errand: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """The same, for somebody who will look at the task.

    Raises:
        RuntimeError: no event loop is running.
    """
    loop = asyncio.get_running_loop()
    if loop not in _errands:
        _forget_closed_loops()
    task = loop.create_task(errand)
    _errands.setdefault(loop, set()).add(task)
    task.add_done_callback(_done)
    return task


def _done(task: asyncio.Task[Any]) -> None:
    loop = task.get_loop()
    errands = _errands.get(loop, set())
    errands.discard(task)
    if not errands:
        _errands.pop(loop, None)
    if not task.cancelled() and task.exception() is not None:
        logger.error("errand.failed", exc_info=task.exception())


def _forget_closed_loops() -> None:
    """A loop that was closed over a pending task never tells us that it is done."""
    for loop in list(_errands):
        if loop.is_closed():
            _errands.pop(loop, None)
