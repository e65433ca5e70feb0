"""Several who write the trail at once, and an independent look at what they have linked."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection, connections, transaction
from django.db.models import Sum

from channels_secure import audit
from channels_secure.audit import chain, folders, spooling, verifying, writer
from channels_secure.audit.sealing import GENESIS, Seal, seals
from channels_secure.audit.volume import Row
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent, AuditHead, AuditRollup, new_uid

PATIENCE = 30.0


def single(**facts: Any) -> Row:
    now = time.time()
    return Row(
        **{"kind": "connection.accepted", "reason": "", "created_at": now, "last_at": now, "uid": new_uid(), **facts}
    )


def total(count: int = 1, **facts: Any) -> Row:
    """A sum of so many events, to which more may be added."""
    return single(**{"kind": "message.denied", "reason": "rate_limited", "count": count, "sums": True, **facts})


def events() -> int:
    return AuditEvent.objects.aggregate(sum=Sum("count"))["sum"] or 0


def waiting() -> int:
    return AuditEvent.objects.filter(position__isnull=True).count()


def links() -> int:
    """How many rows are linked; each place is taken, each hash is right, and so are the head and the rollups."""
    seal: Seal = seals(get_settings().audit_key)[0]
    before, rows = GENESIS, list(AuditEvent.objects.filter(position__isnull=False).order_by("position"))
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    sums: Counter[tuple[Any, str]] = Counter()
    for row in rows:
        assert not row.is_open
        before = seal.link(row.position or 0, before, seal.digest(row))
        assert row.hash == before, f"{row.position}: {row}"
        assert seal.commitment(row) == row.commitment
        sums[row.created_at.replace(minute=0, second=0, microsecond=0), row.kind] += row.count
    head = AuditHead.objects.filter(pk=1).values_list("position", "hash").first()
    assert head in {None, (len(rows), before)} if not rows else head == (len(rows), before)
    rolled: Counter[tuple[Any, str]] = Counter()
    for rollup in AuditRollup.objects.all():
        rolled[rollup.hour, rollup.kind] += rollup.events
    assert rolled == sums
    assert sum(AuditRollup.objects.values_list("rows", flat=True)) == len(rows)
    assert verifying.verify(link=False).faults == []
    return len(rows)


def link_now() -> None:
    """What the catching-up of any process does when it is time."""
    chain.link_waiting()


class Other(threading.Thread):
    """Somebody else with a database connection of his own."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._act, self._raised = act, []  # type: ignore[var-annotated]
        self.start()

    def run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - it is the test's
            self._raised.append(error)
        finally:
            connections.close_all()

    def finish(self) -> None:
        self.join(PATIENCE)
        assert not self.is_alive(), "it hangs"
        if self._raised:
            raise self._raised[0]


@contextmanager
def meanwhile(act: Callable[[], Any]) -> Iterator[None]:
    """Somebody else has done something in a transaction that ends with the block, and holds what it has locked."""
    done, go = threading.Event(), threading.Event()

    def work() -> None:
        with transaction.atomic():
            try:
                act()
            finally:
                done.set()
            assert go.wait(PATIENCE)

    other = Other(work)
    assert done.wait(PATIENCE)
    try:
        yield
    finally:
        go.set()
        other.finish()


def hold_head() -> None:
    assert chain.take("default") is not None


def until_somebody_waits() -> None:
    """Return when a PostgreSQL backend of this database waits for a lock."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits")


def dead(directory: Path) -> list[Path]:
    """What processes that have died have left in a spool."""
    own = spooling._state.own
    return folders.others(directory, None if own is None else own.folder)


def store(*rows: Row) -> int:
    return writer.store(rows)


def record_flood(count: int, **facts: Any) -> None:
    for _ in range(count):
        audit.record("message.denied", "rate_limited", **facts)
