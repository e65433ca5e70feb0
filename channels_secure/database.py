"""The package's database work, on a few threads of its own.

Channels and Django's asynchronous ORM queue on the one thread-sensitive thread, where a single slow query of the
project stalls every handshake and every check. Our threads cannot be held up by it, and what changes rows has one
thread for itself: whoever waits for a lock holds up no handshake.
"""

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from django.db import OperationalError, close_old_connections, connections

P = ParamSpec("P")
T = TypeVar("T")

READERS, WRITERS, PROJECT = "channels_secure.read", "channels_secure.write", "channels_secure.project"
REVIEWERS = "channels_secure.review"
THREADS = {READERS: 2, WRITERS: 1, PROJECT: 2, REVIEWERS: 1}
# Seconds for which a thread keeps a connection that Django would close after each request (CONN_MAX_AGE = 0): opening
# it again takes longer than the queries.
LINGER = 0.02
CHECK_INTERVAL = 1.0
# While a database hangs, clients that time out and come again would fill the memory.
MAX_WAITING = 10_000

# Follows a receiver of our signals that is run by `async_to_sync`, in whatever thread that is.
_is_writing: ContextVar[bool] = ContextVar("channels_secure.is_writing", default=False)


class Workers(Executor):
    """Threads that nobody waits for at the end of the interpreter.

    Those of `concurrent.futures` are joined there: a database that hangs would keep the process from ending.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._jobs.qsize() >= MAX_WAITING:
            raise OperationalError("too much waits for the database")
        future: Future[T] = Future()
        self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    def end(self, seconds: float | None) -> None:
        """Let the threads end after what is queued, and wait so long for all; None is without limit."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        try:
            checked_at = -math.inf
            while (job := self._next()) is not None:
                if (now := time.monotonic()) - checked_at > CHECK_INTERVAL:
                    _tidy()
                    checked_at = now
                _settle(*job)
                # A thread that waits must not keep alive what it has done last.
                del job
        finally:
            _close_all()

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        try:
            return self._jobs.get(timeout=LINGER)
        except Empty:
            _tidy()
        return self._jobs.get()


def _tidy() -> None:
    """Django's own rule for connections outside a request: CONN_MAX_AGE and health checks are honoured."""
    try:
        close_old_connections()
    except Exception:  # noqa: BLE001 - a thread of ours outlives whatever a driver, or pytest-django, raises here
        _close_all()


def _close_all() -> None:
    for wrapper in connections.all(initialized_only=True):
        with suppress(Exception):
            wrapper.close()


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        # It may have been the connection's fault.
        _tidy()
        future.set_exception(error)
    else:
        future.set_result(result)


def _fresh(call: Callable[[], T]) -> T:
    _tidy()
    try:
        return call()
    finally:
        _tidy()


_workers: dict[str, Workers] = {}
_lock = threading.Lock()


def _pool(name: str) -> Workers:
    """Some workers, made at the first use so that importing the package starts no thread."""
    with _lock:
        if name not in _workers:
            _workers[name] = Workers(name, THREADS[name])
        return _workers[name]


def _forget() -> None:
    # Threads do not survive a fork, and a lock held by one of them would never be freed in the child.
    global _lock
    _lock = threading.Lock()
    _workers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


async def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that reads, outside the event loop and outside the project's threads.

    Raises:
        django.db.OperationalError: ten thousand others wait already.
    """
    return await asyncio.get_running_loop().run_in_executor(_pool(READERS), partial(function, *args, **kwargs))


async def ask_project(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for code of the project's, which may take its time: a permission must not hold up handshakes."""
    return await asyncio.get_running_loop().run_in_executor(_pool(PROJECT), partial(function, *args, **kwargs))


async def review(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for looks at many open sockets at once, which must not hold up handshakes either."""
    return await asyncio.get_running_loop().run_in_executor(_pool(REVIEWERS), partial(function, *args, **kwargs))


async def write(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that changes rows, after those that came before it."""
    if _is_writing.get():
        # The write whose turn it is waits for this one, which must not wait for its turn.
        return await asyncio.to_thread(_fresh, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_pool(WRITERS), partial(_write, function, *args, **kwargs))


def _write(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    _is_writing.set(True)
    return function(*args, **kwargs)


def write_last(function: Callable[[], object], seconds: float) -> None:
    """Run a function at the end of the interpreter, where no thread can be started any more.

    Raises:
        TimeoutError: it, or what the writing thread does before it, takes longer.
    """
    writers = _workers.get(WRITERS)
    if writers is not None:
        writers.submit(function).result(seconds)
        return
    try:
        function()
    finally:
        _close_all()


def is_running() -> bool:
    """Whether there are threads of ours."""
    return bool(_workers)


def shutdown(seconds: float | None = None) -> None:
    """End the threads once they have done what is queued, waiting so long for all; the next use starts new ones."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with _lock:
        ending = list(_workers.values())
        _workers.clear()
    for workers in ending:
        workers.end(None if deadline is None else max(0.0, deadline - time.monotonic()))
