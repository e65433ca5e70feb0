"""`ws_prune_audit`: what goes, what stays, and that the rest verifies whatever happens meanwhile."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from channels_secure import audit
from channels_secure.audit import checkpoints, pruning
from channels_secure.audit.pruning import prune
from channels_secure.audit.sealing import Seal
from channels_secure.audit.verifying import verify
from channels_secure.models import AuditCheckpoint, AuditEvent, AuditHead, AuditRollup
from tests.audit.trails import KEY, OLDER, grow, keyed, run, waiting

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
OLD = timedelta(days=100)


@pytest.fixture(autouse=True)
def key(settings: Any) -> None:
    keyed(settings, KEY)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 5)


def places() -> list[int | None]:
    return list(AuditEvent.objects.filter(kind="block.created").order_by("position").values_list("position", flat=True))


def test_rows_that_are_older_than_the_setting_go_and_the_rest_verifies(settings: Any) -> None:
    grow(3, age=timedelta(days=91))
    grow(2, age=timedelta(days=89))
    code, said = run("ws_prune_audit")
    assert (code, said) == (0, "3 rows (6 events) are gone.\n")
    assert places() == [4, 5]
    settings.CHANNELS_SECURE = {"AUDIT_KEY": KEY, "AUDIT_RETENTION_DAYS": 7}
    assert run("ws_prune_audit")[1] == "2 rows (4 events) are gone.\n"
    report = verify()
    assert (report.start, report.faults, report.warnings) == (5, [], [])


def test_another_number_of_days_can_be_named() -> None:
    grow(3, age=timedelta(days=10))
    assert run("ws_prune_audit")[1] == "0 rows (0 events) are gone.\n"
    assert run("ws_prune_audit", "--days", "9")[1] == "3 rows (6 events) are gone.\n"
    assert run("ws_prune_audit", "--days", "0")[0] == 1


@pytest.mark.parametrize("days", ["0", "-1", "999999", "99999999999"])
def test_a_number_of_days_that_leads_nowhere_is_told(days: str) -> None:
    grow(3, age=OLD)
    code, said = run("ws_prune_audit", f"--days={days}")
    assert code == 1
    assert "days" in said
    assert len(places()) == 3


def test_nothing_goes_where_rows_are_kept_for_ever(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"AUDIT_KEY": KEY, "AUDIT_RETENTION_DAYS": None}
    grow(3, age=timedelta(days=4000))
    assert run("ws_prune_audit") == (0, "AUDIT_RETENTION_DAYS is None: rows are kept for ever.\n")
    assert len(places()) == 3


def test_a_run_leaves_one_signed_checkpoint_and_an_event(small_batches: None) -> None:
    rows = grow(12, age=OLD)
    grow(1)
    run("ws_prune_audit")
    checkpoint = AuditCheckpoint.objects.get()
    assert (checkpoint.position, checkpoint.hash, checkpoint.rows, checkpoint.events, checkpoint.actor) == (
        12,
        rows[-1].hash,
        12,
        24,
        "ws_prune_audit",
    )
    assert checkpoint.last_at == rows[-1].last_at
    assert checkpoint.signature == checkpoints.signature(checkpoint, Seal(KEY.encode()))
    event = AuditEvent.objects.get(kind="audit.pruned")
    assert event.actor == "ws_prune_audit"
    assert event.detail == {"rows": 12, "events": 24, "days": 90, "position": 12, "forced": False}


def test_a_run_that_has_nothing_to_do_leaves_nothing() -> None:
    grow(2)
    run("ws_prune_audit")
    assert not AuditCheckpoint.objects.exists()
    assert not AuditEvent.objects.filter(kind="audit.pruned").exists()


@pytest.mark.parametrize("count", [4, 5, 6, 10, 11])
def test_a_trial_says_the_same_and_changes_nothing(small_batches: None, count: int) -> None:
    grow(count, age=OLD)
    assert run("ws_prune_audit", "--dry-run")[1] == f"{count} rows ({2 * count} events) would go.\n"
    assert len(places()) == AuditEvent.objects.count() == count
    assert not AuditCheckpoint.objects.exists()
    assert run("ws_prune_audit")[1] == f"{count} rows ({2 * count} events) are gone.\n"


def test_only_the_beginning_of_the_chain_goes_and_what_waits_behind_is_said() -> None:
    grow(2, age=OLD)
    (young,) = grow(1)
    grow(3, age=OLD)
    said = run("ws_prune_audit")[1]
    assert places() == [3, 4, 5, 6]
    assert f"3 rows that are older stand behind row 3 (id {young.pk})" in said
    assert verify().faults == []


def test_a_row_that_is_dated_in_the_future_counts_as_the_one_before_it() -> None:
    grow(2, age=OLD)
    grow(2, age=timedelta(days=-400))
    grow(2, age=OLD)
    grow(1)
    assert run("ws_prune_audit")[1] == "6 rows (12 events) are gone.\n"
    checkpoint = AuditCheckpoint.objects.get()
    assert checkpoint.last_at < timezone.now() - timedelta(days=99)


def test_a_first_row_that_is_dated_in_the_future_stays() -> None:
    """A clock that is ahead at the beginning of everything must not cost what is new."""
    grow(2, age=timedelta(hours=-1))
    assert run("ws_prune_audit")[1] == "0 rows (0 events) are gone.\n"


def test_a_row_in_the_future_after_a_checkpoint_counts_as_what_was_pruned_last(small_batches: None) -> None:
    grow(5, age=OLD)
    grow(5, age=timedelta(days=-400))
    assert run("ws_prune_audit")[1] == "10 rows (20 events) are gone.\n"


def test_rows_that_are_not_linked_stay() -> None:
    grow(1, age=OLD)
    row = waiting()
    row.created_at = row.last_at = timezone.now() - OLD
    row.hash = Seal(KEY.encode()).digest(row)
    row.save()
    assert run("ws_prune_audit")[1] == "1 rows (2 events) are gone.\n"
    assert AuditEvent.objects.filter(pk=row.pk).exists()


def test_what_was_pruned_leaves_the_sums_until_they_are_two_years_old() -> None:
    grow(2, age=timedelta(days=729))
    AuditRollup.objects.update(hour=timezone.now() - timedelta(days=729))
    AuditRollup.objects.create(hour=timezone.now() - timedelta(days=731), kind="block.created", events=9, rows=9)
    assert run("ws_prune_audit", "--dry-run")[1].splitlines()[1] == "1 rollups would go."
    assert run("ws_prune_audit")[1].splitlines()[1] == "1 rollups are gone."
    assert [rollup.rows for rollup in AuditRollup.objects.filter(kind="block.created")] == [2]


def test_sums_stay_as_long_as_rows_do() -> None:
    AuditRollup.objects.create(hour=timezone.now() - timedelta(days=800), kind="block.created", events=9, rows=9)
    run("ws_prune_audit", "--days", "1000")
    assert AuditRollup.objects.filter(rows=9).exists()


def test_rows_without_a_key_go_with_a_head_that_was_kept(settings: Any) -> None:
    keyed(settings)
    grow(3, age=OLD)
    kept = str(AuditHead.objects.get())
    keyed(settings, KEY)
    assert run("ws_prune_audit")[0] == 1
    assert run("ws_prune_audit", "--head", f"3:{'0' * 64}")[0] == 1
    assert len(places()) == 3
    assert run("ws_prune_audit", "--head", kept) == (0, "3 rows (6 events) are gone.\n")
    assert verify().faults == []


def test_a_checkpoint_of_an_older_key_is_good_while_the_key_is_listed(settings: Any) -> None:
    keyed(settings, OLDER)
    grow(3, age=OLD)
    grow(1)
    run("ws_prune_audit")
    keyed(settings, KEY, OLDER)
    assert verify().faults == []
    keyed(settings, KEY)
    assert [fault.what.value for fault in verify().faults] == ["checkpoint"]


def test_what_does_not_verify_goes_only_by_force() -> None:
    grow(4, age=OLD)
    AuditEvent.objects.filter(position=2).update(count=9)
    code, said = run("ws_prune_audit")
    assert code == 1
    assert said.startswith("Not pruned: Row 2 (id ")
    assert "Run ws_verify_audit." in said
    # What came before it is gone, and recorded.
    assert AuditEvent.objects.get(kind="audit.pruned").detail["rows"] == 1
    assert run("ws_prune_audit", "--force")[0] == 0
    assert places() == []
    assert AuditEvent.objects.filter(kind="audit.pruned", detail__forced=True).exists()
    assert verify().faults == []


# At the same time ----------------------------------------------------------------------------------------------------


def in_thread(work: Callable[[], Any], failures: list[BaseException]) -> threading.Thread:
    def run_it() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run_it)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_share_the_work(small_batches: None) -> None:
    grow(100, age=OLD)
    failures: list[BaseException] = []
    barrier = threading.Barrier(2)

    def work() -> None:
        barrier.wait(30)
        prune(90, actor="ws_prune_audit")

    for thread in [in_thread(work, failures) for _ in range(2)]:
        thread.join(60)
    assert failures == []
    assert places() == []
    checkpoint_rows = sum(AuditCheckpoint.objects.values_list("rows", flat=True))
    told = sum(event.detail["rows"] for event in AuditEvent.objects.filter(kind="audit.pruned"))
    assert checkpoint_rows == told == 100
    report = verify()
    assert (report.start, report.faults, report.warnings) == (100, [], [])


@pytest.mark.django_db(transaction=True)
def test_verification_and_writing_go_on_during_a_run(small_batches: None) -> None:
    grow(150, age=OLD)
    failures: list[BaseException] = []
    done, turn = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            audit.record("connection.accepted", connection_id=f"c{number}")
            audit.flush_now()
            # SQLite gives its lock to whoever happens to ask: one that never stops asking could keep all others out.
            turn.clear()
            turn.wait(30)

    def work() -> None:
        try:
            prune(90, actor="ws_prune_audit")
        finally:
            done.set()

    threads = [in_thread(work, failures), in_thread(write, failures)]
    reports = [verify(link=False)]
    while not done.is_set():
        turn.set()
        reports.append(verify(link=False))
    turn.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert [report.faults for report in reports if report.faults] == []
    assert places() == []
    assert verify().faults == []


CHILD = """
import os, signal
import django; django.setup()
from django.db import connection
from channels_secure.audit import pruning

batches = iter(range(100))

def kill_at_the_third(execute, sql, params, many, context):
    result = execute(sql, params, many, context)
    if sql.startswith("DELETE") and next(batches) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

pruning.BATCH = 5
with connection.execute_wrapper(kill_at_the_third):
    pruning.prune(90, actor="ws_prune_audit")
"""


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_killed_leaves_a_trail_that_verifies_and_the_next_one_goes_on(small_batches: None) -> None:
    grow(20, age=OLD)
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
        "CHANNELS_SECURE_TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
        "CHANNELS_SECURE_TEST_SETTINGS": f'{{"AUDIT_KEY": "{KEY}"}}',
    }
    child = subprocess.run([sys.executable, "-c", CHILD], env=environ, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    assert places() == list(range(11, 21))
    report = verify()
    assert (report.start, report.rows, report.faults) == (10, 10, [])
    assert run("ws_prune_audit")[1] == "10 rows (20 events) are gone.\n"
    assert verify().faults == verify().warnings == []
