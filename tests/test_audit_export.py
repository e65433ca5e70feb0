"""Exports of the trail: what is in them, that nothing in them does anything, and that an auditor can check them."""

import csv
import io
import json
import os
import re
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from channels_secure import audit
from channels_secure.audit import exporting, formats
from channels_secure.audit.formats import Format
from channels_secure.models import AuditEvent

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "howto" / "export-audit.md"
MOMENT = datetime(2026, 11, 21, 9, 41, 7, 123456, tzinfo=UTC)
TEXTS = (
    "reason",
    "user_key",
    "username",
    "ip",
    "path",
    "origin",
    "user_agent",
    "connection_id",
    "actor",
    "actor_from",
    "uid",
    "hash",
)
# What a spreadsheet calculates, what a page runs, what a terminal obeys, and what breaks a line.
PAYLOADS = (
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
    "a;=1+1",
    'a;"=1+1',
    '","=1+1',
    "'=1+1",
    "<script>alert(1)</script>",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\x7f",
    "\u202etxt.exe",
    "two\nlines",
)
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")

pytestmark = pytest.mark.django_db


def event(**facts: Any) -> AuditEvent:
    return AuditEvent.objects.create(**{"kind": "handshake.denied", "created_at": MOMENT, "last_at": MOMENT, **facts})


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("ws_export_audit", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def exported(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments).splitlines()]


def paths(*arguments: str) -> list[str]:
    return [str(line["url.path"]) for line in exported(*arguments)]


def begun(shape: Format = Format.NDJSON) -> exporting.Export:
    return exporting.begin(AuditEvent.objects.all(), shape, filters={}, actor="test")


def lines(pieces: Any) -> list[str]:
    return [str(json.loads(line)["url.path"]) for line in b"".join(pieces).splitlines()]


# What is in it -------------------------------------------------------------------------------------------------------


def test_an_event_has_the_names_of_the_common_schema(user: User) -> None:
    one = event(
        reason="origin_not_allowed",
        user=user,
        user_key=str(user.pk),
        username="alice",
        ip="203.0.113.7",
        path="/ws/chat/",
        origin="https://evil.example",
        user_agent="curl/8",
        connection_id="abc",
        actor="root",
        actor_from="198.51.100.4",
        count=17,
        last_at=MOMENT + timedelta(seconds=20),
        detail={"by": "policy", "list": [1, None, "é"]},
        position=3,
        hash="f" * 64,
        salt="0" * 32,
        commitment="e" * 64,
    )
    (line,) = exported()
    assert line == {
        "@timestamp": "2026-11-21T09:41:07.123456Z",
        "event.start": "2026-11-21T09:41:07.123456Z",
        "event.kind": "event",
        "event.action": "handshake.denied",
        "event.reason": "origin_not_allowed",
        "event.category": ["network"],
        "event.type": ["connection", "denied"],
        "event.outcome": "failure",
        "event.id": one.uid,
        "event.end": "2026-11-21T09:41:27.123456Z",
        "user.id": str(user.pk),
        "user.name": "alice",
        "source.address": "203.0.113.7",
        "source.ip": "203.0.113.7",
        "url.path": "/ws/chat/",
        "http.request.headers.origin": "https://evil.example",
        "user_agent.original": "curl/8",
        "channels_secure.connection_id": "abc",
        "channels_secure.actor": "root",
        "channels_secure.actor_from": "198.51.100.4",
        "channels_secure.count": 17,
        "channels_secure.is_open": False,
        "channels_secure.detail": {"by": "policy", "list": [1, None, "é"]},
        "channels_secure.position": 3,
        "channels_secure.hash": "f" * 64,
        "channels_secure.commitment": "e" * 64,
        "channels_secure.salt": "0" * 32,
        "channels_secure.actor_commitment": "",
        "channels_secure.actor_salt": "",
    }
    (row,) = csv.DictReader(io.StringIO(run("--format", "csv", "--kind", "handshake.denied"), newline=""))
    assert list(row) == list(line)[1:]
    assert row["event.start"] == line["event.start"]
    assert row["event.category"] == "network"
    assert row["channels_secure.count"] == "17"
    assert json.loads(row["channels_secure.detail"]) == line["channels_secure.detail"]


def test_every_field_and_every_class_is_documented() -> None:
    text = PAGE.read_text()
    for name in (formats.TIMESTAMP, *formats.FIELDS):
        assert f"`{name}`" in text, name
    documented = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (`[^|]*) \|", text, re.MULTILINE))
    for kind, (category, types, outcome) in formats.CLASSES.items():
        words = " ".join(f"`{word}`" for word in (*category, *types, outcome))
        assert documented.get(kind, "").replace(",", "").replace(";", "") == words, kind


def test_every_kind_has_a_class() -> None:
    assert set(formats.CLASSES) == set(AuditEvent.Kind.values)


def test_a_kind_that_nobody_knows_breaks_no_export() -> None:
    event(kind="something.else")
    (line,) = exported()
    assert (line["event.category"], line["event.outcome"]) == ([], "unknown")


@pytest.mark.parametrize("ip", ["2001:db8::/64", "<script>", ""])
def test_only_an_address_is_an_address(ip: str) -> None:
    event(ip=ip)
    (line,) = exported()
    assert (line["source.address"], line["source.ip"]) == (ip, None)


def test_a_project_without_time_zones_exports_utc(settings: Settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    assert formats.moment(MOMENT.replace(tzinfo=None, month=7)) == "2026-07-21T07:41:07.123456Z"


def test_a_user_who_is_gone_breaks_no_export() -> None:
    event(user_id=4_000_000, user_key="4000000", username="gone")
    assert [line["user.id"] for line in exported("--user", "gone")] == ["4000000"]
    assert [line["user.name"] for line in exported("--user", "4000000")] == ["gone"]


def test_a_user_is_found_by_the_primary_key(user: User) -> None:
    event(user=user, user_key=str(user.pk), username="once called so", path="/1/")
    event(user_key="9" * 30, path="/2/")
    assert paths("--user", str(user.pk)) == ["/1/"]
    assert paths("--user", "9" * 30) == ["/2/"]
    assert paths("--user", "no key at all") == []


# Nothing in it does anything -----------------------------------------------------------------------------------------


def readings(text: str) -> Iterator[str]:
    """The cells as spreadsheets of different countries see them."""
    for separator in (",", ";", "\t"):
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            yield from row


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_is_inert_in_every_field(payload: str) -> None:
    event(**dict.fromkeys(TEXTS, payload), detail={payload: [payload]})
    table, stream = run("--format", "csv"), run("--kind", "handshake.denied")
    for text in (table, stream):
        assert all(line.isprintable() for line in text.replace("\r\n", "\n").split("\n"))
    assert not [cell for cell in readings(table) if cell.startswith(FORMULA)]
    assert table.count("\r\n") == 2
    line = json.loads(stream)
    names = {"user.name", "source.address", "url.path", "user_agent.original", "channels_secure.actor", "event.reason"}
    assert {line[name] for name in names} == {payload}
    assert line["channels_secure.detail"] == {payload: [payload]}


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_no_text_becomes_a_formula(texts: list[str]) -> None:
    table = formats._csv([[formats._cell(text) for text in texts]]).decode()
    assert not [cell for cell in readings(table) if cell.startswith(FORMULA)]
    (row,) = csv.reader(io.StringIO(table, newline=""))
    assert len(row) == len(texts)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20).filter(str.isprintable))
def test_a_text_without_semicolons_can_be_had_back(text: str) -> None:
    text = text.replace(";", "")
    assert formats._cell(text).removeprefix("'") == text or not text.startswith((*FORMULA, "'"))
    assert formats._cell(text).endswith(text)


def test_a_character_that_json_leaves_as_it_is_is_escaped_too() -> None:
    assert formats._json({"a": "é\x7f"}) == '{"a": "\\u00e9\\u007f"}'


def test_half_a_character_breaks_no_export() -> None:
    assert json.loads(formats._json({"a": "\ud800"})) == {"a": "\ud800"}


# Pages and the snapshot ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 10)


def test_pages_have_every_row_once_in_order(small_pages: None) -> None:
    for number in range(35):
        # Three moments, each longer than a page, written in the wrong order.
        event(path=f"/{number}/", created_at=MOMENT - timedelta(seconds=number % 3))
    expected = list(AuditEvent.objects.order_by("created_at", "id").values_list("path", flat=True))
    assert lines(begun()) == expected


def test_what_comes_later_is_not_in_it_whatever_its_time(small_pages: None) -> None:
    for number in range(15):
        event(path=f"/{number}/", created_at=MOMENT + timedelta(seconds=number))
    pieces = iter(begun())
    first = [next(pieces), next(pieces)]
    event(path="/late/", created_at=MOMENT + timedelta(seconds=12))
    event(path="/later/", created_at=MOMENT + timedelta(days=1))
    assert lines([*first, *pieces]) == [f"/{number}/" for number in range(15)]


def test_an_export_does_not_have_itself() -> None:
    event(path="/1/")
    assert paths() == ["/1/"]
    assert AuditEvent.objects.filter(kind="audit.exported").count() == 1


def test_a_page_costs_one_query(small_pages: None) -> None:
    for number in range(35):
        event(path=f"/{number}/")
    pieces = begun()
    with CaptureQueriesContext(connection) as asked:
        b"".join(pieces)
    assert len(asked) == 5


def test_a_page_is_read_in_the_order_of_an_index(small_pages: None) -> None:
    for number in range(35):
        event(path=f"/{number}/")
    rows = begun().queryset
    words = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    denied = rows.filter(kind="handshake.denied")
    for chosen, after in ((rows, None), (rows, (MOMENT, 3)), (denied, None), (denied, (MOMENT, 3))):
        with CaptureQueriesContext(connection) as asked:
            list(exporting._page(chosen, after))
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
            cursor.execute(f"{words} {asked[0]['sql']}")
            plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
        assert "cs_audit_" in plan
        assert not re.search(r"Sort|Seq Scan|B-TREE", plan)


def test_the_memory_it_takes_does_not_grow_with_the_trail(small_pages: None) -> None:
    def peak() -> int:
        tracemalloc.start()
        for _ in begun():
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few = [AuditEvent(kind="handshake.denied", created_at=MOMENT, user_agent="x" * 256) for _ in range(100)]
    AuditEvent.objects.bulk_create(few)
    peak()
    short = peak()
    for _ in range(10):
        AuditEvent.objects.bulk_create(
            AuditEvent(kind="handshake.denied", created_at=MOMENT, user_agent="x" * 256) for _ in range(100)
        )
    # A thousand rows more are more than a megabyte.
    assert peak() < short + 200_000


# An auditor checks it ------------------------------------------------------------------------------------------------


def checker() -> str:
    """The program on the page."""
    (found,) = re.findall(r"<!-- check -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def check(tmp_path: Path, content: str, key: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "check.py").write_text(checker())
    (tmp_path / "trail.ndjson").write_text(content, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "check.py", "trail.ndjson"],
        cwd=tmp_path,
        env={**os.environ, "AUDIT_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(params=["", "a key", "schlüssel"])
def trail(request: pytest.FixtureRequest, settings: Settings, user: User) -> Iterator[tuple[str, str]]:
    """The key, and a chain of several events as NDJSON."""
    key = request.param
    settings.CHANNELS_SECURE = {"AUDIT_KEY": key} if key else {}
    audit.reset()
    with pytest.MonkeyPatch.context() as patch:
        # The rows stand in this test's transaction.
        patch.setattr(audit.spooling, "is_due", lambda: False)
        for number in range(25):
            audit.record(
                "handshake.denied",
                "origin_not_allowed",
                user=user,
                ip="203.0.113.7",
                path=f"/{number}/\x1b",
                detail={"é": 1.0, "z": [True, None], "a": 10**17},
            )
        with audit.acting_from("198.51.100.4"):
            audit.write("block.created", "an operator's own words", user=user, actor="root")
            audit.write("block.created", "more of them", actor="alice")
        audit.flush_now()
        yield key, run()
    audit.reset()


def test_a_program_of_the_standard_library_finds_the_chain_whole(trail: tuple[str, str], tmp_path: Path) -> None:
    key, content = trail
    done = check(tmp_path, content, key)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\d+ rows, from 1 to \d+, are as they were written", done.stdout)


@pytest.mark.parametrize("trail", ["a key"], indirect=True)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event.action", "connection.accepted"),
        ("event.reason", "blocked"),
        ("channels_secure.count", 1000),
        ("event.end", "2026-11-21T00:00:00.000000Z"),
        ("user.name", "bob"),
        ("source.address", "192.0.2.1"),
        ("channels_secure.detail", {}),
        ("channels_secure.connection_id", "x"),
        ("channels_secure.actor", "root"),
        ("channels_secure.actor_from", "198.51.100.4"),
    ],
)
def test_the_program_finds_what_was_altered(trail: tuple[str, str], tmp_path: Path, name: str, value: Any) -> None:
    key, content = trail
    rows = [json.loads(line) for line in content.splitlines()]
    rows[3][name] = value
    done = check(tmp_path, "\n".join(json.dumps(row) for row in rows), key)
    assert done.returncode == 1
    assert str(rows[3]["channels_secure.position"]) in done.stdout + done.stderr


@pytest.mark.parametrize("trail", [""], indirect=True)
def test_the_program_finds_what_is_missing(trail: tuple[str, str], tmp_path: Path) -> None:
    key, content = trail
    rows = content.splitlines()
    assert check(tmp_path, "\n".join(rows[:3] + rows[4:]), key).returncode == 1


def test_the_program_takes_a_later_stretch_and_a_person_who_was_erased(trail: tuple[str, str], tmp_path: Path) -> None:
    key, _ = trail
    call_command("ws_erase_audit", "--user", "alice", "--no-input", stdout=io.StringIO())
    rows = [json.loads(line) for line in run().splitlines()][5:]
    assert not [row for row in rows if "alice" in (row["user.name"], row["channels_secure.actor"])]
    done = check(tmp_path, "\n".join(json.dumps(row) for row in rows), key)
    linked = [row for row in rows if row["channels_secure.position"]]
    assert done.stdout.startswith(f"{len(linked) - 1} rows, from 7 to")


@pytest.mark.parametrize("trail", ["a key"], indirect=True)
@pytest.mark.parametrize("salt", ["", "0" * 32])
@pytest.mark.parametrize("name", ["salt", "actor_salt"])
def test_the_program_takes_nobody_for_erased_without_the_key(
    trail: tuple[str, str], tmp_path: Path, name: str, salt: str
) -> None:
    key, content = trail
    rows = [json.loads(line) for line in content.splitlines()]
    (row,) = (row for row in rows if row["channels_secure.actor"] == "root")
    personal = ("user.id", "user.name", "source.address", "channels_secure.actor", "channels_secure.actor_from")
    row |= {**dict.fromkeys(personal, ""), "event.reason": "", f"channels_secure.{name}": salt}
    assert check(tmp_path, "\n".join(json.dumps(row) for row in rows), key).returncode == 1


# The command ---------------------------------------------------------------------------------------------------------


def test_what_waits_is_flushed_and_linked_first() -> None:
    audit.write("block.created", "spam", ip="203.0.113.7")
    audit.record("connection.accepted", path="/1/")
    assert {line["channels_secure.position"] for line in exported()} == {1, 2}


def test_what_waits_is_linked_first_however_short_ago_somebody_looked() -> None:
    run()
    audit.write("block.created", "spam", ip="203.0.113.7")
    assert [line["channels_secure.position"] for line in exported()] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), {"a", "b", "c"}),
        (("--kind", "message.denied"), {"b"}),
        (("--reason", "rate_limited"), {"b", "c"}),
        (("--reason", "rate_limited", "--kind", "handshake.denied"), {"c"}),
        (("--user", "alice"), {"a"}),
        (("--user", "ALICE"), set()),
        (("--user", "77"), {"b"}),
        (("--ip", "203.0.113.7"), {"a"}),
        (("--ip", "2001:db8::9"), {"b"}),
        (("--connection", "abc"), {"a"}),
        (("--connection", "abcdef"), {"a"}),
        (("--connection", "ab"), set()),
        (("--since", "2026-11-21T09:41:07.123456Z"), {"a", "b"}),
        (("--since", "2026-11-21T09:41:08Z"), {"b"}),
        (("--since", "2026-11-21T10:41:08+01:00"), {"b"}),
        (("--until", "2026-11-21T09:41:07.123456Z"), {"c"}),
        (("--since", "2026-11-20", "--until", "2026-11-21"), {"c"}),
    ],
)
def test_filters_choose_the_rows(arguments: tuple[str, ...], found: set[str]) -> None:
    event(path="a", username="alice", ip="203.0.113.7", connection_id="abcdef", reason="origin_not_allowed")
    event(
        path="b",
        kind="message.denied",
        reason="rate_limited",
        user_key="77",
        ip="2001:db8::/64",
        created_at=MOMENT + timedelta(seconds=1),
    )
    event(path="c", reason="rate_limited", created_at=MOMENT - timedelta(days=1))
    assert set(paths(*arguments)) == found
    noted = AuditEvent.objects.get(kind="audit.exported")
    words = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert noted.actor == "ws_export_audit"
    assert noted.detail == {
        "format": "ndjson",
        "rows": len(found),
        "filters": {name.removeprefix("--"): value for name, value in words.items()},
    }


def test_a_time_may_be_how_long_ago(settings: Settings) -> None:
    event(path="old", created_at=timezone.now() - timedelta(days=3))
    event(path="new", created_at=timezone.now() - timedelta(minutes=5))
    assert paths("--since", "1h") == ["new"]
    assert paths("--until", "24h", "--kind", "handshake.denied") == ["old"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "soon"), "is not a time"),
        (("--since", "2026-13-01"), "is not a time"),
        (("--since", "9999999999d"), "is not a time"),
        (("--until", "9999-12-31T23:59:59-12:00"), "is not a time"),
        (("--kind", "nonsense"), "invalid choice"),
        (("--format", "xml"), "invalid choice"),
        (("--output", "/no/such/folder/trail.csv"), "cannot be written"),
    ],
)
def test_a_mistake_is_told_in_plain_words(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(*arguments)
    assert not AuditEvent.objects.exists()


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    event(path="/1/")
    target = tmp_path / "trail.ndjson"
    assert run("--output", str(target)) == "Exported 1 row.\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert lines([target.read_bytes()]) == ["/1/"]
    assert AuditEvent.objects.get(kind="audit.exported").detail["filters"] == {"output": str(target)}


def test_a_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    event(path="/1/")
    target = tmp_path / "trail.csv"
    target.write_text("older")
    target.chmod(0o644)
    with pytest.raises(CommandError, match="already"):
        run("--format", "csv", "--output", str(target))
    assert target.read_text() == "older"
    assert not AuditEvent.objects.filter(kind="audit.exported").exists()
    run("--format", "csv", "--output", str(target), "--force")
    assert target.read_text().count("\n") == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "trail").symlink_to(elsewhere)
    with pytest.raises(CommandError):
        run("--output", str(tmp_path / "trail"))
    assert not elsewhere.exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_file_is_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    target = tmp_path / "no file"
    make(target)
    with pytest.raises(CommandError, match="already"):
        run("--output", str(target), "--force")
    assert target.is_fifo() or target.is_dir()


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_export_that_fails_leaves_nothing_and_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: tuple[str, ...]
) -> None:
    event()
    target = tmp_path / "trail"
    if force:
        target.write_text("older")

    def fail(*_: Any) -> Any:
        raise ConnectionError("the database is away")

    monkeypatch.setattr(exporting, "_page", fail)
    with pytest.raises(ConnectionError):
        run("--output", str(target), *force)
    assert [path.read_text() for path in tmp_path.iterdir()] == (["older"] if force else [])


@pytest.mark.parametrize("size", [1, 2_000])
def test_a_reader_who_leaves_ends_the_export_in_peace(size: int) -> None:
    """As `| head` does; what Python had in its buffer must not fail again when the stream is closed."""
    AuditEvent.objects.bulk_create(
        AuditEvent(kind="handshake.denied", path="/" * 200, uid=f"event-{number}") for number in range(size)
    )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as out, pytest.raises(CommandError, match="has left") as left:
        call_command("ws_export_audit", stdout=out)
    assert left.value.returncode == 1
    noted = AuditEvent.objects.get(kind="audit.exported")
    assert (noted.actor, noted.detail["rows"]) == ("ws_export_audit", size)


def test_the_standard_output_has_the_same_bytes_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event(path="/é/")
    run("--format", "csv", "--kind", "handshake.denied", "--output", str(tmp_path / "file"))
    raw = io.BytesIO()
    # A terminal of another alphabet.
    with io.TextIOWrapper(raw, encoding="ascii") as terminal:
        call_command("ws_export_audit", "--format", "csv", "--kind", "handshake.denied", stdout=terminal)
        assert raw.getvalue() == (tmp_path / "file").read_bytes()
