"""The database: whether it answers, has our tables, takes writes, and knows what time it is."""

import time
from collections.abc import Iterator
from secrets import token_hex

from django.conf import settings as django_settings
from django.db import Error as DatabaseTrouble
from django.db import connections, router, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now

from channels_secure.management.doctor.findings import Finding, clock_finding
from channels_secure.models import LiveProcess

APP = "channels_secure"


def examine() -> Iterator[Finding]:
    using = router.db_for_write(LiveProcess)
    try:
        missing = _missing_migrations(using)
    except DatabaseTrouble as error:
        yield Finding(
            f"The database {using!r} cannot be reached ({type(error).__name__}).",
            "Start it, or correct DATABASES; without it no handshake is decided.",
        )
        return
    if missing:
        yield Finding(f"Migrations are not applied: {', '.join(missing)}.", "Run `manage.py migrate channels_secure`.")
        return
    try:
        finding = _read_clock(using)
    except DatabaseTrouble as error:
        yield Finding(
            f"The database {using!r} takes no writes ({type(error).__name__}).",
            "Let its user insert, update and delete, and route our models to a database that is no replica.",
        )
        return
    if finding is not None:
        yield finding


def _missing_migrations(using: str) -> list[str]:
    executor = MigrationExecutor(connections[using])
    targets = executor.loader.graph.leaf_nodes(APP)
    return [migration.name for migration, _ in executor.migration_plan(targets) if migration.app_label == APP]


def _read_clock(using: str) -> Finding | None:
    """Compare clocks by a row that is written, read and taken back, so that every database answers in its own way."""
    with transaction.atomic(using=using):
        before = time.time()
        rows = LiveProcess.objects.using(using)
        key = rows.create(id=f"ws_doctor-{token_hex(8)}", host="ws_doctor", pid=0, lease_until=Now()).pk
        theirs = rows.get(pk=key).lease_until
        after = time.time()
        transaction.set_rollback(True, using=using)
    if connections[using].vendor == "sqlite" and not django_settings.USE_TZ:
        # Its clock is this machine's, and answers in UTC even where everything else is stored in local time.
        return None
    return clock_finding(f"the database {using!r}", theirs.timestamp(), before, after)
