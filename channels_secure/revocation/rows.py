"""The rows by which one process tells all the others."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import router
from django.utils import timezone

from channels_secure.audit import plain
from channels_secure.blocklist.changes import MAX_SECONDS, name_of
from channels_secure.conf import get_settings
from channels_secure.models import Revocation

# Longer than a process may go without seeing a row and keep its sockets: REVALIDATE_GRACE, and two full reloads.
RELOADS = 120.0
BATCH = 500
MOST_BATCHES = 20


def insert(
    kind: Revocation.Kind,
    subjects: Iterable[str],
    reason: str,
    *,
    using: str,
    lifetime: float = 0.0,
    by: Any = None,
) -> None:
    """Store one row for each subject, inside a `policy_change()` that yielded `using`.

    Args:
        reason: a close reason, or `models.RECHECK`.
        lifetime: seconds for which handshakes are to be refused; open sockets are reached however short it is.
    """
    now = timezone.now()
    seconds = min(max(lifetime, get_settings().revalidate_grace + RELOADS), MAX_SECONDS)
    end, actor = now + timedelta(seconds=seconds), plain.text(name_of(by))
    rows = [
        Revocation(kind=kind, subject=subject, reason=reason, not_before=now, actor=actor, expires_at=end)
        for subject in subjects
    ]
    Revocation.objects.using(using).bulk_create(rows, batch_size=BATCH)


def delete_expired() -> int:
    """Delete rows that no process has to know of any more, ten thousand at most; returns how many."""
    using = router.db_for_write(Revocation)
    expired = Revocation.objects.using(using).filter(expires_at__lte=timezone.now()).order_by("expires_at")
    deleted = 0
    for _ in range(MOST_BATCHES):
        keys = list(expired.values_list("pk", flat=True)[:BATCH])
        # No policy change: what has expired means nothing already.
        deleted += Revocation.objects.using(using).filter(pk__in=keys).delete()[0]
        if len(keys) < BATCH:
            break
    return deleted
