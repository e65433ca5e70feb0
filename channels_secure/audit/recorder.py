"""Recording: from any thread, in microseconds, without waiting and without ever raising."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypedDict, Unpack

from django.db import Error as DatabaseTrouble
from django.db import router, transaction

from channels_secure import database
from channels_secure.audit import plain, writer
from channels_secure.audit.volume import Row, Volume
from channels_secure.conf import Settings, get_settings
from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import IPAddress, bucket, parse_address

logger = logging.getLogger("channels_secure")

BATCH_SIZE = 500
# Seconds.
RETRY_INTERVAL = 0.1
EXIT_PATIENCE = 5.0
ADMISSIONS = frozenset({"connection.accepted", "connection.closed"})
REFUSALS = frozenset(
    {"handshake.denied", "message.denied", "credentials.failed", "policy.would_deny", "store.degraded"}
)
LOGGED = ("reason", "username", "ip", "path", "origin", "connection_id", "actor", "detail")


class Facts(TypedDict, total=False):
    """What an event may carry; `user` is a user of the project or None, `count` how many equal events this is."""

    user: Any
    ip: str | IPAddress | None
    path: str
    origin: str
    user_agent: str
    connection_id: str
    actor: str
    detail: Mapping[str, Any] | None
    count: int


@dataclass(slots=True, kw_only=True)
class _State:
    volume: Volume = field(default_factory=Volume)
    lock: threading.Lock = field(default_factory=threading.Lock)
    flushing: threading.Lock = field(default_factory=threading.Lock)
    is_unwritable: bool = False

    def reset(self) -> None:
        self.volume = Volume()
        self.lock = threading.Lock()
        self.flushing = threading.Lock()
        self.is_unwritable = False


_state = _State()


def reset() -> None:
    """Forget everything not yet written; for tests, and for a child process, whose parent writes what is its own."""
    _state.reset()


# A lock that was held while the process forked would never be freed in the child. Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)


def record(kind: str, reason: str = "", **facts: Unpack[Facts]) -> None:
    """Note that something happened; `flush()` stores it. Never waits for the database and never raises."""
    try:
        settings = get_settings()
        if kind in ADMISSIONS and not settings.audit_admissions:
            return
        row = _row(kind, reason, settings, facts)
        with _state.lock:
            is_row = _state.volume.add(row, settings.audit_queue_size)
        if is_row:
            _log(row)
    except Exception:
        # Recording stands in the `finally` of every connection: whatever it was given must not take that down.
        logger.exception("audit.record_failed")


def write(kind: str, reason: str = "", **facts: Unpack[Facts]) -> AuditEvent:
    """Store an event in the caller's transaction: for changes of security, which must not happen unseen.

    Raises:
        django.db.Error: it could not be stored, so the change must not be made either.
    """
    row = _row(kind, reason, get_settings(), facts)
    event = writer.event_of(row)
    using = router.db_for_write(AuditEvent)
    event.save(using=using, force_insert=True)
    transaction.on_commit(lambda: _log(row), using=using)
    return event


def pending() -> bool:
    """Whether anything waits to be written."""
    return len(_state.volume) > 0


async def flush() -> None:
    """Write what waits, in a thread; what cannot be written now stays for the next time."""
    if pending():
        await database.write(flush_now)


async def flush_all(seconds: float) -> int:
    """Write until nothing waits any more, for at most so many seconds; returns how many rows are left."""
    try:
        async with asyncio.timeout(seconds):
            while pending():
                await flush()
                if _state.is_unwritable:
                    await asyncio.sleep(RETRY_INTERVAL)
    except TimeoutError as error:
        _log_trouble(error)
    return len(_state.volume)


def flush_now() -> None:
    """Write what waits, in this thread. When it returns, everything recorded before is stored or kept."""
    with _state.flushing:
        with _state.lock:
            rows = _state.volume.take()
        try:
            for start in range(0, len(rows), BATCH_SIZE):
                writer.store(rows[start : start + BATCH_SIZE])
        except DatabaseTrouble as error:
            _log_trouble(error)
        else:
            _log_recovery()
        finally:
            with _state.lock:
                _state.volume.settle(row for row in rows if not row.stored)


def flush_at_exit() -> None:
    """Write what waits before the interpreter ends, for some seconds at most where a server runs."""
    if not pending():
        return
    try:
        database.write_last(flush_now, EXIT_PATIENCE)
    except TimeoutError as error:
        _log_trouble(error)
    except Exception:
        logger.exception("audit.flush_failed")
    if pending():
        logger.error("audit.lost", extra={"rows": len(_state.volume)})


def _row(kind: str, reason: str, settings: Settings, facts: Facts) -> Row:
    now = time.time()
    user = facts.get("user")
    user_id = getattr(user, "pk", None)
    ip, prefix = _address(facts.get("ip"), settings.ipv6_prefix)
    return Row(
        kind=plain.text(kind, 64),
        reason=plain.text(reason),
        created_at=now,
        last_at=now,
        count=max(1, facts.get("count", 1)),
        user_id=user_id,
        # Also of a user who has been deleted meanwhile, and whose primary key went with it.
        username="" if user is None else plain.text(user.get_username()),
        ip=ip,
        prefix=prefix,
        path=plain.text(facts.get("path", "")),
        origin=plain.text(facts.get("origin", "")),
        user_agent=plain.text(facts.get("user_agent", "")),
        connection_id=plain.text(facts.get("connection_id", ""), 64),
        actor=plain.text(facts.get("actor", "")),
        detail=plain.detail(facts.get("detail")),
    )


def _address(ip: str | IPAddress | None, ipv6_prefix: int) -> tuple[str, str]:
    """The address as text, and as what it is counted."""
    shown = plain.text(ip, 64) if isinstance(ip, str) else str(ip or "")
    return shown, _prefix(shown, ipv6_prefix)


@lru_cache(maxsize=1024)
def _prefix(shown: str, ipv6_prefix: int) -> str:
    address = parse_address(shown)
    return shown if address is None else bucket(address, ipv6_prefix)


def _log(row: Row) -> None:
    level = logging.WARNING if row.kind in REFUSALS else logging.INFO
    if logger.isEnabledFor(level):
        logger.log(level, row.kind, extra={name: getattr(row, name) for name in LOGGED})


def _log_trouble(error: Exception) -> None:
    if not _state.is_unwritable:
        logger.error("audit.unwritable", extra={"error": type(error).__name__})
    _state.is_unwritable = True


def _log_recovery() -> None:
    if _state.is_unwritable:
        logger.warning("audit.writable")
    _state.is_unwritable = False
