"""The chain: whoever writes, and whatever happens to the head or to a row that waits, each place is given once."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone
from pytest_django.fixtures import Settings

from channels_secure import audit, database
from channels_secure.audit import chain, verifying, writer
from channels_secure.audit.faults import Wrong
from channels_secure.audit.sealing import FORGED, GENESIS, Seal, seals
from channels_secure.models import AuditEvent, AuditHead, AuditRollup
from tests.audit import writers
from tests.audit.writers import Other, events, hold_head, link_now, links, meanwhile, single, store, total, waiting

pytestmark = pytest.mark.django_db(transaction=True)

OLD = chain.ABANDONED + timedelta(minutes=1)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    audit.reset()
    yield
    audit.reset()


def only_on(vendor: str) -> bool:
    """SQLite has one writer at a time, who holds everything."""
    return connection.vendor == vendor


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "channels_secure"]


def undone(act: Callable[[], Any]) -> None:
    """Do something in a transaction that is rolled back."""
    with transaction.atomic():
        act()
        transaction.set_rollback(True)


def age(*uids: str) -> None:
    """Let rows have waited for long, without anybody noticing that their time was changed."""
    for event in AuditEvent.objects.filter(uid__in=uids):
        event.last_at -= OLD
        if event.hash:
            event.hash = Seal().digest(event)
        event.save()


# Linking -------------------------------------------------------------------------------------------------------------


def test_rows_are_linked_as_they_are_stored() -> None:
    store(*(single() for _ in range(3)))
    store(single())
    assert links() == 4


def test_a_row_of_a_transaction_waits_and_never_takes_the_heads_lock() -> None:
    store(single())
    with meanwhile(lambda: audit.write("block.created", "spam")):
        if only_on("postgresql"):
            # Were the lock taken, this would be stored without being linked.
            store(single())
            assert links() == 2
    assert (links(), waiting()) == (2 if only_on("postgresql") else 1, 1)
    link_now()
    assert waiting() == 0
    links()


def test_a_row_of_a_transaction_is_written_while_somebody_holds_the_lock() -> None:
    if not only_on("postgresql"):
        return
    store(single())
    with meanwhile(hold_head), transaction.atomic():
        audit.write("block.created", "spam")
    assert (links(), waiting()) == (1, 1)


def test_a_row_of_a_transaction_that_is_undone_leaves_no_gap() -> None:
    undone(lambda: audit.write("block.created", "spam"))
    store(single())
    assert links() == 1


def test_who_finds_the_lock_taken_stores_unlinked_rows_that_are_linked_later() -> None:
    if not only_on("postgresql"):
        return
    store(single())
    with meanwhile(lambda: (hold_head(), store(single(connection_id="held")))):
        store(*(single(connection_id="free") for _ in range(5)))
        assert AuditEvent.objects.filter(connection_id="free", position=None).count() == 5
    assert (links(), waiting()) == (2, 5)
    link_now()
    assert (links(), waiting()) == (7, 0)


def test_while_somebody_links_nobody_else_waits_for_it() -> None:
    if not only_on("postgresql"):
        return
    store(single())
    audit.write("block.created", "spam")
    with meanwhile(hold_head):
        link_now()
    assert waiting() == 1


def test_a_transaction_that_fails_gives_its_places_back() -> None:
    store(single())
    Other(lambda: undone(lambda: store(single(), single()))).finish()
    store(single())
    assert links() == 2


def test_many_writers_at_once_give_each_place_once() -> None:
    def write() -> None:
        for _ in range(10):
            insist(lambda: store(*(single() for _ in range(3)), total(7, is_over=True)))
            with transaction.atomic():
                audit.write("block.created", "spam")

    others = [Other(write) for _ in range(4)]
    for other in others:
        other.finish()
    link_now()
    assert links() == 4 * 10 * 5
    assert events() == 4 * 10 * 11


def insist(act: Any) -> Any:
    """SQLite's writers give up after a while; the rows stay with the recorder then."""
    for _ in range(20):
        try:
            return act()
        except OperationalError:
            continue
    return act()


def test_more_rows_than_fit_into_a_batch_are_linked() -> None:
    AuditEvent.objects.bulk_create(writer.sealed(single()) for _ in range(2 * chain.BATCH + 1))
    link_now()
    assert links() == 2 * chain.BATCH + 1


def test_every_process_links_what_waits_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    audit.flush_now()
    audit.write("block.created", "spam")
    audit.flush_now()
    assert waiting() == 1, "not with every flush"
    monkeypatch.setattr(chain, "CATCH_UP", 0.0)
    audit.flush_now()
    assert (links(), waiting()) == (1, 0)


async def test_a_process_that_ends_links_what_waits() -> None:
    await database.write(audit.flush_now)
    audit.record("connection.accepted")
    writers.record_flood(30)
    await database.write(audit.write, "block.created", "spam")
    assert await audit.flush_all(10) == 0
    assert await AuditEvent.objects.filter(position=None).acount() == 0


# Sums ----------------------------------------------------------------------------------------------------------------


def test_a_sum_is_linked_only_when_its_minute_is_over() -> None:
    growing = total(5)
    store(growing)
    link_now()
    assert (links(), waiting()) == (0, 1)
    growing.absorb(growing.last_at + 1, 7)
    store(growing)
    link_now()
    assert (links(), waiting(), events()) == (0, 1, 12)
    growing.is_over = True
    store(growing)
    assert (links(), waiting(), events()) == (1, 0, 12)


def test_a_sum_of_a_flood_is_linked_with_the_turn_of_the_minute() -> None:
    writers.record_flood(50)
    audit.flush_now()
    assert waiting() >= 1
    with audit.recorder.state.lock:
        audit.recorder.state.volume.end()
    audit.flush_now()
    assert (events(), waiting()) == (50, 0)
    links()


def test_the_sum_of_a_process_that_has_died_is_linked_after_a_while() -> None:
    dead = total(5)
    store(dead)
    age(dead.uid)
    link_now()
    assert (links(), waiting(), events()) == (1, 0, 5)


def test_what_a_process_adds_that_was_taken_for_dead_is_another_row_and_the_sum_is_exact() -> None:
    slow = total(5)
    store(slow)
    age(slow.uid)
    link_now()
    for number in (3, 4):
        slow.absorb(slow.last_at, number)
        assert store(slow) == number
        assert store(slow) == 0, "numbers are absolute"
    assert (links(), waiting(), events()) == (1, 1, 12)
    slow.is_over = True
    store(slow)
    assert (links(), waiting(), events()) == (2, 0, 12)
    assert sorted(AuditEvent.objects.values_list("count", flat=True)) == [5, 7]


def test_a_process_may_be_taken_for_dead_more_than_once() -> None:
    slow = total(5)
    for _ in range(3):
        store(slow)
        age(*AuditEvent.objects.filter(position=None).values_list("uid", flat=True))
        link_now()
        slow.absorb(slow.last_at, 10)
    store(slow)
    assert (links(), events(), slow.count) == (3, 35, 35)
    assert len(set(AuditEvent.objects.values_list("uid", flat=True))) == 4


def test_what_was_known_earlier_makes_no_sum_smaller() -> None:
    now, earlier = total(50), total(30)
    earlier.uid = now.uid
    store(now)
    earlier.uncertain = True
    assert store(earlier) == 0
    assert events() == 50


def test_a_sum_that_grows_while_somebody_links_it_is_counted_once() -> None:
    if not only_on("postgresql"):
        return
    slow = total(5)
    store(slow)
    age(slow.uid)
    with meanwhile(link_now):
        # The other has read and linked it, and has not committed.
        slow.absorb(slow.last_at, 10)
        growing = Other(lambda: store(slow))
        writers.until_somebody_waits()
    growing.finish()
    assert (links(), events()) == (1, 15)


def test_a_sum_that_is_linked_while_it_grows_is_left_alone() -> None:
    if not only_on("postgresql"):
        return
    slow = total(5)
    store(slow)
    age(slow.uid)
    AuditEvent.objects.filter(uid=slow.uid).update(is_open=False)

    def grow() -> None:
        slow.absorb(slow.last_at, 10)
        writer._store_all([slow], "default", is_linking=False)

    with meanwhile(grow):
        link_now()
        assert waiting() == 1
    link_now()
    slow.is_over = True
    store(slow)
    assert (links(), waiting(), events()) == (1, 0, 15)


# The head ------------------------------------------------------------------------------------------------------------


def test_a_head_that_is_lost_or_put_back_gives_no_place_twice(caplog: pytest.LogCaptureFixture) -> None:
    store(single(), single())
    AuditHead.objects.all().delete()
    store(single())
    assert links() == 3
    AuditHead.objects.update(position=1, hash=AuditEvent.objects.get(position=1).hash)
    audit.write("block.created", "spam")
    link_now()
    assert links() == 4
    assert heard(caplog) == ["audit.head_behind"] * 2


def test_rows_that_were_cut_off_behind_the_head_are_missed() -> None:
    store(*(single() for _ in range(4)))
    AuditEvent.objects.filter(position__gt=2).delete()
    store(single())
    assert list(AuditEvent.objects.order_by("position").values_list("position", flat=True)) == [1, 2, 5]
    assert verifying.verify().faults[0].what is Wrong.MISSING


def test_a_pruned_trail_goes_on_where_it_ended() -> None:
    store(single(), single())
    before = AuditHead.objects.get()
    AuditEvent.objects.all().delete()
    store(single())
    event = AuditEvent.objects.get()
    assert (event.position, event.hash) == (3, Seal().link(3, before.hash, Seal().digest(event)))


def test_two_who_make_the_first_head_make_one() -> None:
    others = [Other(lambda: insist(lambda: store(single()))) for _ in range(6)]
    for other in others:
        other.finish()
    link_now()
    assert links() == 6
    assert AuditHead.objects.count() == 1


def test_the_log_is_told_where_the_chain_ends_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "channels_secure")
    monkeypatch.setattr(chain, "CATCH_UP", 0.0)
    store(single())
    for _ in range(3):
        audit.flush_now()
    (line,) = caplog.records
    head = AuditHead.objects.get()
    assert line.getMessage() == "audit.head"
    assert (vars(line)["position"], vars(line)["hash"]) == (1, head.hash)
    monkeypatch.setattr(chain, "ANNOUNCE", 0.0)
    audit.flush_now()
    assert heard(caplog) == ["audit.head"] * 2


# Rows that are not what they were ------------------------------------------------------------------------------------


def forge(**changes: Any) -> AuditEvent:
    """A row that somebody has altered while it waited."""
    event = audit.write("block.created", "spam")
    AuditEvent.objects.filter(pk=event.pk).update(**changes)
    return event


def test_a_forged_row_that_waits_is_marked_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    first, forged = audit.write("block.created"), forge(kind="block.lifted", last_at=timezone.now() - OLD)
    last = audit.write("block.created")
    link_now()
    for event in (first, forged, last):
        event.refresh_from_db()
    assert [event.position for event in (first, forged, last)] == [1, 2, 3]
    assert forged.hash == Seal().link(2, first.hash, FORGED)
    assert heard(caplog) == ["audit.forged"]
    assert [(fault.what, fault.position) for fault in verifying.verify(everything=True).faults] == [(Wrong.FORGED, 2)]


def test_a_row_sealed_with_a_key_unknown_here_is_left_to_others_for_a_while(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"AUDIT_KEY": "n" * 32}
    audit.write("block.created", "spam")
    settings.CHANNELS_SECURE = {"AUDIT_KEY": "o" * 32}
    audit.write("block.lifted", "spam")
    link_now()
    assert waiting() == 1, "a process of the last deployment, which does not know the new key"
    settings.CHANNELS_SECURE = {"AUDIT_KEY": ["n" * 32, "o" * 32]}
    link_now()
    assert waiting() == 0
    assert verifying.verify().faults == []


def test_rows_sealed_with_an_older_key_are_linked_after_a_rotation(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"AUDIT_KEY": "o" * 32}
    audit.write("block.created", "spam")
    growing = total(5)
    store(growing)
    settings.CHANNELS_SECURE = {"AUDIT_KEY": ["n" * 32, "o" * 32]}
    growing.absorb(growing.last_at, 5)
    growing.is_over = True
    store(growing)
    link_now()
    assert (events(), waiting()) == (11, 0)
    assert verifying.verify().faults == []


def test_a_sum_that_somebody_altered_stays_as_it_is_and_what_comes_is_another_row() -> None:
    growing = total(5)
    store(growing)
    AuditEvent.objects.update(kind="block.lifted")
    growing.absorb(growing.last_at, 10)
    growing.is_over = True
    store(growing)
    assert sorted(AuditEvent.objects.values_list("kind", "count", "position")) == [
        ("block.lifted", 5, None),
        ("message.denied", 10, 1),
    ]
    assert {fault.what for fault in verifying.verify().faults} == {Wrong.FORGED}


@pytest.mark.parametrize("known", [(), ("o" * 32,)], ids=["no key", "a key that was given up"])
def test_a_sum_that_was_sealed_with_less_than_the_newest_key_is_never_sealed_anew(
    settings: Settings, known: tuple[str, ...]
) -> None:
    """Else who may write the table had only to alter an open sum and wait until the package seals what stands there."""
    settings.CHANNELS_SECURE = {"AUDIT_KEY": ["n" * 32, *known]}
    growing = total(5, username="mallory")
    store(growing)
    forged, less = AuditEvent.objects.get(), seals(known)[-1]
    forged.username, forged.count = "alice", 3
    less.commit(forged)
    forged.hash = less.digest(forged)
    forged.save()
    growing.absorb(growing.last_at, 10)
    growing.is_over = True
    store(growing)
    link_now()
    assert list(AuditEvent.objects.order_by("id").values_list("username", "count")) == [("alice", 3), ("mallory", 12)]
    assert verifying.verify(everything=True).by_key[:2] == [1, 1]


@pytest.mark.parametrize("column", ["detail", "created_at"])
def test_a_waiting_row_that_cannot_be_read_is_linked_as_forged_and_costs_no_other(
    column: str, caplog: pytest.LogCaptureFixture
) -> None:
    if not only_on("sqlite"):
        # PostgreSQL takes nothing that it could not give back.
        return
    spoilt = [audit.write("block.created", str(number)) for number in range(3)][1]
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute(f"UPDATE channels_secure_auditevent SET {column} = '2026-99-99 x' WHERE id = %s", [spoilt.pk])
        cursor.execute("PRAGMA ignore_check_constraints = OFF")
    link_now()
    store(single())
    assert list(AuditEvent.objects.order_by("pk").values_list("position", flat=True)) == [1, 2, 3, 4]
    assert heard(caplog) == ([] if column == "detail" else ["audit.forged"])
    assert AuditRollup.objects.get(kind="block.created").rows == (3 if column == "detail" else 2)


def test_a_place_that_somebody_has_taken_costs_no_row(caplog: pytest.LogCaptureFixture) -> None:
    """With the highest number there is, nothing can be linked any more; verification tells, and nothing is lost."""
    store(single())
    AuditEvent.objects.update(position=2**63 - 1)
    for _ in range(3):
        audit.record("connection.accepted", path="/kept/")
    audit.flush_now()
    assert AuditEvent.objects.filter(path="/kept/", position=None).count() == 3
    assert not audit.pending()
    assert "audit.unlinkable" in heard(caplog)
    assert audit.is_writable()


def test_genesis_is_before_the_first_row() -> None:
    store(single())
    event = AuditEvent.objects.get()
    assert event.hash == Seal().link(1, GENESIS, Seal().digest(event))


# Rollups -------------------------------------------------------------------------------------------------------------


def test_rollups_are_the_sums_of_linked_rows_by_hour_kind_and_reason() -> None:
    hour = 3600.0
    rows = [
        single(created_at=at * hour / 2, last_at=at * hour / 2, kind=kind, reason=reason, count=count)
        for at in range(4)
        for kind, reason in (("handshake.denied", "blocked"), ("handshake.denied", "rate_limited"), ("x", "an own one"))
        for count in (1, 10)
    ]
    store(*rows[::2])
    store(*rows[1::2])
    audit.write("block.created", "spam")
    store(total(5))
    assert links() == len(rows)
    found = {(each.hour.hour, each.kind, each.reason): (each.events, each.rows) for each in AuditRollup.objects.all()}
    pairs = [("handshake.denied", "blocked"), ("handshake.denied", "rate_limited"), ("x", "")]
    assert found == {(at, *pair): (22, 4) for at in (0, 1) for pair in pairs}
    link_now()
    assert AuditRollup.objects.get(kind="block.created", reason="").events == 1


def test_rollups_are_undone_with_what_they_count() -> None:
    store(single())
    undone(lambda: store(single()))
    assert AuditRollup.objects.get().events == 1
    assert AuditHead.objects.filter(position=F("id")).exists()
