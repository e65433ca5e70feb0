"""The operator's pages under attack: a long trail, many blocks and many open sockets; milliseconds and queries.

Each database is measured in a process of its own, which fills an empty one with the same seeded rows.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias

from tests.benchmarks.audit_admin import EVENTS, USERS, events, fill, median, on_postgresql, on_sqlite
from tests.benchmarks.report import Effort, Goal, Section, Table, show

ROWS, QUICK_ROWS = 1_000_000, 50_000
BLOCKS, LIVE, PROCESSES = 10_000, 10_000, 8
# Of the rows, those of the last hour: one network and a few accounts flood.
ATTACK = 0.05
PAGE = 500.0
ADMIN = "/admin/"
DASHBOARD = f"{EVENTS}dashboard/"
BLOCK_LIST, LIVE_LIST = f"{ADMIN}channels_secure/block/", f"{ADMIN}channels_secure/liveconnection/"
FLOODER, SUBNET = "198.51.100.7", "198.51.0.0/16"
# Milliseconds until the answer is there, of those the processor's, and queries.
Figures: TypeAlias = dict[str, tuple[float, float, int]]
Pages: TypeAlias = dict[str, tuple[str, dict[str, Any]]]


def run(effort: Effort) -> Section:
    rows = effort.choose(ROWS, QUICK_ROWS)
    command = ("tests.benchmarks.admin_pages", str(rows), str(effort.repeat(9, 3)))
    found: dict[str, Figures] = {"PostgreSQL": on_postgresql(*command), "SQLite": on_sqlite(*command)}
    head = ("ms", *(word for database in found for word in (database, "of it, Python", "queries")))
    return Section(
        name="admin_pages",
        title=f"The operator's pages with {rows:,} events, {BLOCKS:,} blocks and {LIVE:,} live connections",
        tables=[Table(head=head, rows=[(name, *_cells(found.values(), name)) for name in found["SQLite"]])],
        goals=[
            Goal(
                name=f"the operator's slowest page, {database}",
                measured=max(milliseconds for milliseconds, _, _ in measured.values()),
                bound=PAGE,
                unit=" ms",
                at_most=True,
            )
            for database, measured in found.items()
        ],
        notes=[
            "Medians of whole answers by Django's test client: queries, templates and middleware of the admin.",
            f"{ATTACK:.0%} of the events are of the last hour, from one /24 and three accounts.",
        ],
    )


def _cells(found: Iterable[Figures], name: str) -> Iterator[str]:
    for milliseconds, busy, queries in (measured[name] for measured in found):
        yield from (show(milliseconds), show(busy), str(queries))


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
    _people()
    flood = int(options.rows * ATTACK)
    fill(options.rows - flood, _attack(options.rows - flood, flood))
    _sum_up()
    _block()
    _connect()
    _analyse()
    print(json.dumps(measure(options.rounds)))


def _people() -> None:
    from django.contrib.auth.models import User

    User.objects.bulk_create(
        # In an empty table they get the keys that the events have.
        (User(username=f"user{number}", is_staff=number % 4000 == 0) for number in range(USERS)),
        batch_size=2000,
    )


def _attack(before: int, count: int) -> Iterator[dict[str, Any]]:
    """The newest rows: the same as the others, but for when they were and from whom."""
    chance = random.Random(20261122)
    now = datetime.now(UTC).replace(tzinfo=None)
    for number, event in enumerate(events(count)):
        moment = str(now - timedelta(hours=1) * ((count - number) / count))
        who = chance.randrange(3)
        yield {
            **event,
            "created_at": moment,
            "last_at": moment,
            "count": 1 + number % 50,
            "kind": "message.denied" if number % 3 else "handshake.denied",
            "reason": "rate_limited",
            "user_id": who + 1,
            "user_key": str(who + 1),
            "username": f"user{who}",
            "ip": FLOODER if number % 2 else f"198.51.100.{number % 250}",
            "uid": f"attack-{number:x}",
            "position": before + number + 1,
        }


def _sum_up() -> None:
    """The sums by the hour, which the writer keeps beside the rows that it links."""
    from django.db.models import Count, Sum
    from django.db.models.functions import TruncHour

    from channels_secure.models import AuditEvent, AuditRollup

    hours = AuditEvent.objects.order_by().annotate(hour=TruncHour("created_at")).values("hour", "kind", "reason")
    found = hours.annotate(events=Sum("count"), rows=Count("*")).iterator(chunk_size=5000)
    AuditRollup.objects.bulk_create((AuditRollup(**each) for each in found), batch_size=2000)


def _block() -> None:
    from django.utils import timezone

    from channels_secure.models import Block

    now = timezone.now()
    Block.objects.bulk_create(
        (
            Block(
                user_id=number + 1 if number % 2 else None,
                network=None if number % 2 else f"203.{number >> 8 & 255}.{number & 255}.0/24",
                reason="spam",
                automatic=number % 5 == 0,
                created_at=now - timedelta(minutes=number),
                created_by_id=number % 7 + 1,
                expires_at=now + timedelta(days=number % 9 - 3) if number % 3 else None,
                lifted_at=now if number % 10 == 0 else None,
            )
            for number in range(BLOCKS)
        ),
        batch_size=2000,
    )


def _connect() -> None:
    from django.utils import timezone

    from channels_secure.models import LiveConnection, LiveProcess

    now, hour = timezone.now(), timedelta(hours=1)
    processes = [
        LiveProcess(id=f"process-{number}", host=f"node{number}", pid=4000 + number, lease_until=now + 100 * hour)
        for number in range(PROCESSES)
    ]
    LiveProcess.objects.bulk_create(processes)
    LiveConnection.objects.bulk_create(
        (
            LiveConnection(
                connection_id=f"{number:032x}",
                process=processes[number % PROCESSES],
                user_id=number * 4 // 5 + 1 if number % 10 else None,
                username=f"user{number * 4 // 5}" if number % 10 else "",
                ip=f"198.51.{number >> 8}.{number & 255}",
                path=f"/ws/chat/room{number % 50}/",
                user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                credentials="session" if number % 2 else "jwt",
                opened_at=now - hour * (number / 1000),
                expires_at=now + hour,
                heard_at=now,
                received=number,
                violations=number % 40,
            )
            for number in range(LIVE)
        ),
        batch_size=1000,
    )


def _analyse() -> None:
    """What both databases do by themselves in time."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def pages(client: Any) -> Pages:
    """What is opened, by the name it has in the table."""
    from django.contrib.auth.models import User

    from channels_secure.models import AuditEvent, Block, LiveConnection

    newest = AuditEvent.objects.order_by("-id")[0]
    live = LiveConnection.objects.order_by("connection_id")[5]
    person = User.objects.get(username="user1")
    disconnect = f"{LIVE_LIST}disconnect/"
    return {
        **{f"dashboard, {period}": (DASHBOARD, {"period": period}) for period in ("1h", "24h", "7d", "30d")},
        "dashboard, what it asks for by itself": (DASHBOARD, {"part": "", "period": "24h"}),
        "audit list": (EVENTS, {}),
        "audit list, a kind and a reason": (EVENTS, {"kind": "message.denied", "reason": "rate_limited"}),
        "audit list, the last hour": (EVENTS, {"period": "1h"}),
        "audit list, a user": (EVENTS, {"q": "user1"}),
        "audit list, an address": (EVENTS, {"q": FLOODER}),
        "audit list, a network": (EVENTS, {"q": "198.51.100.0/24"}),
        "audit list, a connection": (EVENTS, {"q": newest.connection_id}),
        "event": (f"{EVENTS}{newest.pk}/change/", {}),
        "block list": (BLOCK_LIST, {}),
        "block list, active": (BLOCK_LIST, {"state": "active"}),
        "block list, an address": (BLOCK_LIST, {"q": "203.1.2.3"}),
        "block": (f"{BLOCK_LIST}{Block.objects.order_by('-id')[0].pk}/change/", {}),
        "block form, a user": (f"{BLOCK_LIST}add/", {"user": person.pk}),
        "block form, an address": (f"{BLOCK_LIST}add/", {"network": FLOODER}),
        "block form, a /16": (f"{BLOCK_LIST}add/", {"network": SUBNET}),
        "live connections": (LIVE_LIST, {}),
        "live connections, a network": (LIVE_LIST, {"q": "198.51.3.0/24"}),
        "live connections, the last page": (LIVE_LIST, {"p": str(LIVE // 50)}),
        "live connection": (f"{LIVE_LIST}{live.pk}/change/", {}),
        "disconnect a user": (disconnect, {"user": person.pk}),
        "disconnect an address": (disconnect, {"ip": live.ip}),
        "user list": (f"{ADMIN}auth/user/", {}),
        "user": (f"{ADMIN}auth/user/{person.pk}/change/", {}),
    }


def measure(rounds: int) -> Figures:
    """Open each page and say what it cost."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(REMOTE_ADDR="192.0.2.99")
    client.force_login(get_user_model().objects.create_superuser("operator"))
    found: Figures = {}
    for name, page in pages(client).items():
        get = partial(_get, client, *page)
        get()
        with CaptureQueriesContext(connection) as asked:
            get()
        # Before the next request, which forgets them.
        queries = len(asked)
        found[name] = (*median(get, rounds), queries)
    return found


def _get(client: Any, url: str, asked: dict[str, Any]) -> None:
    response = client.get(url, asked)
    if response.status_code != 200 or not response.content:
        raise RuntimeError(f"{url} {asked} answered {response.status_code}")


if __name__ == "__main__":
    main()
