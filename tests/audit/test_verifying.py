"""`ws_verify_audit`: what it says of trails, whole and damaged."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_secure import audit
from channels_secure.audit import chain, reading
from channels_secure.audit.heads import Head
from channels_secure.audit.verifying import verify
from channels_secure.models import AuditEvent, AuditHead
from tests.audit.trails import KEY, OLDER, grow, keyed, put_head, run, sql, waiting

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def key(settings: Any) -> None:
    keyed(settings, KEY)


def verified(*arguments: str) -> dict[str, Any]:
    code, said = run("ws_verify_audit", "--json", *arguments)
    report: dict[str, Any] = json.loads(said.splitlines()[0])
    assert report["verifies"] is (code == 0)
    return report


def head() -> str:
    return str(AuditHead.objects.get())


def test_an_empty_trail_verifies() -> None:
    assert verified() | {"head": ""} == {
        "verifies": True,
        "start": 0,
        "rows": 0,
        "events": 0,
        "erased": 0,
        "by_key": [0, 0],
        "head": "",
        "waiting": 0,
        "late": 0,
        "faults": [],
        "warnings": [],
    }


def test_what_the_package_records_verifies(user: User) -> None:
    for number in range(30):
        audit.record("message.denied", "rate_limited", user=user, ip="2001:db8::1", detail={"size": 1e3, "n": number})
    audit.record("connection.closed", user=user, path="/ws/", detail={"by": "client", "nested": {"b": [1], "a": None}})
    audit.write("block.created", "spam", user=user, actor="root")
    audit.flush_now()
    report = verified()
    # The sum of the minute is open, unless the minute has turned.
    assert report["verifies"]
    assert report["rows"] + report["waiting"] == AuditEvent.objects.count()
    assert report["waiting"] in {0, 1}
    assert report["head"] == head()


def test_it_says_what_it_has_verified() -> None:
    grow(3)
    code, said = run("ws_verify_audit")
    assert code == 0
    assert said.splitlines() == [
        "rows: 3 (6 events), after row 0",
        "by key, newest first: 3; without a key: 0",
        "erased: 0",
        "waiting to be linked: 0",
        f"head: {head()}",
        "The trail verifies.",
    ]


def test_without_a_key_it_says_what_that_is_worth(settings: Any) -> None:
    keyed(settings)
    grow(1)
    code, said = run("ws_verify_audit")
    assert code == 0
    assert "without a key: whoever can change the database can change the trail" in said


def test_it_names_the_first_wrong_row_by_position_and_id_and_fails() -> None:
    rows = grow(5)
    sql("UPDATE {} SET count = 9 WHERE position IN (2, 4)")
    code, said = run("ws_verify_audit")
    assert code == 1
    assert said.splitlines()[0] == f"altered: Row 2 (id {rows[1].pk}) is not what was recorded there."
    assert said.splitlines()[-1] == "1 fault: the trail does not verify."


def test_it_names_every_wrong_row_when_asked_to() -> None:
    grow(5)
    sql("UPDATE {} SET count = 9 WHERE position IN (2, 4)")
    assert [fault["position"] for fault in verified("--all")["faults"]] == [2, 4]


def test_what_waits_is_linked_first_and_only_if_wanted() -> None:
    waiting()
    assert verified("--no-link")["waiting"] == 1
    assert AuditEvent.objects.get().position is None
    report = verified()
    assert (report["rows"], report["waiting"]) == (1, 0)


def test_what_has_waited_for_long_is_a_warning() -> None:
    old, *_ = (waiting() for _ in range(3))
    old.last_at = old.created_at = timezone.now() - timedelta(minutes=11)
    old.hash = chain.seal().digest(old)
    old.save()
    report = verified("--no-link")
    assert (report["verifies"], report["waiting"], report["late"]) == (True, 3, 1)
    assert report["warnings"] == ["1 rows wait to be linked for longer than 10 minutes."]


def test_a_user_who_was_deleted_alters_nothing(user: User) -> None:
    grow(1, user=user, user_key=str(user.pk))
    user.delete()
    assert AuditEvent.objects.get().user_id is None
    assert verified()["verifies"]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_pages_leave_nothing_out(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(reading, "PAGE", size)
    monkeypatch.setattr(reading.rows_after, "__defaults__", (size,))
    grow(4)
    with CaptureQueriesContext(connection) as queries:
        assert verify(link=False).rows == 4
    assert len([query for query in queries if "user_agent" in query["sql"]]) >= 4 // size


# Keys ----------------------------------------------------------------------------------------------------------------


def test_rows_of_an_older_key_verify_while_it_is_listed(settings: Any) -> None:
    keyed(settings, OLDER)
    grow(2)
    keyed(settings, KEY, OLDER)
    grow(3)
    assert verified()["by_key"] == [3, 2, 0]
    keyed(settings, KEY)
    (fault,) = verified()["faults"]
    assert (fault["what"], fault["position"]) == ("altered", 1)


def test_a_row_that_waited_while_the_key_was_changed_verifies(settings: Any) -> None:
    keyed(settings, OLDER)
    waiting()
    keyed(settings, KEY, OLDER)
    assert verified()["by_key"] == [0, 1, 0]


def test_an_older_key_counts_for_an_hour_after_a_newer_one(settings: Any) -> None:
    """So long may it take until every process has the new key; after that the old one is in the wrong hands."""
    for key, age in ((KEY, 200), (KEY, 195), (OLDER, 190), (KEY, 145)):
        keyed(settings, key)
        grow(1, age=timedelta(minutes=age))
    keyed(settings, KEY, OLDER)
    assert verified()["by_key"] == [3, 1, 0]
    keyed(settings, KEY)
    grow(1, age=timedelta(minutes=130))
    keyed(settings, OLDER)
    # Whatever time it names.
    rows = grow(1, age=timedelta(minutes=190))
    keyed(settings, KEY, OLDER)
    (fault,) = verified()["faults"]
    assert (fault["what"], fault["event"]) == ("old_key", rows[0].pk)


def test_a_key_that_is_changed_in_two_steps_leaves_nothing_unlinked_or_in_doubt(settings: Any) -> None:
    """First every process knows the new key, then they seal with it; meanwhile each links what the other has sealed."""
    keyed(settings, OLDER)
    waiting()
    keyed(settings, OLDER, KEY)
    grow(1)
    waiting()
    keyed(settings, KEY, OLDER)
    waiting()
    # A process that has not come to the second step yet.
    keyed(settings, OLDER, KEY)
    chain.link_waiting()
    grow(1)
    keyed(settings, KEY, OLDER)
    grow(1)
    report = verified()
    assert (report["faults"], report["rows"], report["waiting"]) == ([], 6, 0)


def test_rows_without_a_key_count_up_to_a_head_that_was_kept(settings: Any) -> None:
    keyed(settings)
    grow(2)
    kept = head()
    keyed(settings, KEY)
    grow(2)
    assert [fault["what"] for fault in verified()["faults"]] == ["unkeyed"]
    assert verified("--head", kept)["by_key"] == [2, 2]
    keyed(settings)
    grow(1)
    keyed(settings, KEY)
    (fault,) = verified("--head", kept)["faults"]
    assert (fault["what"], fault["position"]) == ("unkeyed", 5)


# Heads ---------------------------------------------------------------------------------------------------------------


def test_a_head_that_was_kept_is_compared() -> None:
    grow(3)
    kept = head()
    grow(2)
    assert verified("--head", kept)["verifies"]
    wrong = f"3:{'0' * 64}"
    (fault,) = verified("--head", wrong)["faults"]
    assert (fault["what"], fault["position"]) == ("head", 3)


def test_the_head_that_the_log_has_is_compared(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "channels_secure")
    grow(3)
    chain.announce()
    told = vars(caplog.records[-1])
    assert told["message"] == "audit.head"
    grow(1)
    kept = f"{told['position']}:{told['hash']}"
    assert verified("--head", kept)["verifies"]
    AuditEvent.objects.filter(position__gt=2).delete()
    put_head(2)
    assert not verified("--head", kept)["verifies"]


def test_a_head_that_was_pruned_proves_nothing() -> None:
    grow(2, age=timedelta(days=100))
    kept = head()
    grow(2, age=timedelta(days=99))
    grow(1)
    assert run("ws_prune_audit", "--days", "99")[0] == 0
    (fault,) = verified("--head", kept)["faults"]
    assert (fault["what"], fault["position"]) == ("head", 2)


def test_a_head_at_which_pruning_ended_is_compared() -> None:
    grow(2, age=timedelta(days=100))
    kept = head()
    grow(1)
    assert run("ws_prune_audit")[0] == 0
    assert verified("--head", kept)["verifies"]
    assert not verified("--head", f"2:{'0' * 64}")["verifies"]


def test_a_tail_that_was_cut_with_the_head_put_back_needs_a_head_that_was_kept() -> None:
    grow(5)
    kept = head()
    AuditEvent.objects.filter(position__gt=3).delete()
    put_head(3)
    assert verified()["verifies"]
    (fault,) = verified("--head", kept)["faults"]
    assert (fault["what"], fault["position"]) == ("missing", 4)
    # Nor does it help to let other rows grow in its place.
    grow(4)
    assert verified()["verifies"]
    (fault,) = verified("--head", kept)["faults"]
    assert (fault["what"], fault["position"]) == ("head", 5)


@pytest.mark.parametrize("text", ["", "3", "3:abc", f"-1:{'0' * 64}", f"1:{'G' * 64}", "@/nowhere/at/all"])
def test_a_head_that_is_none_is_refused(text: str) -> None:
    code, _ = run("ws_verify_audit", "--head", text)
    assert code == 1


def test_a_saved_file_is_a_head(tmp_path: Path) -> None:
    grow(3)
    file = tmp_path / "head.json"
    assert verified("--save", str(file))["verifies"]
    assert json.loads(file.read_text())["head"] == head()
    grow(1)
    assert verified("--head", f"@{file}")["verifies"]
    AuditEvent.objects.filter(position__gt=2).delete()
    put_head(2)
    assert [fault["what"] for fault in verified("--head", f"@{file}")["faults"]] == ["missing"]


def test_a_saved_file_that_was_altered_is_refused(tmp_path: Path, settings: Any) -> None:
    grow(3)
    kept = head()
    file = tmp_path / "head.json"
    run("ws_verify_audit", "--save", str(file))
    content = file.read_text()
    grow(1)
    file.write_text(content.replace(kept, head()))
    code, said = run("ws_verify_audit", "--head", f"@{file}")
    assert code == 1
    assert "signature" in said
    file.write_text("[]")
    assert run("ws_verify_audit", "--head", f"@{file}")[0] == 1
    # One that was saved before the key was changed is as good as ever.
    file.write_text(content)
    keyed(settings, OLDER, KEY)
    assert verified("--head", f"@{file}")["verifies"]


def test_a_trail_that_does_not_verify_is_not_saved(tmp_path: Path) -> None:
    grow(2)
    sql("UPDATE {} SET count = 9 WHERE position = 1")
    file = tmp_path / "head.json"
    run("ws_verify_audit", "--save", str(file))
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    grow(1)
    code, said = run("ws_verify_audit", "--save", str(tmp_path / "no" / "folder"))
    assert code == 1
    assert "cannot be written" in said


def test_a_head_reads_what_it_writes() -> None:
    known = Head(position=7, hash="a" * 64)
    assert Head.parse(str(known)) == known


def test_a_project_without_time_zones_verifies_too(settings: Any) -> None:
    settings.USE_TZ = False
    grow(2, age=timedelta(days=100))
    waiting()
    assert verified()["rows"] == 3
    assert run("ws_prune_audit")[0] == 0
    report = verified()
    assert (report["verifies"], report["start"], report["rows"]) == (True, 2, 2)


@pytest.mark.django_db
def test_a_reader_who_leaves_changes_nothing_about_the_answer(settings: Any) -> None:
    """As `| head` does."""
    keyed(settings)
    grow(2)
    AuditEvent.objects.filter(position=1).update(path="/other/")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as out, pytest.raises(CommandError, match="1 fault"):
        call_command("ws_verify_audit", stdout=out)
