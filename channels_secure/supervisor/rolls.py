"""The rows of open sockets, written so that one bad row costs nothing but itself; blocking, for the writing thread."""

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connections as django_connections
from django.db import router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from channels_secure import audit
from channels_secure.audit import plain
from channels_secure.audit.chain import POISON
from channels_secure.audit.writer import moment
from channels_secure.connections import Connection
from channels_secure.connections.events import address_of
from channels_secure.models import LiveConnection, LiveProcess
from channels_secure.models.fields import SHORT_LENGTH

COUNTERS = ("heard_at", "received", "violations")

logger = logging.getLogger("channels_secure")


def replace(process: str, connections: Sequence[Connection]) -> bool:
    """Write the rows of open sockets, whether they are new or have changed; False when their process has no row.

    Raises:
        django.db.Error: the database is away.
    """
    epoch = _epoch()
    rows = [_row(connection, process, epoch) for connection in connections]
    return _replace(rows, router.db_for_write(LiveConnection))


def count(connections: Sequence[Connection]) -> set[str]:
    """Bring up to date what sockets have received, when and how well; returns the rows that nobody else holds.

    Raises:
        django.db.Error: the database is away.
    """
    using = router.db_for_write(LiveConnection)
    fields = [_field(name) for name in (*COUNTERS, "connection_id")]
    epoch = _epoch()
    wrapper = django_connections[using]
    with transaction.atomic(using=using), wrapper.cursor() as cursor:
        free = _lock([connection.id for connection in connections], using)
        rows = [_counters(connection, epoch) for connection in connections if connection.id in free]
        parameters = [
            [field.get_db_prep_save(value, wrapper) for field, value in zip(fields, row, strict=True)] for row in rows
        ]
        if parameters:
            cursor.executemany(_update(wrapper), parameters)
    return free


def _lock(ids: Sequence[str], using: str) -> set[str]:
    """Those of some rows that no other transaction holds, which are ours until the end of this one.

    Who waits for a row while holding others may wait in a circle with a project that deletes users, and the database
    might end the project's transaction.
    """
    if not django_connections[using].features.has_select_for_update_skip_locked:
        return set(ids)
    rows = LiveConnection.objects.using(using).filter(pk__in=ids).order_by()
    return set(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))


def _field(name: str) -> Any:
    return LiveConnection._meta.get_field(name)


def _update(wrapper: BaseDatabaseWrapper) -> str:
    # Django's own ways to update many rows take ten times as long, and ten thousand sockets are heard every second.
    quote, meta = wrapper.ops.quote_name, LiveConnection._meta
    columns = ", ".join(f"{quote(_field(name).column)} = %s" for name in COUNTERS)
    key = quote(_field("connection_id").column)
    return f"UPDATE {quote(meta.db_table)} SET {columns} WHERE {key} = %s"  # noqa: S608 - our own names


def remove(ids: Sequence[str]) -> None:
    """Delete the rows of sockets that have ended."""
    # First the trail: were we killed in between, nobody would record the end of a socket that has no row.
    audit.flush_now()
    using = router.db_for_write(LiveConnection)
    table = LiveConnection.objects.using(using)
    with transaction.atomic(using=using):
        free = _lock(ids, using)
        table.filter(pk__in=free).delete()
    for key in table.filter(pk__in=set(ids) - free).values_list("pk", flat=True):
        table.filter(pk=key).delete()


def _row(connection: Connection, process: str, epoch: float) -> LiveConnection:
    handshake, identity = connection.handshake, connection.identity
    user = connection.user if connection.user_key is not None else None
    expires_at = connection.expires_at
    return LiveConnection(
        connection_id=connection.id,
        process_id=process,
        user_id=getattr(user, "pk", None),
        username="" if user is None else plain.text(user.get_username()),
        ip=plain.text(address_of(connection) or "", SHORT_LENGTH),
        path=plain.text(handshake.safe_path),
        user_agent=plain.text(handshake.user_agent),
        credentials="" if identity is None else plain.text(identity.kind, SHORT_LENGTH),
        session=connection.session_digest or "",
        opened_at=moment(epoch + connection.opened_at),
        expires_at=None if expires_at is None else moment(epoch + expires_at),
        **dict(zip(COUNTERS, _counters(connection, epoch), strict=False)),
    )


def _counters(connection: Connection, epoch: float) -> tuple[datetime, int, int, str]:
    """The values of `COUNTERS`, and the key of the row."""
    return moment(epoch + connection.heard_at), connection.received, connection.conduct.violations, connection.id


def _epoch() -> float:
    """The Unix time at which the monotonic clock stood at zero, by the wall clock as it is now."""
    return time.time() - time.monotonic()


def _replace(rows: Sequence[LiveConnection], using: str) -> bool:
    """Write rows all together; when one of them is refused, halve until it stands alone."""
    try:
        _replace_all(rows, using)
    except POISON as error:
        if not LiveProcess.objects.using(using).filter(pk=rows[0].process_id).exists():
            return False
        if len(rows) == 1:
            _replace_poison(rows[0], using, error)
            return True
        middle = len(rows) // 2
        return _replace(rows[:middle], using) and _replace(rows[middle:], using)
    return True


def _replace_all(rows: Sequence[LiveConnection], using: str) -> None:
    # Not an upsert, which not every database has. Doing it twice changes nothing.
    table, ids = LiveConnection.objects.using(using), [row.pk for row in rows]
    with transaction.atomic(using=using):
        there = set() if len(rows) == 1 else set(table.filter(pk__in=ids).values_list("pk", flat=True))
        held = there - _lock(list(there), using) if there else set()
        table.filter(pk__in=set(ids) - held).delete()
        table.bulk_create(row for row in rows if row.pk not in held)
    for row in rows:
        if row.pk in held:
            # One alone may wait: it holds nothing that anybody else could wait for.
            _replace_all([row], using)


def _replace_poison(row: LiveConnection, using: str, error: Exception) -> None:
    """A row that the database refuses: without its user, who may be gone, else without what the client chose."""
    for remedy in (_forget_user, _forget_texts):
        remedy(row)
        try:
            _replace_all([row], using)
        except POISON:
            continue
        return
    logger.error("presence.row_lost", extra={"connection_id": row.pk, "error": type(error).__name__})


def _forget_user(row: Any) -> None:
    row.user_id = None


def _forget_texts(row: Any) -> None:
    row.username = row.ip = row.path = row.user_agent = row.credentials = ""
