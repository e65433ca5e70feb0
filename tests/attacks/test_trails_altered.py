"""Somebody with the database and without the key: whatever they do to the trail is found, or said not to be found."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.utils import timezone

from channels_secure.audit import chain, checkpoints
from channels_secure.audit.erasing import NOTHING
from channels_secure.audit.examining import erasure
from channels_secure.audit.heads import Head
from channels_secure.audit.sealing import Seal
from channels_secure.audit.verifying import verify
from channels_secure.models import AuditCheckpoint, AuditEvent, AuditHead
from tests.audit.trails import KEY, OLDER, grow, keyed, put_head, relink, run, shift, sql, waiting

pytestmark = pytest.mark.django_db

OLD = timedelta(days=100)


@pytest.fixture(autouse=True)
def key(settings: Any) -> None:
    keyed(settings, KEY)


def first() -> tuple[str, int | None]:
    """What is wrong first, and where."""
    found = verify().faults
    return (found[0].what.value, found[0].position) if found else ("nothing", None)


# Columns -------------------------------------------------------------------------------------------------------------

# What an attacker writes into each column of a linked row.
EDITS: dict[str, Any] = {
    "created_at": "2026-01-01 00:00:00+00:00",
    "last_at": "2026-01-01 00:00:00+00:00",
    "count": 1,
    "kind": "connection.accepted",
    "reason": "another word",
    "user_id": 5,
    "user_key": "5",
    "username": "mallory",
    "ip": "198.51.100.1",
    "path": "/other/",
    "origin": "https://evil.test",
    "user_agent": "wget",
    "connection_id": "c9",
    "actor": "mallory",
    "actor_from": "198.51.100.1",
    "detail": "{}",
    "uid": "another-name",
    "is_open": True,
    "hash": "0" * 64,
    "salt": "0" * 32,
    "commitment": "0" * 64,
    "actor_salt": "0" * 32,
    "actor_commitment": "0" * 64,
}


def test_every_column_is_tried() -> None:
    columns = {field.column for field in AuditEvent._meta.concrete_fields}
    # The primary key says nothing; what becomes of a place has tests of its own.
    assert columns - {"id", "position"} == set(EDITS)


@pytest.mark.parametrize("column", EDITS)
@pytest.mark.parametrize("with_key", [True, False], ids=["with a key", "without"])
def test_an_edited_column_is_found(settings: Any, column: str, with_key: bool) -> None:
    keyed(settings, *([KEY] if with_key else []))
    grow(3)
    assert first() == ("nothing", None)
    sql(f"UPDATE {{}} SET {column} = %s WHERE position = 2", EDITS[column])
    assert first() == ("altered", 2)


@pytest.mark.parametrize(
    "column", ["reason", "username", "ip", "path", "origin", "user_agent", "actor", "actor_from", "user_key"]
)
def test_a_blanked_column_is_found(column: str) -> None:
    grow(3)
    sql(f"UPDATE {{}} SET {column} = '' WHERE position = 2")
    assert first() == ("altered", 2)


def test_words_that_become_one_of_the_packages_reasons_are_found() -> None:
    grow(1)
    sql("UPDATE {} SET reason = 'rate_limited' WHERE position = 1")
    assert first() == ("altered", 1)


def test_another_user_is_found(user: User) -> None:
    """The key of a user is recorded beside the reference, which leads to whoever has that primary key now."""
    grow(1, user=user, user_key=str(user.pk))
    other = User.objects.create_user("bob")
    assert first() == ("nothing", None)
    sql("UPDATE {} SET user_id = %s", other.pk)
    assert first() == ("altered", 1)


@pytest.mark.parametrize("salt", ["", "0" * 32, None])
@pytest.mark.parametrize("actor_too", [True, False])
def test_an_erasure_without_the_key_is_found(salt: str | None, actor_too: bool) -> None:
    row = grow(3)[1]
    fields = AuditEvent.objects.filter(position=2)
    fields.update(**NOTHING, reason="", salt=_mark(row.uid, row.commitment) if salt is None else salt)
    if actor_too:
        fields.update(actor="", actor_salt=_mark(row.uid, row.actor_commitment) if salt is None else salt)
    assert first() == ("altered", 2)


def _mark(uid: str, commitment: str) -> str:
    """What anybody can make who knows the formulas."""
    return erasure(Seal(), uid, commitment)


@pytest.mark.parametrize("column", ["user_key", "username", "ip", "path", "origin", "user_agent", "reason", "detail"])
def test_an_erased_row_that_is_filled_again_is_found(column: str) -> None:
    """Or else somebody could be put in the place of who was erased."""
    grow(2, username="alice")
    assert run("ws_erase_audit", "--username", "alice", "--no-input")[0] == 0
    assert first() == ("nothing", None)
    sql(f"UPDATE {{}} SET {column} = %s WHERE position = 2", '{"a": 1}' if column == "detail" else "mallory")
    assert first() == ("altered", 2)


def test_an_erased_actor_that_is_named_again_is_found() -> None:
    grow(2, actor="alice")
    assert run("ws_erase_audit", "--username", "alice", "--no-input")[0] == 0
    assert first() == ("nothing", None)
    sql("UPDATE {} SET actor = 'mallory' WHERE position = 2")
    assert first() == ("altered", 2)


@pytest.mark.parametrize("salt", ["", "0" * 31, "0" * 33])
def test_a_salt_of_another_length_is_found(salt: str) -> None:
    """It could take in the beginning of what it salts, so that another text has the same commitment."""
    if connection.vendor != "sqlite" and len(salt) > 32:
        return
    grow(1)
    row = AuditEvent.objects.get()
    row.salt = salt
    row.commitment = Seal(KEY.encode()).commitment(row)
    relink([row], Seal(KEY.encode()))
    assert first() == ("altered", 1)


def test_an_erased_actor_without_the_key_is_found() -> None:
    grow(3)
    AuditEvent.objects.filter(position=2).update(actor="", actor_salt="")
    assert first() == ("altered", 2)


GARBAGE = {"detail": "{", "created_at": "yesterday", "last_at": b"\xff", "username": b"\xff\xfe", "count": "many"}


@pytest.mark.parametrize("column", GARBAGE)
@pytest.mark.parametrize("is_linked", [True, False], ids=["linked", "waiting"])
def test_a_row_that_cannot_be_read_hides_nothing(column: str, is_linked: bool) -> None:
    """SQLite stores anything in any column; other databases refuse it themselves."""
    if connection.vendor != "sqlite":
        return
    grow(3)
    row = AuditEvent.objects.get(position=2) if is_linked else waiting()
    sql("PRAGMA ignore_check_constraints = ON")
    sql(f"UPDATE {{}} SET {column} = %s WHERE id = %s", GARBAGE[column], row.pk)
    sql("PRAGMA ignore_check_constraints = OFF")
    assert first()[0] in {"altered", "forged"}
    assert len(verify(everything=True).faults) == 1


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gone", "found"), [((1,), 1), ((3,), 3), ((2, 3), 2), ((1, 2, 3, 4), 1)])
def test_deleted_rows_are_found(gone: tuple[int, ...], found: int) -> None:
    grow(5)
    AuditEvent.objects.filter(position__in=gone).delete()
    assert first() == ("missing", found)


def test_a_deleted_last_row_is_found_by_the_head() -> None:
    grow(5)
    AuditEvent.objects.filter(position=5).delete()
    assert first() == ("missing", 5)
    # And still, when the chain goes on.
    grow(1)
    assert first() == ("missing", 5)


def test_a_trail_that_is_gone_altogether_is_found_by_the_head() -> None:
    grow(5)
    AuditEvent.objects.all().delete()
    assert first() == ("missing", 1)


def test_a_cut_tail_whose_head_was_put_back_is_found_only_with_a_head_that_was_kept() -> None:
    grow(5)
    kept = str(AuditHead.objects.get())
    AuditEvent.objects.filter(position=5).delete()
    put_head(4)
    assert first() == ("nothing", None)
    assert run("ws_verify_audit", "--head", kept)[0] == 1


def test_deleted_rows_whose_successors_moved_up_are_found() -> None:
    grow(5)
    AuditEvent.objects.filter(position=2).delete()
    shift(2, by=-1)
    put_head(4)
    assert first()[1] == 2


def test_a_head_that_was_put_back_is_found() -> None:
    grow(5)
    put_head(3)
    assert first() == ("head", 3)


@pytest.mark.parametrize("content", [{"hash": "0" * 64}, {"position": 4}, {"position": 9}])
def test_an_altered_head_is_found(content: dict[str, Any]) -> None:
    grow(5)
    AuditHead.objects.update(**content)
    assert first()[0] in {"head", "missing"}


def test_a_head_that_is_gone_is_found() -> None:
    grow(5)
    AuditHead.objects.all().delete()
    assert first() == ("head", None)


def swap(one: int, other: int, fields: list[str]) -> None:
    """Let two rows exchange some of their columns."""
    rows = {row.position: row for row in AuditEvent.objects.filter(position__in=(one, other))}
    first, second = rows[one], rows[other]
    values = {row.pk: {name: getattr(row, name) for name in fields} for row in (first, second)}
    # The unique ones have to get out of the way first.
    AuditEvent.objects.filter(pk=first.pk).update(uid="nobody", position=None)
    AuditEvent.objects.filter(pk=second.pk).update(**values[first.pk])
    AuditEvent.objects.filter(pk=first.pk).update(**{"uid": first.uid, "position": one, **values[second.pk]})


CONTENT = [name for name in EDITS if name not in {"user_id", "hash", "is_open"}]


@pytest.mark.parametrize("other", [3, 6])
@pytest.mark.parametrize("fields", [["position"], CONTENT, [*CONTENT, "hash"]], ids=["places", "content", "both"])
def test_swapped_rows_are_found_and_where_they_belong(other: int, fields: list[str]) -> None:
    grow(8)
    swap(2, other, fields)
    (fault,) = verify().faults
    assert (fault.what, fault.position) == ("moved", 2)
    assert f"was row {other} when it was recorded" in fault.message


def test_swapped_times_are_found() -> None:
    grow(8)
    AuditEvent.objects.filter(position=3).update(created_at=F("created_at") - timedelta(minutes=5))
    assert first() == ("altered", 3)


# Rows that never happened --------------------------------------------------------------------------------------------


def copy_of(row: AuditEvent, **changes: Any) -> AuditEvent:
    fresh = AuditEvent(
        **{
            field.attname: getattr(row, field.attname)
            for field in AuditEvent._meta.concrete_fields
            if field.name not in {"id", "uid"}
        }
    )
    for name, value in changes.items():
        setattr(fresh, name, value)
    return fresh


@pytest.mark.parametrize("place", [1, 3, 6])
def test_an_inserted_row_is_found(place: int) -> None:
    rows = grow(5)
    shift(place - 1, by=1)
    copy_of(rows[2], position=place).save()
    put_head(6)
    assert first()[1] == place


def test_an_inserted_row_that_is_sealed_without_the_key_is_found() -> None:
    rows = grow(5)
    forged = copy_of(rows[2], position=6, actor="mallory")
    Seal().commit(forged)
    forged.save()
    relink([forged], Seal())
    assert first() == ("unkeyed", 6)


def test_a_trail_that_is_rewritten_without_the_key_is_found() -> None:
    rows = grow(5)
    rows[2].count = 9
    for row in rows[2:]:
        Seal().commit(row)
    relink(rows[2:], Seal())
    assert first() == ("unkeyed", 3)


def test_a_key_that_was_given_up_cannot_rewrite_what_a_newer_one_has_linked(settings: Any) -> None:
    stolen = Seal(KEY.encode())
    rows = grow(2)
    keyed(settings, OLDER, KEY)
    grow(2)
    assert first() == ("nothing", None)
    rows[1].count = 9
    relink(rows[1:], stolen)
    assert first() == ("altered", 3)


def test_a_key_that_was_given_up_and_rewrites_all_that_came_later_too_is_found_with_a_head(settings: Any) -> None:
    stolen = Seal(KEY.encode())
    rows = grow(2)
    keyed(settings, OLDER, KEY)
    rows += grow(2)
    head = kept()
    rows[1].count = 9
    for row in rows:
        stolen.commit(row)
    relink(rows, stolen)
    assert first() == ("nothing", None)
    assert with_head(head) == ("head", 4)


def test_a_forged_row_that_waits_is_found() -> None:
    grow(2)
    forged = copy_of(AuditEvent.objects.get(position=1), position=None, hash="0" * 64)
    forged.save()
    assert first() == ("forged", None)


def test_a_forged_row_that_waits_is_found_after_it_was_linked() -> None:
    grow(2)
    old = timezone.now() - OLD
    copy_of(AuditEvent.objects.get(position=1), position=None, hash="0" * 64, created_at=old, last_at=old).save()
    assert first() == ("forged", 3)


@pytest.mark.parametrize("column", ["count", "username", "ip", "actor", "detail", "connection_id"])
def test_a_row_that_was_altered_while_it_waited_is_found(column: str) -> None:
    grow(2)
    waiting()
    sql(f"UPDATE {{}} SET {column} = %s WHERE position IS NULL", EDITS[column])
    assert first()[0] in {"forged", "altered"}


def test_a_linked_row_that_is_made_to_wait_again_is_found() -> None:
    grow(3)
    AuditEvent.objects.filter(position=3).update(position=None, is_open=True)
    put_head(2)
    assert first() == ("forged", None)


def test_a_row_that_waits_and_is_deleted_is_not_found() -> None:
    """What is not linked yet can be deleted without a trace: the documentation says so."""
    grow(2)
    waiting().delete()
    assert first() == ("nothing", None)


# What is said ---------------------------------------------------------------------------------------------------------

TERMINAL = "\x1b[2J\x1b[HThe trail verifies.\n"


@pytest.mark.parametrize("column", ["hash", "uid", "kind", "position"])
def test_nothing_that_stands_in_the_table_reaches_the_terminal_or_the_log(
    column: str, caplog: pytest.LogCaptureFixture
) -> None:
    if column == "position" and connection.vendor != "sqlite":
        # Nothing but SQLite takes a text for a number.
        return
    grow(3)
    sql(f"UPDATE {{}} SET {column} = %s WHERE position = 3", TERMINAL)
    if column == "hash":
        AuditHead.objects.update(hash=TERMINAL)
    with caplog.at_level("INFO"):
        chain.announce()
    code, said = run("ws_verify_audit", "--all", "--no-link")
    assert code == 1
    assert said.replace("\n", "").isprintable()
    assert all(str(value).isprintable() for record in caplog.records for value in (record.msg, record.hash))
    assert run("ws_verify_audit", "--json", "--no-link")[1].replace("\n", "").isprintable()


# Heads vouch for what was there before there was a key, and for nothing else ------------------------------------------


def kept() -> str:
    return str(AuditHead.objects.get())


def with_head(*heads: str) -> tuple[str, int | None]:
    """What is wrong first when heads are named that were taken from the log, whatever stood in the trail then."""
    found = verify([Head.parse(head) for head in heads]).faults
    return (found[0].what.value, found[0].position) if found else ("nothing", None)


def forge_waiting() -> None:
    """A row that never happened, sealed without the key, for the package to link."""
    forged = AuditEvent(kind="block.created", actor="root", username="mallory")
    Seal().commit(forged)
    forged.hash = Seal().digest(forged)
    forged.save()


def test_a_row_sealed_without_the_key_is_found_also_behind_a_head() -> None:
    grow(3, age=timedelta(hours=3))
    grow(3, age=timedelta(hours=1))
    forge_waiting()
    chain.link_waiting()
    grow(2)
    # The log has a head every minute, and no minute asks what stands before it.
    assert with_head(kept()) == ("unkeyed", 7)


def test_rows_linked_without_the_key_are_found_also_behind_a_head() -> None:
    grow(1, age=timedelta(hours=2))
    rows = grow(4)
    rows[3].count = 9
    relink(rows[3:], Seal())
    grow(2)
    assert with_head(kept()) == ("unkeyed", 5)


def test_a_checkpoint_without_the_key_is_found_also_behind_a_head() -> None:
    """Or whoever names a head every night would let anybody prune what stands before it."""
    grow(5)
    forge_checkpoint(3, Seal())
    assert with_head(kept()) == ("checkpoint", 3)


def test_a_checkpoint_without_the_key_at_the_very_end_is_found_also_behind_a_head() -> None:
    grow(5)
    head = kept()
    forge_checkpoint(5, Seal())
    assert with_head(head) == ("checkpoint", 5)


def test_a_checkpoint_of_a_key_that_was_given_up_is_found_before_rows_of_a_newer_one(settings: Any) -> None:
    grow(2)
    keyed(settings, OLDER, KEY)
    grow(4)
    forge_checkpoint(4, Seal(KEY.encode()))
    assert first() == ("checkpoint", 4)
    code, said = run("ws_prune_audit", "--days", "1")
    assert (code, "was not signed" in said) == (1, True)


def forge_checkpoint(position: int, seal: Seal) -> None:
    last = AuditEvent.objects.get(position=position)
    forged = AuditCheckpoint(
        position=position, hash=last.hash, rows=position, events=2 * position, last_at=last.last_at
    )
    forged.signature = checkpoints.signature(forged, seal)
    forged.save()
    AuditEvent.objects.filter(position__lte=position).delete()


# Pruning -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pruned() -> AuditCheckpoint:
    """A trail of which the rows 1 to 4 were pruned, and 5 to 8 are there."""
    grow(4, age=OLD)
    grow(4)
    assert run("ws_prune_audit")[0] == 0
    AuditEvent.objects.filter(kind="audit.pruned").delete()
    assert first() == ("nothing", None)
    return AuditCheckpoint.objects.get()


@pytest.mark.parametrize(("position", "column"), [(5, "count"), (6, "username"), (8, "kind")])
def test_a_row_that_is_altered_after_pruning_is_found(pruned: AuditCheckpoint, position: int, column: str) -> None:
    sql(f"UPDATE {{}} SET {column} = %s WHERE position = %s", EDITS[column], position)
    assert first() == ("altered", position)


def test_a_first_row_that_is_deleted_after_pruning_is_found(pruned: AuditCheckpoint) -> None:
    AuditEvent.objects.filter(position=5).delete()
    assert first() == ("missing", 5)


def test_a_checkpoint_that_is_gone_is_found(pruned: AuditCheckpoint) -> None:
    pruned.delete()
    assert first() == ("missing", 1)


@pytest.mark.parametrize("sign", [lambda _: "0" * 64, lambda row: checkpoints.signature(row, Seal())])
def test_a_forged_checkpoint_is_found(pruned: AuditCheckpoint, sign: Callable[[AuditCheckpoint], str]) -> None:
    """Deleting rows and calling it pruning takes the key."""
    last = AuditEvent.objects.get(position=6)
    forged = AuditCheckpoint(position=6, hash=last.hash, rows=2, events=4, last_at=last.last_at)
    forged.signature = sign(forged)
    forged.save()
    AuditEvent.objects.filter(position__lte=6).delete()
    assert first() == ("checkpoint", 6)


@pytest.mark.parametrize("name", ["position", "hash", "rows", "events", "last_at", "created_at", "actor", "signature"])
def test_an_altered_checkpoint_is_found(pruned: AuditCheckpoint, name: str) -> None:
    values = {
        "position": 5,
        "hash": "0" * 64,
        "rows": 3,
        "events": 3,
        "last_at": timezone.now(),
        "created_at": timezone.now(),
        "actor": "mallory",
        "signature": "0" * 64,
    }
    AuditCheckpoint.objects.update(**{name: values[name]})
    assert first() == ("checkpoint", 5 if name == "position" else 4)


def test_an_old_checkpoint_that_is_put_back_is_found(pruned: AuditCheckpoint) -> None:
    old = AuditCheckpoint.objects.values().get()
    AuditEvent.objects.filter(position__lte=6).update(last_at=timezone.now() - OLD)
    assert run("ws_prune_audit", "--force")[0] == 0
    AuditEvent.objects.filter(position=None).delete()
    assert first() == ("nothing", None)
    AuditCheckpoint.objects.all().delete()
    AuditCheckpoint.objects.create(**old)
    assert first() == ("missing", 5)


def test_rows_before_the_beginning_are_found(pruned: AuditCheckpoint) -> None:
    """Verification begins after the checkpoint: what stands before it would never be looked at."""
    copy_of(AuditEvent.objects.get(position=5), position=2).save()
    assert first() == ("forged", 2)


def test_a_checkpoint_that_was_taken_out_of_several_is_said(pruned: AuditCheckpoint) -> None:
    pruned.pk = None
    pruned.position, pruned.hash = 5, AuditEvent.objects.get(position=5).hash
    pruned.rows = 1
    pruned.signature = checkpoints.signature(pruned, Seal(KEY.encode()))
    pruned.save()
    AuditEvent.objects.filter(position=5).delete()
    assert verify().warnings == []
    AuditCheckpoint.objects.filter(position=4).delete()
    report = verify()
    assert report.faults == []
    assert report.warnings == ["The checkpoints do not account for all rows that are gone: one of them is missing."]


def test_rows_that_are_made_to_look_old_are_not_pruned_away() -> None:
    """Or else whoever can change the database would have pruning destroy the evidence, and sign that it was right."""
    grow(4)
    AuditEvent.objects.filter(position=1).update(last_at=timezone.now() - OLD, created_at=timezone.now() - OLD)
    code, said = run("ws_prune_audit")
    assert code == 1
    assert "Row 1" in said
    assert AuditEvent.objects.filter(position__isnull=False).count() == 4


def test_an_altered_row_is_not_pruned_with_the_old_ones() -> None:
    grow(5, age=OLD)
    sql("UPDATE {} SET username = 'mallory' WHERE position = 3")
    assert run("ws_prune_audit")[0] == 1
    assert list(AuditEvent.objects.exclude(position=None).order_by("position").values_list("position", flat=True)) == [
        3,
        4,
        5,
    ]
    assert first() == ("altered", 3)


def test_nothing_is_pruned_after_a_forged_checkpoint() -> None:
    grow(5, age=OLD)
    last = AuditEvent.objects.get(position=2)
    AuditCheckpoint.objects.create(
        position=2, hash=last.hash, rows=2, events=4, last_at=last.last_at, signature="0" * 64
    )
    AuditEvent.objects.filter(position__lte=2).delete()
    code, said = run("ws_prune_audit")
    assert code == 1
    assert "was not signed" in said
    assert AuditEvent.objects.count() == 3


# Without a key -------------------------------------------------------------------------------------------------------


def test_without_a_key_a_trail_that_was_rewritten_is_found_only_with_a_head_that_was_kept(settings: Any) -> None:
    keyed(settings)
    rows = grow(5)
    kept = str(AuditHead.objects.get())
    rows[2].count = 9
    relink(rows[2:], Seal())
    assert first() == ("nothing", None)
    assert run("ws_verify_audit", "--head", kept)[0] == 1


def test_without_a_key_a_forged_checkpoint_is_not_found(settings: Any) -> None:
    keyed(settings)
    grow(5)
    last = AuditEvent.objects.get(position=3)
    forged = AuditCheckpoint(position=3, hash=last.hash, rows=3, events=6, last_at=last.last_at)
    forged.signature = checkpoints.signature(forged, Seal())
    forged.save()
    AuditEvent.objects.filter(position__lte=3).delete()
    assert first() == ("nothing", None)
