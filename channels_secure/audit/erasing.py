"""Erasing a person from the trail: values and salts go, the commitments stay, so that the chain still verifies.

In place of the salt stands a mark that only the key makes (`examining.erasure`): without it somebody who can change the
database could take themselves out of the trail and call it an erasure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import router, transaction
from django.db.models import Q, QuerySet

from channels_secure.audit import flushing, plain, recorder
from channels_secure.audit.examining import erasure
from channels_secure.audit.sealing import Seal, public_reason, seals
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import parse_address

# Rows in one transaction, which also records how many they were.
BATCH = 500
NOTHING: dict[str, Any] = {
    "user": None,
    "user_key": "",
    "username": "",
    "ip": "",
    "path": "",
    "origin": "",
    "user_agent": "",
    "detail": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom the rows are about.

    Args:
        kind: how they were named: ``user``, ``username`` or ``ip``; all that is recorded of them.
        concerned: the rows in which they are the user or the client.
        acted: the rows in which they are the actor.
    """

    kind: str
    concerned: Q
    acted: Q


@dataclass(slots=True, kw_only=True)
class Erased:
    """Rows in which the person was the user or the client, and those in which they were the actor."""

    rows: int = 0
    acted: int = 0


def by_user(user: Any) -> Person:
    """A user of the project, under any name they ever had."""
    name, key = plain.text(user.get_username()), plain.text(str(user.pk), 64)
    # A row without a key is of a user who was gone when it was recorded.
    concerned = Q(user_id=user.pk) | Q(user_key=key) | Q(user_key="", username=name)
    return Person(kind="user", concerned=concerned, acted=Q(actor=name))


def by_username(name: str) -> Person:
    """Whoever had a name, for users who are deleted."""
    return Person(kind="username", concerned=Q(username=plain.text(name)), acted=Q(actor=plain.text(name)))


def by_ip(text: str) -> Person:
    """Whoever came from an address, in any spelling of it, or from the network that stands for it in sums."""
    address = parse_address(text)
    return Person(
        kind="ip", concerned=Q(ip=plain.text(text if address is None else str(address), 64)), acted=Q(pk__in=())
    )


def find(person: Person) -> Erased:
    """How many rows `erase()` would change; reads the whole table."""
    table = AuditEvent.objects.using(router.db_for_write(AuditEvent))
    return Erased(rows=table.filter(person.concerned).count(), acted=table.filter(person.acted).count())


def erase(person: Person, *, actor: str) -> Erased:
    """Blank the personal fields of a person's rows; each batch records itself as `audit.erased`.

    Raises:
        django.db.Error: the database is away; what was erased is erased, and the rest is found when asked again.
    """
    flushing.flush_now()
    using = router.db_for_write(AuditEvent)
    table, seal, erased = AuditEvent.objects.using(using), seals(get_settings().audit_key)[0], Erased()
    for keys in _batches(table.filter(person.concerned)):
        with transaction.atomic(using=using):
            erased.rows += _blank(table.filter(pk__in=keys), seal)
            _record(person, actor, rows=len(keys))
    for keys in _batches(table.filter(person.acted)):
        with transaction.atomic(using=using):
            erased.acted += _blank_actor(table.filter(pk__in=keys), seal)
            _record(person, actor, acted=len(keys))
    return erased


def _batches(rows: QuerySet[AuditEvent]) -> Iterator[list[int]]:
    last = 0
    while keys := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        yield keys
        last = keys[-1]


def _blank(rows: QuerySet[AuditEvent], seal: Seal) -> int:
    # Written before it is read: the rows are locked then, on SQLite the whole database.
    count = rows.update(**NOTHING)
    changed = list(rows.only("uid", "reason", "commitment"))
    for row in changed:
        row.salt, row.reason = erasure(seal, row.uid, row.commitment), public_reason(row.reason)
    rows.bulk_update(changed, ["salt", "reason"])
    return count


def _blank_actor(rows: QuerySet[AuditEvent], seal: Seal) -> int:
    count = rows.update(actor="", actor_from="")
    changed = list(rows.only("uid", "actor_commitment"))
    for row in changed:
        row.actor_salt = erasure(seal, row.uid, row.actor_commitment)
    rows.bulk_update(changed, ["actor_salt"])
    return count


def _record(person: Person, actor: str, *, rows: int = 0, acted: int = 0) -> None:
    recorder.write("audit.erased", actor=actor, detail={"by": person.kind, "rows": rows, "acted": acted})
