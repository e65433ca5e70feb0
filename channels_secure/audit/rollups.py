"""Sums by hour, kind and reason, kept with the chain: charts over millions of rows must not scan them."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.db.models import F

from channels_secure.audit.sealing import public_reason
from channels_secure.models import AuditEvent, AuditRollup

Key = tuple[datetime, str, str]


def count(events: Iterable[AuditEvent], using: str) -> None:
    """Add rows that have just been linked; only under the chain's lock, so that no two writers meet here."""
    sums: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
    for event in events:
        hour = event.created_at.replace(minute=0, second=0, microsecond=0)
        total = sums[hour, event.kind, public_reason(event.reason)]
        total[0] += event.count
        total[1] += 1
    table = AuditRollup.objects.using(using)
    for (hour, kind, reason), (number, rows) in sorted(sums.items()):
        known = table.filter(hour=hour, kind=kind, reason=reason)
        if not known.update(events=F("events") + number, rows=F("rows") + rows):
            table.create(hour=hour, kind=kind, reason=reason, events=number, rows=rows)
