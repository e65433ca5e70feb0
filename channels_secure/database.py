"""The package's database work, on a small thread pool of its own.

Channels and Django's asynchronous ORM queue on the one thread-sensitive thread, where a single slow query of the
project stalls every handshake and every check. Two threads of our own cannot be held up by it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 2
_pool: ThreadPoolExecutor | None = None


def pool() -> ThreadPoolExecutor:
    """The pool, made at the first use so that importing the package starts no thread and a fork inherits none."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="channels_secure")
    return _pool


async def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that uses the ORM, outside the event loop and outside the project's threads."""
    return await asyncio.get_running_loop().run_in_executor(pool(), lambda: _fresh(function, *args, **kwargs))


def _fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    # Django's own rule for connections outside a request: CONN_MAX_AGE and health checks are honoured.
    close_old_connections()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()


def shutdown() -> None:
    """Wait for work under way and end the threads; the next `run` starts new ones."""
    global _pool
    if _pool is not None:
        _pool.shutdown(wait=True)
        _pool = None
