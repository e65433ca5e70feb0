"""The operator's list of events on a long trail: the list, each filter and search, a page far back, and an export.

Each database is measured in a process of its own, which fills an empty one with the same seeded rows.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from tests import services
from tests.benchmarks.report import Effort, Goal, Section, Table, show

ROOT = Path(__file__).resolve().parents[2]
ROWS, QUICK_ROWS, EXPORTED = 1_000_000, 100_000, 10_000
DAYS = 90
PAGE = 300.0
NAME = "channels_secure_benchmark"
EVENTS = "/admin/channels_secure/auditevent/"
# Of how many events in a thousand, with which reasons. Tickets are counted out: they are what is exported.
KINDS = (
    ("connection.accepted", 300, ("",)),
    ("connection.closed", 300, ("", "idle_timeout", "session_ended")),
    ("handshake.denied", 220, ("rate_limited", "origin_not_allowed", "connection_limit")),
    ("message.denied", 119, ("rate_limited", "invalid_message", "unknown_type")),
    ("credentials.failed", 60, ("invalid_credentials", "credentials_expired")),
    ("block.created", 1, ("spam",)),
)
USERS = 20_000
# Milliseconds until the answer is there, and of the processor.
Figures: TypeAlias = dict[str, tuple[float, float]]


def run(effort: Effort) -> Section:
    rows = effort.choose(ROWS, QUICK_ROWS)
    command = ("tests.benchmarks.audit_admin", str(rows), str(effort.repeat(9, 5)))
    found: dict[str, Figures] = {"SQLite": on_sqlite(*command), "PostgreSQL": on_postgresql(*command)}
    names = list(found["SQLite"])
    pages = [name for name in names if not name.startswith("export")]
    return Section(
        name="audit_admin",
        title=f"The admin's list of {rows:,} events",
        tables=[
            Table(
                head=("ms", *(word for database in found for word in (database, "of it, Python"))),
                rows=[
                    (name, *(show(figure) for measured in found.values() for figure in measured[name]))
                    for name in names
                ],
            )
        ],
        goals=[
            Goal(
                name=f"the slowest page of the audit trail, {database}",
                measured=max(measured[name][0] for name in pages),
                bound=PAGE,
                unit=" ms",
                at_most=True,
            )
            for database, measured in found.items()
        ],
        notes=[
            "Medians of whole answers by Django's test client: queries, templates and middleware of the admin.",
            "Python is the processor's time of the process, which has SQLite in it.",
        ],
    )


def on_sqlite(*command: str) -> Any:
    """What a module measures in a process of its own, which is to fill an empty database."""
    with tempfile.TemporaryDirectory(prefix="channels-secure-bench-") as directory:
        name = str(Path(directory) / "trail.sqlite3")
        return _child(command, DATABASE="sqlite", CHANNELS_SECURE_TEST_DATABASE_NAME=name)


def on_postgresql(*command: str) -> Any:
    """The same on the other database."""
    import psycopg

    with services.postgresql() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {NAME}")
        connection.execute(f"CREATE DATABASE {NAME}")
        try:
            where = {"CHANNELS_SECURE_TEST_DATABASE_URL": url, "CHANNELS_SECURE_TEST_DATABASE_NAME": NAME}
            return _child(command, DATABASE="postgresql", **where)
        finally:
            connection.execute(f"DROP DATABASE {NAME}")


def _child(command: Sequence[str], **environ: str) -> Any:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings", "CHANNELS_SECURE_TEST_SETTINGS": "{}"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **settings, **environ},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


# In the process of one database --------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=int)
    parser.add_argument("rounds", type=int)
    options = parser.parse_args()
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill(options.rows)
    print(json.dumps(measure(options.rounds)))


def fill(rows: int, newest: Iterable[dict[str, Any]] = ()) -> None:
    """Write the rows, and some newer ones, past the ORM, and the indexes after them, each of which saves minutes."""
    from django.db import connection

    from channels_secure.models import AuditEvent

    with connection.schema_editor() as schema:
        for index in AuditEvent._meta.indexes:
            schema.remove_index(AuditEvent, index)
    _copy(chain(events(rows), newest))
    with connection.schema_editor() as schema:
        for index in AuditEvent._meta.indexes:
            schema.add_index(AuditEvent, index)
    if connection.vendor == "postgresql":
        # What autovacuum does after so many rows.
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE {AuditEvent._meta.db_table}")


def _copy(events: Iterable[dict[str, Any]]) -> None:
    from django.db import connection, transaction

    from channels_secure.models import AuditEvent

    columns = [field.column for field in AuditEvent._meta.concrete_fields if not field.primary_key]
    names = ", ".join(f'"{column}"' for column in columns)
    table = AuditEvent._meta.db_table
    lines = ([event.get(column, "") for column in columns] for event in events)
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for line in lines:
                    copy.write_row(line)
        else:
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", lines)


def events(rows: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(20261121)
    kinds = chance.choices([(kind, reasons) for kind, _, reasons in KINDS], [share for _, share, _ in KINDS], k=rows)
    for tickets in chance.sample(range(rows), min(EXPORTED, rows // 10)):
        kinds[tickets] = ("ticket.issued", ("",))
    now = datetime.now(UTC).replace(tzinfo=None)
    for number, (kind, reasons) in enumerate(kinds):
        # Few are active, many hardly ever.
        who = int(USERS * chance.random() ** 3)
        digest = f"{chance.getrandbits(256):064x}"
        moment = str(now - timedelta(days=DAYS) * ((rows - number - chance.random()) / rows))
        yield {
            "created_at": moment,
            "last_at": moment,
            "count": 1,
            "kind": kind,
            "reason": chance.choice(reasons),
            "user_id": who + 1,
            "user_key": str(who + 1),
            "username": f"user{who}",
            "ip": f"2001:db8:0:{who:x}::7" if who % 3 else f"198.18.{who >> 8}.{who & 255}",
            "path": f"/ws/chat/room{who % 50}/",
            "origin": "https://chat.example.com",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "connection_id": digest[:32],
            "actor": "",
            "actor_from": "",
            "detail": '{"code": 1000, "by": "client", "duration": 12.5}',
            "uid": f"bench-{number:x}",
            "is_open": False,
            "position": number + 1,
            "hash": digest,
            "salt": digest[32:],
            "commitment": digest[::-1],
            "actor_salt": "",
            "actor_commitment": "",
        }


def measure(rounds: int) -> Figures:
    """Milliseconds, of each page and of an export."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    from channels_secure.models import AuditEvent

    client = Client()
    client.force_login(get_user_model().objects.create_superuser("operator"))
    some = AuditEvent.objects.order_by("id")[AuditEvent.objects.count() // 2]
    old = AuditEvent.objects.order_by("id")[1000]
    pages: dict[str, tuple[str, dict[str, str]]] = {
        "the list": (EVENTS, {}),
        "kind, 30 % of all": (EVENTS, {"kind__exact": "connection.closed"}),
        "kind, none": (EVENTS, {"kind__exact": "room.moderated"}),
        "reason, 11 %": (EVENTS, {"reason": "rate_limited"}),
        "reason, none": (EVENTS, {"reason": "message_too_big"}),
        "kind and reason": (EVENTS, {"kind__exact": "message.denied", "reason": "rate_limited"}),
        "kind and reason that never meet": (EVENTS, {"kind__exact": "connection.closed", "reason": "rate_limited"}),
        "the last hour": (EVENTS, {"period": "1h"}),
        "the last month": (EVENTS, {"period": "30d"}),
        "the last month, kind and reason": (
            EVENTS,
            {"period": "30d", "kind__exact": "message.denied", "reason": "unknown_type"},
        ),
        "user with 4 % of all": (EVENTS, {"q": "user0"}),
        "user with few": (EVENTS, {"q": f"user{USERS - 1}"}),
        "user and kind that never meet": (EVENTS, {"q": "user0", "kind__exact": "room.moderated"}),
        "nobody": (EVENTS, {"q": "nobody at all"}),
        "IPv4 address": (EVENTS, {"q": "198.18.0.0"}),
        "IPv6 address": (EVENTS, {"q": "2001:db8:0:1::7"}),
        "the beginning of a connection": (EVENTS, {"q": some.connection_id[:5]}),
        "the oldest first": (EVENTS, {"o": "0"}),
        "the last page that can be reached": (EVENTS, {"p": "200"}),
        "years ago": (EVENTS, {"before": f"{old.created_at.isoformat()}~{old.pk}"}),
        "an event": (f"{EVENTS}{some.pk}/change/", {}),
    }
    times = {name: median(partial(_get, client, *page), rounds) for name, page in pages.items()}
    for shape in ("csv", "ndjson"):
        times[f"export of {EXPORTED:,} as {shape.upper()}"] = median(partial(_export, client, shape), 3)
    return times


def _get(client: Any, url: str, asked: dict[str, str]) -> None:
    response = client.get(url, asked)
    if response.status_code != 200 or not response.content:
        raise RuntimeError(f"{url} {asked} answered {response.status_code}")


def _export(client: Any, shape: str) -> None:
    response = client.post(f"{EVENTS}export/?kind__exact=ticket.issued", {"format": shape})
    if b"ticket.issued" not in b"".join(response.streaming_content):
        raise RuntimeError("nothing was exported")


def median(work: Callable[[], None], rounds: int) -> tuple[float, float]:
    work()
    taken, busy = [], []
    for _ in range(rounds):
        began, worked = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - began) * 1000)
        busy.append((time.process_time() - worked) * 1000)
    return statistics.median(taken), statistics.median(busy)


if __name__ == "__main__":
    main()
