"""A reaper that fails half-way: the ends of the processes that it has deleted already are in the trail."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from channels_secure import audit
from channels_secure.models import AuditEvent, LiveConnection, LiveProcess
from channels_secure.supervisor import leases

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_ends_of_one_dead_process_are_recorded_though_the_next_cannot_be_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    for name in ("one", "two"):
        process = LiveProcess.objects.create(id=name, host=name, pid=1, lease_until=long_ago)
        LiveConnection.objects.create(connection_id=f"of-{name}", process=process, opened_at=long_ago)
    original = LiveProcess.delete
    deleted: list[str] = []

    def delete(self: LiveProcess, *arguments: Any, **options: Any) -> Any:
        if deleted:
            raise OperationalError("gone away")
        deleted.append(self.id)
        return original(self, *arguments, **options)

    monkeypatch.setattr(LiveProcess, "delete", delete)
    with pytest.raises(OperationalError):
        leases.reap(patient=False)
    monkeypatch.undo()
    audit.flush_now()
    assert LiveConnection.objects.count() == 1
    ended = AuditEvent.objects.filter(kind="connection.closed").values_list("connection_id", flat=True)
    assert list(ended) == [f"of-{deleted[0]}"]
