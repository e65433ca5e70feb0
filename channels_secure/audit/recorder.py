"""Recording: from any thread, in microseconds, without waiting and without ever raising."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypedDict, Unpack

from django.db import router, transaction

from channels_secure.audit import acting, plain, spooling, writer
from channels_secure.audit.source import Source, source_of
from channels_secure.audit.volume import MAX_PAIRS, Key, Pair, Row, Volume, key_of
from channels_secure.conf import Settings, get_settings
from channels_secure.models import AuditEvent, new_uid
from channels_secure.policy.addresses import IPAddress
from channels_secure.signals import event_recorded

logger = logging.getLogger("channels_secure")

ADMISSIONS = frozenset({"connection.accepted", "connection.closed"})
REFUSALS = frozenset(
    {"handshake.denied", "message.denied", "credentials.failed", "policy.would_deny", "store.degraded"}
)
LOGGED = (
    "uid", "reason", "count", "user_key", "username", "ip", "path", "origin", "user_agent", "connection_id", "actor",
    "actor_from", "detail",
)  # fmt: skip


class Facts(TypedDict, total=False):
    """What an event may carry: `source`, or the facts that make one; `count` is how many equal events this is."""

    source: Source
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
    # Events by kind and reason of which no receiver has been told yet.
    untold: dict[Pair, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        self.volume = Volume()
        self.untold = {}
        self.lock = threading.Lock()


state = _State()


def reset() -> None:
    """Forget everything not yet written."""
    state.reset()


def record(kind: str, reason: str = "", **facts: Unpack[Facts]) -> None:
    """Note that something happened; `flush()` stores it. Never waits for the database and never raises.

    With `AUDIT_SPOOL_DIR` it is in a file when this returns.
    """
    try:
        settings = get_settings()
        if kind in ADMISSIONS and not settings.audit_admissions:
            return
        source = facts.get("source") or source_of(settings.ipv6_prefix, facts)
        kind, reason = plain.text(kind, 64), plain.text(reason)
        now, count = time.time(), max(1, facts.get("count", 1))
        if not _absorb((kind, reason, source.prefix, source.user_id), now, count, settings):
            # Made outside the lock: a value's `__str__` is the project's code, which may record something itself.
            _add(_row(kind, reason, now, count, source, facts), settings)
    except Exception:
        # Recording stands in the `finally` of every connection: whatever it was given must not take that down.
        logger.exception("audit.record_failed")


def _absorb(key: Key, now: float, count: int, settings: Settings) -> bool:
    """Whether there is a sum to which events could be added."""
    with state.lock:
        known = state.volume.absorb(key, now, count, settings.audit_queue_size)
        if known is None:
            return False
        _leave_untold(key[:2], count)
        if settings.audit_spool_dir is not None:
            spooling.append(settings.audit_spool_dir, known, is_new=False)
    return True


def _add(fresh: Row, settings: Settings) -> None:
    """Keep a row and tell the log, unless its sum was begun meanwhile in another thread."""
    with state.lock:
        known = state.volume.absorb(key_of(fresh), fresh.created_at, fresh.count, settings.audit_queue_size)
        row = known or state.volume.add(fresh, settings.audit_queue_size)
        if settings.audit_spool_dir is not None:
            spooling.append(settings.audit_spool_dir, row, is_new=known is None)
        _leave_untold((fresh.kind, fresh.reason), fresh.count)
    if known is None:
        _log(row)


def write(kind: str, reason: str = "", **facts: Unpack[Facts]) -> AuditEvent:
    """Store an event in the caller's transaction: for changes of security, which must not happen unseen.

    It is linked into the chain later, so that no request's transaction holds the chain's lock.

    Raises:
        django.db.Error: it could not be stored, so the change must not be made either.
    """
    settings = get_settings()
    source = facts.get("source") or source_of(settings.ipv6_prefix, facts)
    count = max(1, facts.get("count", 1))
    row = _row(plain.text(kind, 64), plain.text(reason), time.time(), count, source, facts)
    event = writer.sealed(row)
    using = router.db_for_write(AuditEvent)
    event.save(using=using, force_insert=True)
    transaction.on_commit(partial(_told, row), using=using, robust=True)
    return event


def tell() -> None:
    """Send `event_recorded` for what has been recorded since the last call; never raises.

    So many events and no more calls: neither a receiver nor the dispatch costs an event anything.
    """
    with state.lock:
        untold, state.untold = state.untold, {}
    for (kind, reason), count in untold.items():
        _tell(kind, reason, count)


def _leave_untold(pair: Pair, count: int) -> None:
    if pair not in state.untold and len(state.untold) >= MAX_PAIRS:
        pair = pair[0], ""
    state.untold[pair] = state.untold.get(pair, 0) + count


def _tell(kind: str, reason: str, count: int) -> None:
    try:
        event_recorded.send_robust(AuditEvent, kind=kind, reason=reason, count=count)
    except Exception:
        # What `send_robust` lets through: a receiver that is a coroutine, in an event loop's thread.
        logger.exception("audit.receiver_failed")


def _told(row: Row) -> None:
    _log(row)
    _tell(row.kind, row.reason, row.count)


def _row(kind: str, reason: str, now: float, count: int, source: Source, facts: Facts) -> Row:
    actor = plain.text(facts.get("actor", ""))
    return Row(
        kind=kind,
        reason=reason,
        created_at=now,
        last_at=now,
        uid=new_uid(),
        count=count,
        user_id=source.user_id,
        user_key=source.user_key,
        username=source.username,
        ip=source.ip,
        prefix=source.prefix,
        path=source.path,
        origin=source.origin,
        user_agent=source.user_agent,
        connection_id=source.connection_id,
        actor=actor,
        actor_from=acting.place() if actor else "",
        detail=plain.detail(facts.get("detail")),
    )


def _log(row: Row) -> None:
    level = logging.WARNING if row.kind in REFUSALS else logging.INFO
    if logger.isEnabledFor(level):
        logger.log(level, row.kind, extra={name: getattr(row, name) for name in LOGGED})
