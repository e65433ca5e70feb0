"""Storing rows: what was stored is stored once, whatever the answer was, and one bad row costs no other."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connection, connections, transaction
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from channels_secure import audit
from channels_secure.audit import chain, spooling, writer
from channels_secure.models import AuditEvent, new_uid
from tests.audit.writers import dead, events, link_now, links, record_flood, single, store, total, waiting


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    audit.reset()
    yield
    audit.reset()


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "channels_secure"]


class Commit:
    """What becomes of the next commits of this thread's connection: each in turn `works`, `fails` or is `unheard`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fates: list[str] = []
        wrapper = connections[DEFAULT_DB_ALIAS]
        self.real: Callable[[], None] = wrapper.commit
        monkeypatch.setattr(wrapper, "commit", self)

    def __call__(self) -> None:
        fate = self.fates.pop(0) if self.fates else "works"
        if fate == "fails":
            raise OperationalError("the server has gone before it")
        self.real()
        if fate == "unheard":
            raise OperationalError("the server has gone behind it")


@pytest.fixture
def commit(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Commit:
    return Commit(monkeypatch)


def test_a_commit_whose_answer_is_lost_stores_nothing_twice(commit: Commit) -> None:
    for number in range(5):
        audit.record("connection.accepted", connection_id=str(number))
    commit.fates = ["unheard"]
    audit.flush_now()
    assert audit.pending()
    assert events() == 5
    audit.flush_now()
    assert not audit.pending()
    assert (events(), links()) == (5, 5)


def test_a_commit_that_failed_is_made_again(commit: Commit) -> None:
    audit.record("connection.accepted")
    commit.fates = ["fails"]
    audit.flush_now()
    assert audit.pending()
    assert events() == 0
    audit.flush_now()
    assert (events(), links()) == (1, 1)


@pytest.mark.parametrize("fate", ["fails", "unheard"])
def test_a_sum_whose_commit_is_in_doubt_is_exact(commit: Commit, fate: str) -> None:
    growing = total(5)
    commit.fates = [fate]
    with pytest.raises(OperationalError):
        store(growing)
    assert growing.uncertain, "so that it is looked for first"
    growing.absorb(growing.last_at, 7)
    store(growing)
    commit.fates = [fate]
    growing.absorb(growing.last_at, 7)
    growing.is_over = True
    with pytest.raises(OperationalError):
        store(growing)
    store(growing)
    link_now()
    assert (events(), links()) == (19, 1)


def test_an_interruption_leaves_rows_in_doubt_and_not_twice(commit: Commit) -> None:
    row = single()
    real = commit.real

    def interrupted() -> None:
        real()
        raise KeyboardInterrupt

    commit.real = interrupted
    with pytest.raises(KeyboardInterrupt):
        store(row)
    assert row.uncertain
    commit.real = real
    assert store(row) == 0
    assert events() == 1


@pytest.mark.django_db
def test_a_name_that_is_there_already_is_no_reason_to_spoil_a_row(caplog: pytest.LogCaptureFixture) -> None:
    row = single(path="/kept/")
    store(row)
    row.written, row.uncertain = 0, False
    assert store(row, single()) == 1
    assert list(AuditEvent.objects.order_by("pk").values_list("path", flat=True)) == ["/kept/", ""]
    assert heard(caplog) == [], "nothing is lost"


@pytest.mark.django_db
def test_nobody_can_take_the_name_of_an_event_that_is_to_come() -> None:
    """Who may write the table sees the names that there are; a row of theirs must not stand in for the next event."""
    store(single(uid=new_uid()))
    process, number, ending = AuditEvent.objects.get().uid.split("-")
    for step in range(1, 5):
        for guess in (f"{int(number, 16) + step:x}-{ending}", f"{number}-{int(ending, 16) + step:016x}"):
            AuditEvent(kind="connection.accepted", path="/theirs/", uid=f"{process}-{guess}").save()
    store(*(single(path="/ours/") for _ in range(3)))
    assert AuditEvent.objects.filter(path="/ours/").count() == 3
    endings = {new_uid().split("-")[2] for _ in range(1_000)}
    assert (len(endings), {len(each) for each in endings}) == (1_000, {16})


@pytest.mark.django_db
def test_storing_says_how_many_events_are_new() -> None:
    growing = total(5)
    assert store(single(), growing, single(count=3)) == 9
    growing.absorb(growing.last_at, 2)
    assert store(growing) == 2
    assert store(growing) == 0


class Poison:
    """Makes the database refuse what a test says."""

    def __init__(self, refuses: Callable[[str, str], bool]) -> None:
        self.refuses = refuses

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT") and self.refuses(sql, repr(params)):
            raise ValueError("no such thing")
        return execute(sql, params, many, context)


def refusing(*words: str) -> AbstractContextManager[None]:
    return connection.execute_wrapper(Poison(lambda sql, params: any(word in params for word in words)))


@pytest.mark.django_db
def test_poison_costs_its_texts_alone_and_is_linked_later(caplog: pytest.LogCaptureFixture) -> None:
    rows = [single(path="/poison/" if number in {0, 7, 8} else "/fine/") for number in range(20)]
    with refusing("/poison/"):
        assert store(*rows) == 20
    assert AuditEvent.objects.filter(path="/fine/").count() == 17
    assert AuditEvent.objects.filter(path="", detail={"refused": "ValueError"}).count() == 3
    assert waiting() == 3
    link_now()
    assert links() == 20
    assert heard(caplog) == []


@pytest.mark.django_db
def test_a_row_that_cannot_be_stored_at_all_is_said_to_be_lost(caplog: pytest.LogCaptureFixture) -> None:
    bad = single(count=7)
    with refusing(bad.uid):
        assert store(single(), bad, single()) == 2
    assert (events(), bad.stored) == (2, True)
    (line,) = caplog.records
    assert (line.getMessage(), vars(line)["count"]) == ("audit.row_lost", 7)


@pytest.mark.django_db
def test_what_cannot_be_linked_is_stored_all_the_same() -> None:
    row = single(path="/kept/")
    with connection.execute_wrapper(Poison(lambda sql, params: "auditrollup" in sql)):
        store(row)
    assert (AuditEvent.objects.get().path, waiting()) == ("/kept/", 1)
    link_now()
    assert links() == 1


@pytest.mark.django_db(transaction=True)
def test_flushing_in_a_transaction_of_the_projects_waits_for_its_end(caplog: pytest.LogCaptureFixture) -> None:
    audit.record("connection.accepted")
    with transaction.atomic():
        audit.flush_now()
        assert audit.pending()
    assert (links(), audit.pending()) == (1, False)
    audit.record("connection.accepted")
    with transaction.atomic():
        audit.flush_now()
        transaction.set_rollback(True)
    assert audit.pending(), "a rollback takes nothing with it"
    audit.flush_now()
    assert links() == 2


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Zurich")
@pytest.mark.django_db
def test_without_time_zones_times_are_the_projects_whatever_a_request_has_activated() -> None:
    with timezone.override("Asia/Kathmandu"):
        found = writer.moment(1_800_000_000.5)
    assert (found.hour, found.tzinfo) == (9, None)
    audit.record("connection.accepted")
    audit.flush_now()
    assert links() == 1


class Stage:
    """A process with a database whose commits fail, and others after it."""

    def __init__(self, commit: Commit, directory: Path | None) -> None:
        self.commit, self.directory, self.told = commit, directory, 0

    def begin(self) -> None:
        """Empty tables, without the seconds that a flush of all tables takes, and an empty directory."""
        audit.reset()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir()
        self.commit.fates, self.told = [], 0
        for name in ("auditevent", "audithead", "auditrollup"):
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM channels_secure_{name}")

    def act(self, step: str) -> None:
        match step:
            case "event":
                audit.record("connection.accepted")
                self.told += 1
            case "flood":
                record_flood(30)
                self.told += 30
            case "write":
                audit.write("block.created", "spam")
                self.told += 1
            case "turn":
                with audit.recorder.state.lock:
                    audit.recorder.state.volume.end()
            case "link":
                link_now()
            case "taken for dead":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(chain, "ABANDONED", timedelta(0))
                    link_now()
            case "crash" if self.directory is not None:
                # Locks are let go and nothing is written, as when a process is killed; the next one begins.
                audit.reset()
            case "flush" | "fails" | "unheard" | "second fails":
                self.commit.fates = {"flush": [], "second fails": ["works", "fails"]}.get(step, [step])
                audit.flush_now()
                self.commit.fates = []

    def end(self) -> None:
        for step in ("turn", "flush"):
            self.act(step)
        while self.directory is not None and (dead(self.directory) or audit.pending()):
            self.act("turn")
            self.act("flush")
        self.act("taken for dead")


@pytest.fixture(params=["memory", "spool"])
def stage(
    commit: Commit, request: pytest.FixtureRequest, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    if request.param == "memory":
        return Stage(commit, None)
    monkeypatch.setattr(spooling, "LOOK", 0.0)
    settings.CHANNELS_SECURE = {"AUDIT_SPOOL_DIR": str(tmp_path / "spool")}
    return Stage(commit, tmp_path / "spool")


STEPS = [
    "event",
    "flood",
    "flush",
    "turn",
    "fails",
    "unheard",
    "second fails",
    "link",
    "taken for dead",
    "write",
    "crash",
]


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(STEPS), max_size=25))
def test_whatever_happens_counts_are_exact_and_the_chain_verifies(stage: Stage, schedule: list[str]) -> None:
    stage.begin()
    for step in schedule:
        stage.act(step)
    stage.end()
    recovered = AuditEvent.objects.filter(kind="audit.recovered").count()
    assert (events() - recovered, waiting()) == (stage.told, 0)
    links()


@pytest.mark.django_db(transaction=True)
def test_while_nothing_can_be_written_one_line_says_so(commit: Commit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "channels_secure")
    commit.fates = ["fails", "unheard", "fails"]
    for _ in range(3):
        audit.record("connection.accepted")
        audit.flush_now()
    assert heard(caplog) == ["audit.unwritable"]
    audit.flush_now()
    assert heard(caplog) == ["audit.unwritable", "audit.writable"]
    assert (events(), links()) == (3, 3)


def test_errors_of_databases_are_told_from_errors_about_rows() -> None:
    assert not any(issubclass(OperationalError, each) for each in writer.POISON)
    assert not any(issubclass(DatabaseError, each) for each in writer.POISON)
