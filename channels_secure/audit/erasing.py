"""Erasing a person from the trail: values and salts go, the commitments stay, so that the chain still verifies.

In place of the salt stands a mark that only the key makes (`examining.erasure`): without it somebody who can change the
database could take themselves out of the trail and call it an erasure. For the same reason a row that is not as it was
recorded gets no mark: it is erased, and goes on being one that was altered.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import router, transaction
from django.db.models import F, Q, QuerySet

from channels_secure.audit import flushing, plain, recorder
from channels_secure.audit.examining import Examiner, erasure
from channels_secure.audit.reading import page_of
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


# What an export may have asked for: `q` is the search of the admin's list.
USER_FILTERS = ("user", "username", "user_id", "q")
ADDRESS_FILTERS = ("ip", "q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom the rows are about.

    Args:
        kind: how they were named: ``user``, ``username`` or ``ip``; all that is recorded of them.
        concerned: the rows in which they are the user or the client.
        acted: the rows in which they are the actor, or in which somebody acted from there.
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
    return Person(kind="user", concerned=concerned | _asked_for(USER_FILTERS, name, key), acted=Q(actor=name))


def by_username(name: str) -> Person:
    """Whoever had a name, for users who are deleted."""
    name = plain.text(name)
    return Person(kind="username", concerned=Q(username=name) | _asked_for(USER_FILTERS, name), acted=Q(actor=name))


def by_ip(text: str) -> Person:
    """Whoever came from an address, in any spelling of it, or from the network that stands for it in sums."""
    address = parse_address(text)
    shown = plain.text(text if address is None else str(address), 64)
    # A block of one address names the network that has no other.
    texts = [shown] if address is None else [shown, f"{address}/{address.max_prefixlen}"]
    return Person(
        kind="ip", concerned=Q(ip__in=texts) | _asked_for(ADDRESS_FILTERS, *texts), acted=Q(actor_from__in=texts)
    )


def _asked_for(filters: Iterable[str], *texts: str) -> Q:
    """Exports that were to have the rows of somebody, and say whose."""
    named = Q(pk__in=())
    for name in filters:
        for text in dict.fromkeys(texts):
            named |= Q(**{f"detail__filters__{name}": text})
    return Q(kind=AuditEvent.Kind.AUDIT_EXPORTED) & named


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
    # Written before they are read: the rows are locked then, on SQLite the whole database.
    count = rows.update(is_open=F("is_open"))
    examiner = Examiner(get_settings().audit_key, 0, "")
    marks = {
        row.id: erasure(seal, row.uid, row.commitment) if examiner.is_as_committed(row) else ""
        for row in page_of(rows.order_by("pk"), BATCH)
    }
    rows.update(**NOTHING)
    changed = list(rows.only("reason"))
    for row in changed:
        row.salt, row.reason = marks[row.pk], public_reason(row.reason)
    rows.bulk_update(changed, ["salt", "reason"])
    return count


def _blank_actor(rows: QuerySet[AuditEvent], seal: Seal) -> int:
    count = rows.update(is_open=F("is_open"))
    examiner = Examiner(get_settings().audit_key, 0, "")
    marks = {
        row.id: erasure(seal, row.uid, row.actor_commitment) if examiner.has_its_actor(row) else ""
        for row in page_of(rows.order_by("pk"), BATCH)
    }
    rows.update(actor="", actor_from="")
    changed = list(rows.only("pk"))
    for row in changed:
        row.actor_salt = marks[row.pk]
    rows.bulk_update(changed, ["actor_salt"])
    return count


def _record(person: Person, actor: str, *, rows: int = 0, acted: int = 0) -> None:
    recorder.write("audit.erased", actor=actor, detail={"by": person.kind, "rows": rows, "acted": acted})
