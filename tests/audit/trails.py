"""Trails to verify, and what an attacker with the database does to them."""

from collections.abc import Iterable
from datetime import timedelta
from io import StringIO
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection, router, transaction
from django.db.models import F
from django.utils import timezone

from channels_secure import audit
from channels_secure.audit import chain
from channels_secure.audit.sealing import Seal, seals
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent, AuditHead

KEY, OLDER = "k" * 32, "o" * 32
TABLE = AuditEvent._meta.db_table


def keyed(settings: Any, *keys: str) -> None:
    """Give the project these keys, newest first."""
    settings.CHANNELS_SECURE = {"AUDIT_KEY": list(keys)} if keys else {}


def grow(count: int, *, age: timedelta = timedelta(0), **facts: Any) -> list[AuditEvent]:
    """Link so many more rows, each with every field filled; the newest row is so old."""
    using = router.db_for_write(AuditEvent)
    before = AuditEvent.objects.filter(position__isnull=False).count()
    events = [_event(before + number, timezone.now() - age, facts) for number in range(1, count + 1)]
    seal = seals(get_settings().audit_key)[0]
    for event in events:
        seal.commit(event)
        event.hash = seal.digest(event)
    with transaction.atomic(using=using):
        link = chain.take(using)
        assert link is not None
        link.append(events)
        AuditEvent.objects.bulk_create(events)
        link.save()
    return list(AuditEvent.objects.filter(position__gt=before).order_by("position"))[-count:]


def _event(number: int, at: Any, facts: dict[str, Any]) -> AuditEvent:
    fields = {
        "kind": "block.created",
        "reason": "flooding the lobby",
        "created_at": at,
        "last_at": at,
        "count": 2,
        "user_key": f"key-{number}",
        "username": f"user{number}",
        "ip": f"203.0.113.{number % 250}",
        "path": "/ws/chat/",
        "origin": "https://chat.example.com",
        "user_agent": "curl/8",
        "connection_id": f"c{number}",
        "actor": "root",
        "actor_from": "root@web-1",
        "detail": {"number": number, "share": 0.5, "words": ["a", None]},
    }
    return AuditEvent(**{**fields, **facts})


def waiting(**facts: Any) -> AuditEvent:
    """A row that waits to be linked."""
    return audit.write("block.created", "spam", actor="root", ip="203.0.113.9", count=2, detail={"n": 1}, **facts)


def sql(statement: str, *values: Any) -> None:
    """Do something to the table behind the package's back; `{}` stands for its name."""
    with connection.cursor() as cursor:
        cursor.execute(statement.format(TABLE), values)


def put_head(position: int) -> None:
    """Let the chain end at a row, as if nothing had come after it."""
    row = AuditEvent.objects.get(position=position)
    AuditHead.objects.update(position=row.position, hash=row.hash)


def relink(rows: Iterable[AuditEvent], seal: Seal) -> None:
    """Seal rows and all that come after them anew, as somebody would who knows the formulas."""
    for row in rows:
        before = AuditEvent.objects.filter(position=(row.position or 0) - 1).values_list("hash", flat=True).first()
        row.hash = seal.link(row.position or 0, before or "0" * 64, seal.digest(row))
        row.save()
    last = AuditEvent.objects.filter(position__isnull=False).order_by("-position").first()
    assert last is not None
    AuditHead.objects.update(position=last.position, hash=last.hash)


def shift(after: int, by: int) -> None:
    """Move the rows behind a place; in two steps, because no two may share one."""
    AuditEvent.objects.filter(position__gt=after).update(position=F("position") + 1_000_000)
    AuditEvent.objects.filter(position__gt=1_000_000).update(position=F("position") - 1_000_000 + by)


def run(command: str, *arguments: str) -> tuple[int, str]:
    """The exit code and what was said."""
    out = StringIO()
    try:
        call_command(command, *arguments, stdout=out, no_color=True)
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{error}\n"
    return 0, out.getvalue()
