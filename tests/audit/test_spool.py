"""The spool: what was recorded survives the process, once, and a disk that fails takes nobody down."""

import asyncio
import errno
import json
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from channels_secure import audit
from channels_secure.audit import flushing, folders, lines, recorder, spool, spooling
from channels_secure.audit.spool import Spool
from channels_secure.audit.volume import Row
from channels_secure.lifespan import lifespan
from channels_secure.models import AuditEvent, new_uid
from tests.audit.writers import dead, link_now, links, record_flood, single, total
from tests.sockets import until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    audit.reset()
    yield
    audit.reset()


@pytest.fixture
def directory(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spool's directory, in which the dead are looked for with every flush."""
    monkeypatch.setattr(spooling, "LOOK", 0.0)
    settings.CHANNELS_SECURE = {"AUDIT_SPOOL_DIR": str(tmp_path / "spool")}
    return tmp_path / "spool"


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    own = [record.getMessage() for record in caplog.records if record.name == "channels_secure"]
    return [each for each in own if each.startswith("audit.")]


def events(**facts: Any) -> int:
    table = AuditEvent.objects.exclude(kind__in=["audit.recovered", "store.degraded", "store.recovered"])
    return table.filter(**facts).aggregate(sum=Sum("count"))["sum"] or 0


def spooled(directory: Path) -> dict[str, Row]:
    """What the files say, of all processes."""
    rows: dict[str, Row] = {}
    for folder in folders.others(directory, None):
        content = [line for file in folders.files_of(folder) for line in file.read_bytes().splitlines()]
        rows.update(lines.read(content)[0])
    return rows


def told(directory: Path) -> int:
    return sum(row.count for row in spooled(directory).values())


def die() -> None:
    """What becomes of a process's memory and locks when it is killed."""
    audit.reset()


def flush_until_quiet(directory: Path) -> None:
    for _ in range(50):
        audit.flush_now()
        if not audit.pending() and not dead(directory):
            return
    raise AssertionError("it does not end")


@contextmanager
def away() -> Iterator[None]:
    """The database takes nothing."""

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise OperationalError("away")

    with connection.execute_wrapper(refuse):
        yield


# Written before anybody acts on it -----------------------------------------------------------------------------------


def test_an_event_is_in_a_file_when_it_was_recorded(directory: Path) -> None:
    for number in range(1, 60):
        audit.record("message.denied", "rate_limited", ip="203.0.113.7")
        assert told(directory) == number


@pytest.mark.django_db
def test_what_the_database_has_is_deleted(directory: Path) -> None:
    for _ in range(3):
        record_flood(50)
        audit.record("connection.accepted")
        audit.flush_now()
        assert told(directory) == 0
    assert [path.name for path in directory.rglob("*")][1:] == ["lock"]
    assert events() == 153


@pytest.mark.django_db(transaction=True)
def test_what_is_recorded_while_the_database_writes_stays(directory: Path) -> None:
    audit.record("connection.accepted", connection_id="before")

    def record_more(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT") and not audit.pending_more:  # type: ignore[attr-defined]
            audit.pending_more = True  # type: ignore[attr-defined]
            audit.record("connection.accepted", connection_id="meanwhile")
        return execute(sql, params, many, context)

    audit.pending_more = False  # type: ignore[attr-defined]
    try:
        with connection.execute_wrapper(record_more):
            audit.flush_now()
    finally:
        del audit.pending_more  # type: ignore[attr-defined]
    assert [row.connection_id for row in spooled(directory).values()] == ["meanwhile"]
    die()
    flush_until_quiet(directory)
    assert sorted(AuditEvent.objects.exclude(kind="audit.recovered").values_list("connection_id", flat=True)) == [
        "before",
        "meanwhile",
    ]


def test_nobody_else_may_read_it(directory: Path) -> None:
    before = os.umask(0)
    try:
        audit.record("connection.accepted")
    finally:
        os.umask(before)
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
    assert modes == {True: 0o700, False: 0o600}


@pytest.mark.django_db
def test_without_a_directory_nothing_is_written(tmp_path: Path, settings: Any) -> None:
    settings.CHANNELS_SECURE = {}
    audit.record("connection.accepted")
    audit.flush_now()
    assert not list(tmp_path.iterdir())
    assert events() == 1


# The dead ------------------------------------------------------------------------------------------------------------

CHILD = """
import os, sys, django
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
from channels_secure import audit
if "written" in sys.argv:
    audit.record("message.denied", "rate_limited", ip="203.0.113.7")
    audit.flush_now()
for number in range(500):
    audit.record("message.denied", "rate_limited", ip="203.0.113.7", path="/ws/", detail={"number": number})
    audit.record("connection.accepted", connection_id=f"c{number}", detail={"words": "\\u00e9\\n"})
print("recorded", flush=True)
sys.stdin.read()
"""


def environ(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CHANNELS_SECURE_TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
        "CHANNELS_SECURE_TEST_SETTINGS": json.dumps({"AUDIT_SPOOL_DIR": str(directory)}),
    }


@contextmanager
def child(directory: Path, *arguments: str, code: str = CHILD) -> Iterator[subprocess.Popen[str]]:
    """A process that has recorded and waits."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        env=environ(directory),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "recorded\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.django_db(transaction=True)
def test_a_killed_process_loses_nothing_and_another_stores_it_once(directory: Path) -> None:
    with child(directory, "written") as process:
        audit.flush_now()
        assert events(connection_id="c1") == 0, "of the living nothing is taken"
        process.send_signal(signal.SIGKILL)
        process.wait()
    flush_until_quiet(directory)
    link_now()
    assert events(kind="message.denied") == 501
    assert events(kind="connection.accepted") == 500
    assert AuditEvent.objects.get(connection_id="c1").detail == {"words": "é\\x0a"}
    (recovered,) = AuditEvent.objects.filter(kind="audit.recovered")
    assert recovered.detail == {"events": 1000}
    assert links() == AuditEvent.objects.count()
    assert not [path for path in directory.iterdir() if path != spooling._state.own.folder]  # type: ignore[union-attr]


@pytest.mark.django_db(transaction=True)
def test_a_process_that_ends_in_peace_leaves_no_folder(directory: Path) -> None:
    with child(directory) as process:
        assert len(list(directory.iterdir())) == 1
        process.communicate("")
        assert process.returncode == 0
    assert not list(directory.iterdir())
    assert events() == 1000


@pytest.mark.django_db(transaction=True)
async def test_a_server_that_ends_leaves_no_folder(directory: Path) -> None:
    audit.record("connection.accepted")
    assert await audit.flush_all(10) == 0
    assert not list(directory.iterdir())
    audit.record("connection.closed")
    assert told(directory) == 1, "and what comes after all is in a file again"


@pytest.mark.django_db(transaction=True)
async def test_a_server_that_starts_takes_over_before_anybody_connects(directory: Path) -> None:
    audit.record("connection.accepted")
    die()
    gate, asked = asyncio.Event(), iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        event = {"type": next(asked)}
        if event["type"] == "lifespan.shutdown":
            await gate.wait()
        return event

    async def send(event: Any) -> None:
        pass

    server = asyncio.create_task(lifespan({"type": "lifespan"}, receive, send))
    await until(lambda: not dead(directory))
    assert await AuditEvent.objects.filter(kind="connection.accepted").acount() == 1
    gate.set()
    await server


def test_rows_that_cannot_be_written_at_the_end_are_left_in_the_spool_and_are_not_lost(tmp_path: Path) -> None:
    environ = {
        "DATABASE": "sqlite",
        "CHANNELS_SECURE_TEST_DATABASE_NAME": "/nowhere/at/all.sqlite3",
        "CHANNELS_SECURE_TEST_SETTINGS": json.dumps({"AUDIT_SPOOL_DIR": str(tmp_path)}),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    code = "import django; django.setup()\nfrom channels_secure import audit\naudit.record('connection.accepted')"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (finished.returncode, finished.stderr.splitlines()) == (0, ["audit.unwritable", "audit.left_in_spool"])
    assert told(tmp_path) == 1


@pytest.mark.django_db
def test_what_the_database_has_already_is_not_stored_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the commit and the deletion of the file."""
    monkeypatch.setattr(spool, "delete", lambda files: None)
    record_flood(50)
    audit.record("connection.accepted")
    audit.flush_now()
    assert told(directory) == 51
    die()
    flush_until_quiet(directory)
    assert events() == 51
    assert not AuditEvent.objects.filter(kind="audit.recovered").exists()


@pytest.mark.django_db
def test_growth_of_a_row_whose_beginning_the_database_has(directory: Path) -> None:
    record_flood(50)
    audit.flush_now()
    record_flood(7)
    die()
    flush_until_quiet(directory)
    assert events() == 57
    assert AuditEvent.objects.get(kind="audit.recovered").detail == {"events": 7}


@pytest.mark.django_db
def test_growth_of_a_row_of_which_nothing_else_is_known_still_counts(directory: Path) -> None:
    record_flood(50)
    audit.flush_now()
    AuditEvent.objects.all().delete()
    record_flood(7)
    die()
    flush_until_quiet(directory)
    found = AuditEvent.objects.exclude(kind="audit.recovered").get()
    assert (found.kind, found.reason, found.count) == ("message.denied", "rate_limited", 37)


@pytest.mark.django_db
def test_a_line_that_was_cut_off_costs_itself_alone(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        audit.record("connection.accepted", connection_id=str(number))
    die()
    (file,) = directory.glob("*/*.jsonl")
    content = file.read_bytes().splitlines(keepends=True)
    odd = [b"[]\n", b"{}\n", b'["a"]\n', b"\xff\xfe\n", b'["u", "many", 1, "k", "r"]\n', b"\n", b"null\n"]
    file.write_bytes(content[0] + b"".join(odd) + content[1] + content[2][:-20])
    flush_until_quiet(directory)
    assert sorted(AuditEvent.objects.filter(kind="connection.accepted").values_list("connection_id", flat=True)) == [
        "0",
        "1",
    ]
    (line,) = [record for record in caplog.records if record.getMessage() == "audit.spool_damaged"]
    assert vars(line)["lines"] == len(odd) + 1


@pytest.mark.django_db(transaction=True)
def test_several_who_look_at_once_store_each_event_once(directory: Path) -> None:
    for number in range(6):
        audit.record("connection.accepted", connection_id=str(number))
        record_flood(30)
        die()
    code = CHILD.split("if ")[0] + (
        "from channels_secure.audit import spooling\n"
        "spooling.LOOK = 0.0\n"
        "print('recorded', flush=True)\n"
        "sys.stdin.readline()\n"
        "for _ in range(12): audit.flush_now()\n"
    )
    with child(directory, code=code) as one, child(directory, code=code) as two:
        writers = [threading.Thread(target=process.communicate, args=("go\n",)) for process in (one, two)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [one.returncode, two.returncode] == [0, 0]
    flush_until_quiet(directory)
    assert events() == 6 * 31
    link_now()
    links()


@pytest.mark.django_db
def test_while_the_database_is_away_the_dead_are_left_alone(directory: Path) -> None:
    audit.record("connection.accepted")
    die()
    with away():
        audit.flush_now()
    assert told(directory) == 1
    flush_until_quiet(directory)
    assert events() == 1


@pytest.mark.django_db
def test_one_file_at_a_time_so_that_the_living_do_not_wait(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_SIZE", 1)
    for number in range(4):
        audit.record("connection.accepted", connection_id=f"dead {number}")
    die()
    for number in range(4):
        audit.flush_now()
        assert events() == number + 1
    assert audit.flushing.spooling.is_due()


@pytest.mark.django_db
def test_files_are_read_in_the_order_of_their_numbers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_SIZE", 1)
    record_flood(40)
    die()
    flush_until_quiet(directory)
    assert events() == 40
    folder = directory / "1-0123456789ab"
    folder.mkdir()
    for number in (100_000_000, 99_999_999, 7):
        folders.file(folder, number).touch()
    (folder / "notes.jsonl").touch()
    assert [int(file.stem) for file in folders.files_of(folder)] == [7, 99_999_999, 100_000_000]


# What is not ours ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_nothing_else_in_the_directory_is_touched(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "00000001.jsonl").write_text("precious")
    directory.mkdir()
    (directory / "notes").mkdir()
    (directory / "notes" / "lock").touch()
    (directory / "12-0123456789ab").symlink_to(tmp_path / "elsewhere")
    (directory / "13-0123456789ab").write_text("a file")
    foreign = directory / "14-0123456789ab"
    foreign.mkdir()
    (foreign / "mine.txt").touch()
    audit.record("connection.accepted")
    for _ in range(5):
        audit.flush_now()
    assert (tmp_path / "elsewhere" / "00000001.jsonl").read_text() == "precious"
    assert (directory / "notes" / "lock").exists()
    assert (foreign / "mine.txt").exists()
    assert events() == 1


@pytest.mark.django_db
def test_a_folder_that_cannot_be_read_stops_nobody_and_is_told_once(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = directory / "1-0123456789ab"
    folders.file(bad, 1).mkdir(parents=True)
    audit.record("connection.accepted", connection_id="dead")
    die()
    for _ in range(4):
        audit.record("connection.accepted")
        audit.flush_now()
    assert (events(), events(connection_id="dead")) == (5, 1)
    assert heard(caplog) == ["audit.spool_unreadable"]


def test_a_folder_is_not_taken_from_whoever_is_making_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who looks for the dead deletes the new folder before it is locked."""
    real, taken = os.open, []

    def race(path: Any, *arguments: Any) -> int:
        if Path(path).name == folders.LOCK and not taken:
            taken.append(path)
            lock = folders.inherit(Path(path).parent)
            assert lock is not None
            folders.remove(Path(path).parent, lock)
        return real(path, *arguments)

    monkeypatch.setattr(folders.os, "open", race)
    audit.record("connection.accepted")
    assert taken
    assert told(directory) == 1
    assert spooling.error() == ""


def test_a_folder_whose_lock_somebody_else_holds_is_not_ours(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, held = os.open, []

    def race(path: Any, *arguments: Any) -> int:
        if Path(path).name == folders.LOCK and not held:
            held.append(-1)
            held[0] = folders._locked(Path(path).parent) or -1
        return real(path, *arguments)

    monkeypatch.setattr(folders.os, "open", race)
    audit.record("connection.accepted")
    os.close(held[0])
    assert told(directory) == 1
    assert len(list(directory.iterdir())) == 2


def test_a_lock_that_was_deleted_is_no_lock(tmp_path: Path) -> None:
    folder, lock = folders.claim(tmp_path)
    assert folders.inherit(folder) is None
    (folder / folders.LOCK).unlink()
    assert not folders._is_still(folder / folders.LOCK, lock)
    other = folders.inherit(folder)
    assert other is not None, "else what it has left would stay for ever"
    folders.remove(folder, other)
    os.close(lock)


def test_a_lock_that_is_deleted_while_it_is_taken_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held it has just deleted the folder."""
    folder, lock = folders.claim(tmp_path)
    os.close(lock)
    real = folders.fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        (folder / folders.LOCK).unlink()

    monkeypatch.setattr(folders.fcntl, "flock", late)
    assert folders.inherit(folder) is None


# A disk that fails ---------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may be longer: writing fails with EFBIG, first after a part of the line."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "RETRY", 0.0)


@pytest.mark.django_db
def test_a_full_disk_is_told_once_and_takes_nobody_down(
    directory: Path, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    audit.record("connection.accepted", connection_id="before")
    with full_disk(room=600):
        for number in range(20):
            audit.record("connection.accepted", connection_id=f"c{number}")
    assert spooling.error() == "OSError"
    assert heard(caplog) == []
    audit.flush_now()
    assert heard(caplog) == ["audit.spool_failed"]
    assert AuditEvent.objects.filter(kind="connection.accepted").count() == 21
    assert AuditEvent.objects.get(kind="store.degraded").detail == {"store": "spool", "error": "OSError"}
    audit.record("connection.accepted", connection_id="after")
    audit.flush_now()
    audit.flush_now()
    assert AuditEvent.objects.get(kind="store.recovered").detail == {"store": "spool"}
    assert heard(caplog) == ["audit.spool_failed", "audit.spool_works"]
    assert AuditEvent.objects.filter(kind="store.degraded").count() == 1


@pytest.mark.django_db
def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(directory: Path, at_once: None) -> None:
    with full_disk(room=600):
        for number in range(20):
            audit.record("connection.accepted", connection_id=f"c{number}")
        record_flood(40)
    record_flood(1)
    assert told(directory) == 61
    die()
    flush_until_quiet(directory)
    assert events() == 61
    assert AuditEvent.objects.filter(connection_id="c13").count() == 1


def test_a_full_disk_is_tried_once_a_second(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Any] = []

    def write(*arguments: Any) -> int:
        tries.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool.os, "write", write)
    clock = [100.0]
    monkeypatch.setattr(spool, "time", type("Clock", (), {"monotonic": staticmethod(lambda: clock[0])}))
    record_flood(100)
    assert len(tries) == 1
    clock[0] += 1.0
    record_flood(100)
    assert len(tries) == 2
    assert len(list(directory.rglob("*.jsonl"))) <= 2


@pytest.mark.parametrize("make", ["missing", "file", "unwritable"])
@pytest.mark.django_db
def test_a_directory_that_cannot_be_used(
    make: str, tmp_path: Path, settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "spool"
    if make == "file":
        place.write_text("")
    elif make == "unwritable":
        # Who runs the tests may be root, whom no mode keeps out.
        place = Path("/proc/spool")
    settings.CHANNELS_SECURE = {"AUDIT_SPOOL_DIR": str(place if make != "missing" else place / "far" / "away")}
    for _ in range(3):
        audit.record("connection.accepted")
        audit.flush_now()
    assert AuditEvent.objects.filter(kind="connection.accepted").count() == 3
    is_bad = make != "missing"
    assert AuditEvent.objects.filter(kind="store.degraded").count() == is_bad
    assert heard(caplog)[:1] == (["audit.spool_failed"] if is_bad else [])
    assert bool(spooling.error()) is is_bad


@pytest.mark.django_db
def test_somebody_cleans_the_directory_up(directory: Path, at_once: None) -> None:
    audit.record("connection.accepted")
    for path in sorted(directory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with away():
        audit.flush_now()
    for _ in range(3):
        audit.record("connection.accepted")
    assert told(directory) == 4
    audit.flush_now()
    audit.flush_now()
    assert events() == 4


@pytest.mark.django_db
def test_a_flood_without_a_database_does_not_fill_the_disk(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_SIZE", 8_000)
    monkeypatch.setattr(spool, "FULL_SIZE", 40_000)
    sizes, files = [], []
    with away():
        for number in range(6_000):
            audit.record("message.denied", "rate_limited", ip=f"203.0.113.{number % 5}")
            if number % 50 == 0:
                audit.flush_now()
                found = list(directory.rglob("*.jsonl"))
                files.append(len(found))
                sizes.append(sum(each.stat().st_size for each in found))
    # One set of the rows more while they are written anew.
    assert max(sizes) < 90_000
    assert max(files) < 15
    assert told(directory) == 6_000
    die()
    flush_until_quiet(directory)
    assert events() == 6_000


@pytest.mark.django_db
def test_an_outage_makes_no_file_with_every_try(directory: Path) -> None:
    with away():
        for _ in range(30):
            audit.record("connection.accepted")
            audit.flush_now()
        assert len(list(directory.rglob("*.jsonl"))) <= 2
    for _ in range(2):
        audit.flush_now()
    assert not list(directory.rglob("*.jsonl"))
    assert events() == 30


def test_rows_that_are_longer_than_the_limit_are_not_written_anew_with_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FULL_SIZE", 1_000)
    own, again = Spool(str(tmp_path)), []
    real = own._rewrite
    monkeypatch.setattr(Spool, "_rewrite", lambda self: (again.append(1), real())[1])
    for _ in range(400):
        own.append(single(), is_new=True)
    assert told(tmp_path) == 400
    assert len(again) < 12
    own.close()


# Processes that fork -------------------------------------------------------------------------------------------------


def test_a_forked_child_leaves_its_parents_spool_alone(directory: Path) -> None:
    audit.record("connection.accepted", connection_id="parent")
    pid = os.fork()
    if pid == 0:
        try:
            audit.record("connection.accepted", connection_id="child")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    audit.record("connection.accepted", connection_id="parent")
    own = spooling._state.own
    assert own is not None
    assert own.folder is not None
    assert folders.inherit(own.folder) is None, "the parent lives"
    (other,) = folders.others(directory, own.folder)
    names = {
        folder: [
            row.connection_id
            for file in folders.files_of(folder)
            for row in lines.read(file.read_bytes().splitlines())[0].values()
        ]
        for folder in (own.folder, other)
    }
    assert names == {own.folder: ["parent", "parent"], other: ["child"]}
    lock = folders.inherit(other)
    assert lock is not None, "the child is dead"
    os.close(lock)


def test_a_living_child_does_not_hold_its_dead_parents_lock(directory: Path) -> None:
    audit.record("connection.accepted")
    own = spooling._state.own
    assert own is not None
    assert own.folder is not None
    reader, writer = os.pipe()
    ready, is_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.write(is_ready, b".")
        os.read(reader, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        die()
        lock = folders.inherit(own.folder)
        assert lock is not None
        os.close(lock)
    finally:
        for descriptor in (writer, reader, ready, is_ready):
            os.close(descriptor)
        os.waitpid(pid, 0)


def test_a_forked_child_uses_no_name_again() -> None:
    reader, writer = os.pipe()
    before = new_uid()
    pid = os.fork()
    if pid == 0:
        os.write(writer, "\n".join(new_uid() for _ in range(5)).encode())
        os._exit(0)
    os.close(writer)
    theirs = os.read(reader, 4096).decode().split("\n")
    os.close(reader)
    os.waitpid(pid, 0)
    ours = [before, *(new_uid() for _ in range(5))]
    assert len({*theirs, *ours}) == 11
    assert {each.split("-")[0] for each in theirs}.isdisjoint(each.split("-")[0] for each in ours)


# Lines ---------------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.builds(
    Row,
    kind=texts,
    reason=texts,
    created_at=st.floats(0, 2e9),
    last_at=st.floats(0, 2e9),
    uid=st.uuids().map(str),
    count=st.integers(1, 2**62),
    user_id=st.none() | st.integers(-(2**63), 2**63) | texts,
    username=texts,
    path=texts,
    detail=st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=3),
    sums=st.booleans(),
)


@given(st.lists(rows, max_size=10, unique_by=lambda row: row.uid))
def test_what_a_line_says_is_what_was_recorded(recorded: list[Row]) -> None:
    content = b"".join(map(lines.whole, recorded))
    assert content.count(b"\n") == len(recorded)
    found, damaged = lines.read(content.splitlines(keepends=True))
    assert damaged == 0
    assert [lines.whole(row) for row in found.values()] == [lines.whole(row) for row in recorded]
    assert all(getattr(found[row.uid], name) == getattr(row, name) for row in recorded for name in lines.WHOLE)


@given(rows, st.integers(1, 500))
def test_a_line_that_was_cut_off_says_nothing(recorded: Row, length: int) -> None:
    content = lines.whole(recorded)
    found, damaged = lines.read([content[: -1 - min(length, len(content) - 2)]])
    assert (found, damaged) == ({}, 1)


def test_the_last_line_about_a_row_is_right() -> None:
    row = total(5)
    content = [lines.whole(row)]
    for _ in range(3):
        row.absorb(row.last_at + 1, 10)
        content.append(lines.growth(row))
    (found,) = lines.read(content)[0].values()
    assert (found.count, found.last_at, found.kind) == (35, row.last_at, row.kind)


def test_keys_of_any_type_are_written_as_text(directory: Path) -> None:
    class Key:
        def __str__(self) -> str:
            return "a key of the project's"

    assert json.loads(lines.whole(single(user_id=Key())))[lines.WHOLE.index("user_id")] == "a key of the project's"


# Threads and loops ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_an_event_loop_and_a_thread_record_at_once(directory: Path) -> None:
    def work() -> None:
        for _ in range(300):
            audit.record("message.denied", "rate_limited", ip="203.0.113.7")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        audit.record("connection.accepted")
        await audit.flush()
    recorded = await AuditEvent.objects.filter(kind="connection.accepted").acount()
    assert await audit.flush_all(20) == 0
    assert await asyncio.to_thread(lambda: recorded) > 0
    assert not list(directory.iterdir())
    found = [event.count async for event in AuditEvent.objects.filter(kind="message.denied")]
    assert sum(found) == 900


def test_a_value_that_records_something_itself_does_not_stop_the_recorder(directory: Path) -> None:
    class Talkative:
        def __str__(self) -> str:
            audit.record("connection.closed")
            return "words"

    done = threading.Event()

    def work() -> None:
        audit.record("connection.accepted", detail={"who": Talkative()})
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert done.wait(10)
    assert len(recorder.state.volume) == 2


@pytest.mark.django_db
def test_a_log_handler_that_records_something_itself_is_no_trouble(directory: Path, at_once: None) -> None:
    class Handler(logging.Handler):
        def emit(self, line: logging.LogRecord) -> None:
            if line.getMessage() == "audit.spool_failed":
                audit.record("connection.closed")

    handler = Handler()
    logger = logging.getLogger("channels_secure")
    logger.addHandler(handler)
    try:
        with full_disk(room=10):
            audit.record("connection.accepted")
        audit.flush_now()
    finally:
        logger.removeHandler(handler)
    audit.flush_now()
    assert events() == 2


@pytest.mark.django_db
def test_the_end_of_a_spool_that_fails_is_no_recovery(directory: Path) -> None:
    audit.record("connection.accepted")
    with full_disk(room=10):
        audit.record("connection.accepted")
    # For another second nothing is tried.
    audit.flush_now()
    flushing.flush_at_exit()
    flushing.flush_at_exit()
    assert AuditEvent.objects.filter(kind="store.degraded").count() == 1
    assert not AuditEvent.objects.filter(kind="store.recovered").exists()
