"""Recording from anywhere, and what arrives in the table."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, connection, transaction
from django.test import override_settings
from pytest_django.fixtures import Settings

from channels_secure import audit
from channels_secure.audit import writer
from channels_secure.audit.volume import Row, key_of
from channels_secure.models import AuditEvent, new_uid
from channels_secure.policy.decisions import Reason
from tests.test_logging import within_one_minute

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    audit.reset()
    yield
    audit.reset()


def total() -> int:
    return sum(AuditEvent.objects.values_list("count", flat=True))


def messages_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "channels_secure"]


@pytest.mark.django_db
def test_an_event_arrives_with_all_its_facts(user: User) -> None:
    before = time.time()
    audit.record(
        "handshake.denied",
        Reason.ORIGIN_NOT_ALLOWED,
        user=user,
        ip=ip_address("203.0.113.7"),
        path="/ws/chat/",
        origin="https://evil.test",
        user_agent="curl/8",
        connection_id="c1",
        detail={"detail": "not in the list"},
    )
    after = time.time()
    audit.flush_now()
    event = AuditEvent.objects.get()
    assert (event.kind, event.reason, event.user, event.username) == (
        "handshake.denied",
        "origin_not_allowed",
        user,
        "alice",
    )
    assert (event.ip, event.path, event.origin) == ("203.0.113.7", "/ws/chat/", "https://evil.test")
    assert (event.user_agent, event.connection_id, event.detail) == ("curl/8", "c1", {"detail": "not in the list"})
    assert event.count == 1
    assert before <= event.created_at.timestamp() <= after
    assert event.last_at == event.created_at


@pytest.mark.django_db
def test_the_time_is_the_events_and_not_the_flushs() -> None:
    audit.record("connection.accepted")
    recorded = datetime.now(UTC)
    AuditEvent.objects.count()
    audit.flush_now()
    assert AuditEvent.objects.get().created_at <= recorded


@pytest.mark.django_db
def test_an_anonymous_user_is_nobody() -> None:
    audit.record("handshake.denied", user=AnonymousUser())
    audit.flush_now()
    event = AuditEvent.objects.get()
    assert (event.user_id, event.username) == (None, "")


POISON: list[dict[str, Any]] = [
    {"path": "a\x00b"},
    {"origin": "lone \ud800 surrogate"},
    {"user_agent": "x" * 1_000_000},
    {"user_agent": b"\xff\xfe"},
    {"ip": "<script>alert(1)</script>"},
    {"ip": "x" * 500},
    {"ip": b"203.0.113.7"},
    {"path": "two\r\nlines \x1b[31m"},
    {"connection_id": "c" * 500},
    {"detail": {"nan": float("nan"), "\x00": "\x00", "surrogate": "\ud800", "big": 10**5000}},
    {"detail": {"object": object(), "bytes": b"\x00", "set": {1}}},
    {"path": None, "origin": None, "detail": None, "ip": None},
    {"count": 0},
]


@pytest.mark.django_db
def test_nothing_that_a_client_sends_spoils_a_batch() -> None:
    for facts in POISON:
        audit.record("handshake.denied", "bad_request", **facts)
    audit.record("handshake.denied", "x" * 5000)
    audit.record("connection.accepted")
    audit.flush_now()
    assert total() == len(POISON) + 2
    assert not AuditEvent.objects.filter(detail__has_key="refused").exists()
    assert set(AuditEvent.objects.exclude(path="").values_list("path", flat=True)) == {
        "a\\x00b",
        "two\\x0d\\x0alines \\x1b[31m",
    }


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_recording_never_raises(caplog: pytest.LogCaptureFixture, settings: Settings) -> None:
    audit.record("handshake.denied", path=Unspeakable())  # type: ignore[arg-type]
    settings.CHANNELS_SECURE = {"NO_SUCH_KEY": 1}
    audit.record("handshake.denied")
    assert messages_of(caplog) == ["audit.record_failed"] * 2
    assert not audit.pending()


@pytest.mark.django_db
def test_a_flood_is_few_rows_with_exact_sums_and_few_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    within_one_minute(monkeypatch)
    caplog.set_level(logging.INFO, "channels_secure")
    for number in range(20_000):
        audit.record("message.denied", "rate_limited", ip=f"198.51.{number // 250 % 250}.{number % 250}")
    audit.flush_now()
    assert total() == 20_000
    assert AuditEvent.objects.count() <= 600
    assert messages_of(caplog).count("message.denied") <= 600


@pytest.mark.django_db
def test_the_addresses_of_one_ipv6_network_share_a_key() -> None:
    for number in range(1_000):
        audit.record("handshake.denied", "rate_limited", ip=f"2001:db8::{number:x}")
    audit.flush_now()
    assert total() == 1_000
    assert AuditEvent.objects.count() <= 42
    assert AuditEvent.objects.filter(ip="2001:db8::/64", count__gt=1).exists()


@pytest.mark.django_db
def test_an_operator_sees_the_numbers_of_a_flood_grow() -> None:
    seen = []
    for _ in range(3):
        for _ in range(100):
            audit.record("message.denied", "rate_limited", ip="203.0.113.7")
        audit.flush_now()
        seen.append(total())
    assert seen == [100, 200, 300]
    assert AuditEvent.objects.count() <= 42


@pytest.mark.django_db
def test_a_sum_whose_row_was_deleted_is_stored_again() -> None:
    for _ in range(30):
        audit.record("message.denied", "rate_limited")
    audit.flush_now()
    AuditEvent.objects.all().delete()
    # The minute may have turned since: then the event is a row of its own.
    audit.record("message.denied", "rate_limited")
    audit.flush_now()
    assert total() in {1, 11}


@pytest.mark.django_db
def test_admissions_can_be_left_out(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"AUDIT_ADMISSIONS": False}
    for kind in ("connection.accepted", "connection.closed", "handshake.denied"):
        audit.record(kind)
    audit.flush_now()
    assert [event.kind for event in AuditEvent.objects.all()] == ["handshake.denied"]


@pytest.mark.django_db
def test_a_full_queue_loses_no_number(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"AUDIT_QUEUE_SIZE": 10}
    for number in range(500):
        audit.record("handshake.denied", "blocked", ip=f"203.0.113.{number % 250}")
    audit.flush_now()
    assert total() == 500
    assert AuditEvent.objects.count() <= 12


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("connection.accepted", logging.INFO),
        ("connection.closed", logging.INFO),
        ("handshake.denied", logging.WARNING),
        ("credentials.failed", logging.WARNING),
        ("message.denied", logging.WARNING),
    ],
)
def test_each_event_is_a_line_with_a_constant_name(kind: str, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "channels_secure")
    audit.record(kind, "a reason", ip="203.0.113.7", path="/ws/\r\nforged")
    (line,) = caplog.records
    assert (line.name, line.levelno, line.getMessage()) == ("channels_secure", level, kind)
    assert vars(line)["ip"] == "203.0.113.7"
    assert vars(line)["path"] == "/ws/\\x0d\\x0aforged"


@pytest.mark.django_db
def test_many_threads_lose_nothing() -> None:
    def work(number: int) -> None:
        for step in range(1_000):
            audit.record("message.denied", "rate_limited", ip=f"203.0.113.{(number * step) % 200}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        audit.flush_now()
    audit.flush_now()
    assert total() == 4_000


@pytest.mark.django_db(transaction=True)
async def test_flushing_at_once_from_several_tasks_stores_each_event_once() -> None:
    for number in range(100):
        audit.record("connection.accepted", connection_id=f"c{number}")
    await asyncio.gather(*(audit.flush() for _ in range(5)))
    assert not audit.pending()
    assert await AuditEvent.objects.acount() == 100


@pytest.mark.django_db(transaction=True)
async def test_what_was_recorded_before_a_flush_is_stored_after_it() -> None:
    audit.record("connection.accepted", connection_id="one")
    first = asyncio.create_task(audit.flush())
    await asyncio.sleep(0)
    audit.record("connection.accepted", connection_id="two")
    await audit.flush()
    assert await AuditEvent.objects.acount() == 2
    await first


@pytest.mark.django_db(transaction=True)
def test_an_event_whose_user_has_gone_is_kept_with_the_users_key_and_name(user: User) -> None:
    ghost = User(pk=user.pk + 1000, username="ghost")
    for number in range(30):
        audit.record("connection.accepted", user=ghost if number % 3 else user, connection_id=f"c{number}")
    audit.flush_now()
    assert AuditEvent.objects.count() == 30
    assert AuditEvent.objects.filter(user=user).count() == 10
    assert AuditEvent.objects.filter(user_key=str(ghost.pk), username="ghost").count() == 20
    # Nor do deletions from then on find fault with them.
    user.delete()
    assert AuditEvent.objects.filter(user=None, user_key=str(ghost.pk - 1000), username="alice").count() == 10


@pytest.mark.django_db(transaction=True)
def test_a_row_that_the_database_refuses_becomes_a_stub_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with connection.cursor() as cursor:
        refuse_paths(cursor)
    try:
        for number in range(50):
            audit.record("connection.accepted", "", path="/poison/" if number == 17 else "/fine/")
        audit.flush_now()
    finally:
        with connection.cursor() as cursor:
            accept_paths(cursor)
    assert AuditEvent.objects.filter(path="/fine/").count() == 49
    stub = AuditEvent.objects.get(path="")
    assert (stub.kind, stub.count, stub.detail) == ("connection.accepted", 1, {"refused": "IntegrityError"})
    assert not audit.pending()


def refuse_paths(cursor: Any) -> None:
    if connection.vendor == "postgresql":
        cursor.execute("ALTER TABLE channels_secure_auditevent ADD CONSTRAINT no_poison CHECK (path <> '/poison/')")
        return
    cursor.execute(
        "CREATE TRIGGER no_poison BEFORE INSERT ON channels_secure_auditevent WHEN NEW.path = '/poison/'"
        " BEGIN SELECT RAISE(ABORT, 'no poison'); END"
    )


def accept_paths(cursor: Any) -> None:
    if connection.vendor == "postgresql":
        cursor.execute("ALTER TABLE channels_secure_auditevent DROP CONSTRAINT no_poison")
    else:
        cursor.execute("DROP TRIGGER no_poison")


@pytest.fixture
def table_away(transactional_db: None) -> Iterator[Any]:
    """Take the table away, as a database in the middle of a migration does; call what is yielded to bring it back."""

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")

    def bring_back() -> None:
        if away:
            rename(away.pop(), "channels_secure_auditevent")

    away = ["audit_elsewhere"]
    rename("channels_secure_auditevent", away[0])
    yield bring_back
    bring_back()


def test_while_the_database_is_away_events_wait_and_one_line_says_so(
    table_away: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "channels_secure")
    for _ in range(3):
        for _ in range(30):
            audit.record("handshake.denied", "blocked", ip="203.0.113.7")
        audit.flush_now()
    assert audit.pending()
    assert messages_of(caplog) == ["audit.unwritable"]
    caplog.set_level(logging.WARNING, "channels_secure")
    table_away()
    audit.flush_now()
    assert not audit.pending()
    assert messages_of(caplog)[-1] == "audit.writable"
    assert total() == 90


def test_half_of_a_batch_that_was_stored_is_not_stored_twice(transactional_db: None) -> None:
    volume = audit.recorder.state.volume
    for number in range(1_100):
        row = single(number)
        assert volume.absorb(key_of(row), row.created_at, 1, 10**6) is None
        volume.add(row, 10**6)

    def go_away(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT") and "'c700'" in repr(params):
            raise OperationalError("gone in the second of three batches")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(go_away):
        audit.flush_now()
    assert AuditEvent.objects.count() == writer.BATCH
    audit.flush_now()
    assert AuditEvent.objects.count() == 1_100
    assert AuditEvent.objects.values("connection_id").distinct().count() == 1_100


def single(number: int) -> Row:
    # Each in a minute of its own, so that none is summed up.
    moment = number * 60.0
    facts: dict[str, Any] = {"created_at": moment, "last_at": moment, "uid": new_uid()}
    return Row(kind="handshake.denied", reason="", connection_id=f"c{number}", **facts)


@pytest.mark.django_db(transaction=True)
def test_a_written_event_lives_and_dies_with_its_transaction(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "channels_secure")
    with transaction.atomic():
        audit.write("block.created", "never mind")
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()
    assert messages_of(caplog) == []
    with transaction.atomic():
        event = audit.write("block.created", "a\x00b", actor="root")
    assert AuditEvent.objects.get() == event
    assert (event.reason, event.actor) == ("a\\x00b", "root")
    assert messages_of(caplog) == ["block.created"]


@override_settings(USE_TZ=False)
@pytest.mark.django_db
def test_a_project_without_time_zones_is_served() -> None:
    audit.record("connection.accepted")
    audit.flush_now()
    assert AuditEvent.objects.get().created_at.tzinfo is None


def run_to_the_end(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    setup = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'; django.setup()\n"
    started = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", setup + code],
        cwd=ROOT,
        env={**__import__("os").environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - started < 30
    return finished


RECORD = "from channels_secure import audit\naudit.record('connection.accepted', connection_id='last words')\n"


@pytest.mark.django_db(transaction=True)
def test_what_waits_when_the_process_ends_is_written(environ_of_database: dict[str, str]) -> None:
    finished = run_to_the_end(RECORD, **environ_of_database)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert AuditEvent.objects.get().connection_id == "last words"


@pytest.fixture
def environ_of_database() -> dict[str, str]:
    """What a child process needs to find the database of this test."""
    return {"CHANNELS_SECURE_TEST_DATABASE_NAME": str(connection.settings_dict["NAME"])}


def test_a_process_whose_database_is_gone_ends_in_peace_and_says_what_is_lost() -> None:
    finished = run_to_the_end(RECORD, DATABASE="sqlite", CHANNELS_SECURE_TEST_DATABASE_NAME="/nowhere/at/all.sqlite3")
    assert finished.returncode == 0
    assert "Traceback" not in finished.stderr
    assert finished.stderr.splitlines() == ["audit.unwritable", "audit.lost"]


def test_a_forked_child_does_not_write_what_its_parent_recorded() -> None:
    code = RECORD + (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(17 if audit.pending() else 18)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 18\n"
        "assert audit.pending()\n"
        "audit.reset()\n"
    )
    finished = run_to_the_end(code)
    assert (finished.returncode, finished.stderr) == (0, "")
