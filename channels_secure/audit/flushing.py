"""Writing what was recorded: when, in which thread, and what becomes of it while nothing can be written."""

import asyncio
import logging
import threading
import time
from functools import partial

from django.db import Error as DatabaseTrouble
from django.db import connections, router, transaction

from channels_secure import database
from channels_secure.audit import chain, spool, spooling, writer
from channels_secure.audit.recorder import record, state, tell
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent

logger = logging.getLogger("channels_secure")

# Seconds.
RETRY_INTERVAL = 0.1
EXIT_PATIENCE = 5.0


class _Writing:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.is_unwritable = False
        self.is_spool_failing = False


_writing = _Writing()
reset = _writing.reset


def pending() -> bool:
    """Whether anything waits to be written."""
    return len(state.volume) > 0


def queue_size() -> int:
    """How many rows wait to be written."""
    return len(state.volume)


def is_writable() -> bool:
    """Whether the database took what it was given last."""
    return not _writing.is_unwritable


async def flush() -> None:
    """Write what waits, in a thread; what cannot be written now stays for the next time."""
    with state.lock:
        state.volume.turn(time.time(), get_settings().audit_queue_size)
    _tell_of_spool()
    if pending() or chain.is_due() or spooling.is_due():
        await database.write(flush_now)


async def flush_all(seconds: float) -> int:
    """Write until nothing waits any more, for at most so many seconds; returns how many rows are left.

    It ends the sums of the minute, and leaves to others what the dead have left: the process is expected to end.
    """
    _tell_of_spool()
    try:
        async with asyncio.timeout(seconds):
            while not _is_done():
                await database.write(_write, is_last=True)
                if _writing.is_unwritable:
                    await asyncio.sleep(RETRY_INTERVAL)
    except TimeoutError as error:
        _log_trouble(error)
    return len(state.volume)


def flush_now() -> None:
    """Write what waits, in this thread. When it returns, everything recorded before is stored or kept.

    Inside a transaction of the project's it is done when that has been committed: what a rollback takes with it would
    be lost, and the chain's lock would be held until then.
    """
    using = router.db_for_write(AuditEvent)
    if _is_in_transaction(using):
        transaction.on_commit(flush_now, using=using, robust=True)
    else:
        _write()


def flush_at_exit() -> None:
    """Write what waits before the interpreter ends, for some seconds at most where a server runs."""
    _tell_of_spool()
    if _is_done():
        return
    try:
        database.write_last(partial(_write, is_last=True), EXIT_PATIENCE)
    except TimeoutError as error:
        _log_trouble(error)
    except Exception:
        logger.exception("audit.flush_failed")
    if not _is_done():
        log_rest(len(state.volume))


def log_rest(rows: int) -> None:
    """Say what becomes of rows that could not be written when the process ends."""
    if get_settings().audit_spool_dir is not None and not spooling.error():
        logger.warning("audit.left_in_spool", extra={"rows": rows})
    else:
        logger.error("audit.lost", extra={"rows": rows})


def _is_done() -> bool:
    """Whether a process that ends has nothing left to write; then its spool goes too."""
    with state.lock:
        state.volume.end()
        if len(state.volume):
            return False
        spooling.leave()
    return True


def _write(*, is_last: bool = False) -> None:
    _tell_of_spool()
    tell()
    with _writing.lock:
        with state.lock:
            rows = state.volume.take()
            mark = spooling.turn(is_calm=not _writing.is_unwritable)
        try:
            for start in range(0, len(rows), writer.BATCH):
                writer.store(rows[start : start + writer.BATCH])
            if not is_last:
                _take_over()
            chain.catch_up(is_last=is_last)
        except DatabaseTrouble as error:
            _log_trouble(error)
        else:
            _log_recovery()
        finally:
            with state.lock:
                unwritten = [row for row in rows if not row.stored]
                state.volume.settle(unwritten)
                spooling.prune()
                done = [] if unwritten else spooling.forget(mark)
            spool.delete(done)


def _is_in_transaction(using: str) -> bool:
    """Whether this thread is in a transaction; the one that Django's test case is wrapped in does not count."""
    blocks = connections[using].atomic_blocks
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


def _take_over() -> None:
    """Store what a process that has died has left, if there is one."""
    events = spooling.adopt()
    if events:
        record("audit.recovered", detail={"events": events})


def _tell_of_spool() -> None:
    """Record that the spool fails, or works again; never where it was noticed, which is inside the recorder's lock."""
    error = spooling.error()
    with state.lock:
        is_news = bool(error) != _writing.is_spool_failing
        _writing.is_spool_failing = bool(error)
    if is_news and error:
        logger.error("audit.spool_failed", extra={"error": error})
        record("store.degraded", detail={"store": "spool", "error": error})
    elif is_news:
        logger.warning("audit.spool_works")
        record("store.recovered", detail={"store": "spool"})


def _log_trouble(error: Exception) -> None:
    if not _writing.is_unwritable:
        logger.error("audit.unwritable", extra={"error": type(error).__name__})
    _writing.is_unwritable = True


def _log_recovery() -> None:
    if _writing.is_unwritable:
        logger.warning("audit.writable")
    _writing.is_unwritable = False
