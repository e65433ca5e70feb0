"""The processes that serve sockets, each with a lease it renews while it lives; blocking, for the writing thread.

The database's clock is the only one for leases, so that machines whose clocks differ judge each other rightly.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.db import router, transaction
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, Value
from django.db.models.functions import Now

from channels_secure import audit
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent, LiveConnection, LiveProcess

# Seconds. A killed process's rows count no more when its lease has run out, and are deleted within REAP_INTERVAL then.
LEASE = 30.0
RENEWAL = 10.0
REAP_INTERVAL = 5.0
# Who has not renewed for so long has no open socket either: without a database none lives on that long.
ABANDONED = 600.0
# More at once make the process larger for good: memory that a batch took once is not given back.
CHUNK = 100


def _in(seconds: float) -> Any:
    """The database's time so many seconds from now."""
    delta = Value(timedelta(seconds=seconds), output_field=DurationField())
    return ExpressionWrapper(Now() + delta, output_field=DateTimeField())


def register(process: str, *, host: str, pid: int) -> None:
    """Begin a lease."""
    using = router.db_for_write(LiveProcess)
    LiveProcess.objects.using(using).create(id=process, host=host, pid=pid, lease_until=_in(LEASE))


def renew(process: str) -> bool:
    """Prolong a lease; False when the row is gone, because others took the process for dead."""
    using = router.db_for_write(LiveProcess)
    return bool(LiveProcess.objects.using(using).filter(pk=process).update(lease_until=_in(LEASE)))


def release(process: str) -> None:
    """End a lease, and with it the rows of whatever the process has left; the ends of these are in the trail first."""
    audit.flush_now()
    using = router.db_for_write(LiveProcess)
    with transaction.atomic(using=using):
        LiveConnection.objects.using(using).filter(process_id=process).delete()
        LiveProcess.objects.using(using).filter(pk=process).delete()


def reap(*, patient: bool) -> int:
    """Delete the processes whose lease has run out, and record the end of their sockets; returns how many they were.

    Args:
        patient: only those that have been silent for ten minutes: whoever has not seen the database at work for a
            whole lease cannot tell the dead from those that could not reach it either.
    """
    using = router.db_for_write(LiveProcess)
    before = _in(-ABANDONED) if patient else Now()
    dead = LiveProcess.objects.using(using).filter(lease_until__lt=before)
    # Each is recorded before the next is taken: what fails then must not cost the ends of those that are gone.
    return sum(_take(process, using) for process in list(dead))


def _take(process: LiveProcess, using: str) -> int:
    """Delete a dead process; how many connections it had, none when it lives after all or another was faster."""
    with transaction.atomic(using=using):
        # The first statement of the transaction takes the row's lock: of several reapers, and the owner that wakes up,
        # one finds the lease expired and the others find it in the future or gone.
        expired = LiveProcess.objects.using(using).filter(pk=process.pk, lease_until__lt=Now())
        if not expired.update(lease_until=_in(LEASE)):
            return 0
        connections = LiveConnection.objects.using(using).filter(process=process)
        lost = list(connections.select_related("user", "process"))
        unended = list(_unended(lost))
        connections.delete()
        process.delete(using=using)
    for row in unended:
        _record_end(row)
    return len(lost)


def _unended(lost: Sequence[LiveConnection]) -> Iterator[LiveConnection]:
    """Connections that nobody ended, and that are to have an end in the trail."""
    if not get_settings().audit_admissions:
        return
    events = AuditEvent.objects.using(router.db_for_write(AuditEvent)).filter(kind=AuditEvent.Kind.CONNECTION_CLOSED)
    for start in range(0, len(lost), CHUNK):
        some = lost[start : start + CHUNK]
        ids = [row.connection_id for row in some]
        ended = set(events.filter(connection_id__in=ids).values_list("connection_id", flat=True))
        yield from (row for row in some if row.connection_id not in ended)


def _record_end(row: LiveConnection) -> None:
    audit.record(
        "connection.closed",
        user=row.user,
        ip=row.ip,
        path=row.path,
        user_agent=row.user_agent,
        connection_id=row.connection_id,
        detail={"by": "lost", "process": str(row.process), "received": row.received},
    )
