"""`ws_erase_audit`: a person leaves the trail, and the trail still verifies."""

import builtins
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure import audit
from channels_secure.audit import erasing
from channels_secure.audit.verifying import verify
from channels_secure.management.operators import here
from channels_secure.models import AuditEvent
from tests.audit.trails import KEY, OLDER, grow, keyed, run, waiting
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db

PERSONAL = ("user_id", "user_key", "username", "ip", "path", "origin", "user_agent")


@pytest.fixture(autouse=True)
def key(settings: Any) -> None:
    keyed(settings, KEY)


def erase(*arguments: str) -> tuple[int, str]:
    return run("ws_erase_audit", *arguments, "--no-input")


def of(person: User, **facts: Any) -> dict[str, Any]:
    return {"user": person, "user_key": str(person.pk), "username": person.username} | facts


def blank(row: AuditEvent) -> bool:
    row.refresh_from_db()
    return not any(getattr(row, name) for name in PERSONAL) and row.detail == {}


def test_a_user_leaves_the_trail_and_it_verifies(user: User) -> None:
    (other,) = grow(1)
    (row,) = grow(1, **of(user))
    known = AuditEvent.objects.filter(pk=row.pk).values("kind", "created_at", "last_at", "count", "uid", "hash").get()
    assert erase("--user", "alice") == (0, "Erased 1 rows, and the name in 0 others.\n")
    assert blank(row)
    assert not blank(other)
    # What was done stays, and by whom; an operator's words go with the person they are about.
    assert AuditEvent.objects.filter(pk=row.pk, **known).exists()
    assert (row.reason, row.actor, row.connection_id) == ("", "root", "c2")
    report = verify()
    assert (report.faults, report.erased) == ([], 1)


def test_nothing_that_was_erased_is_left_anywhere_in_the_table(user: User) -> None:
    row = grow(1, **of(user))[0]
    secrets = {row.salt, "alice", row.ip, "flooding the lobby"}
    erase("--user", "alice")
    for event in AuditEvent.objects.values():
        assert not [value for value in event.values() if any(secret in str(value) for secret in secrets)]


def test_a_reason_of_the_packages_own_stays(user: User) -> None:
    (row,) = grow(1, **of(user, reason="rate_limited"))
    erase("--user", "alice")
    assert blank(row)
    assert row.reason == "rate_limited"
    assert verify().faults == []


def test_a_user_is_found_under_every_name_they_had(user: User, make_user: MakeUser) -> None:
    bob = make_user("bob")
    former, nameless = grow(1, **of(user, username="ally"))[0], grow(1, **of(user, user=None))[0]
    gone = grow(1, user_key="", username="alice")[0]
    namesake = grow(1, **of(bob, username="alice"))[0]
    assert erase("--user", str(user.pk))[1] == "Erased 3 rows, and the name in 0 others.\n"
    assert [blank(row) for row in (former, nameless, gone, namesake)] == [True, True, True, False]


def test_a_deleted_user_is_found_by_the_name(user: User) -> None:
    (row,) = grow(1, **of(user))
    user.delete()
    assert erase("--user", "alice")[0] == 1
    assert erase("--username", "alice")[1] == "Erased 1 rows, and the name in 0 others.\n"
    assert blank(row)
    assert verify().faults == []


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:0DB8:0::1"),
        ("2001:db8::/64", "2001:db8::/64"),
        # As a block of one address has it.
        ("203.0.113.7/32", "203.0.113.7"),
        ("<script>", "<script>"),
    ],
)
def test_an_address_leaves_the_trail(recorded: str, named: str) -> None:
    (row,), (other,) = grow(1, ip=recorded), grow(1, ip="203.0.113.77")
    assert erase("--ip", named)[1] == "Erased 1 rows, and the name in 0 others.\n"
    assert blank(row)
    assert not blank(other)
    assert verify().faults == []


def test_what_the_person_did_to_others_stays_without_the_name(user: User) -> None:
    (row,) = grow(1, actor="alice")
    assert erase("--user", "alice")[1] == "Erased 0 rows, and the name in 1 others.\n"
    row.refresh_from_db()
    assert (row.actor, row.username, row.reason) == ("", "user1", "flooding the lobby")
    report = verify()
    assert (report.faults, report.erased) == ([], 0)


def test_what_the_person_did_to_themselves_leaves_no_name(user: User) -> None:
    (row,) = grow(1, **of(user, actor="alice"))
    erase("--user", "alice")
    assert blank(row)
    assert row.actor == ""
    assert verify().faults == []


def test_an_address_that_somebody_acted_from_leaves_with_their_name() -> None:
    """The two have one commitment, so that they go together."""
    (row,) = grow(1, actor="root", actor_from="198.51.100.7")
    (other,) = grow(1, actor="root", actor_from="198.51.100.8")
    assert erase("--ip", "198.51.100.7")[1] == "Erased 0 rows, and the name in 1 others.\n"
    for event in (row, other):
        event.refresh_from_db()
    assert (row.actor, row.actor_from, row.username) == ("", "", "user1")
    assert (other.actor, other.actor_from) == ("root", "198.51.100.8")
    assert verify().faults == []


def test_where_somebody_acted_from_leaves_with_their_name(user: User) -> None:
    (row,) = grow(1, actor="alice", actor_from="198.51.100.7")
    erase("--user", "alice")
    row.refresh_from_db()
    assert (row.actor, row.actor_from) == ("", "")
    assert verify().faults == []


@pytest.mark.parametrize("asked", [{"user": "alice"}, {"q": "alice"}, {"username": "alice"}, {"user": "pk"}])
def test_an_export_that_asked_for_the_person_does_not_name_them_any_more(user: User, asked: dict[str, str]) -> None:
    filters = {name: str(user.pk) if value == "pk" else value for name, value in asked.items()}
    (row,) = grow(1, kind="audit.exported", reason="", actor="root", detail={"rows": 3, "filters": filters})
    (other,) = grow(1, kind="audit.exported", reason="", actor="root", detail={"rows": 3, "filters": {"user": "bob"}})
    erase("--user", "alice")
    assert blank(row)
    assert row.actor == "root"
    assert not blank(other)
    assert verify().faults == []


@pytest.mark.parametrize("name", ["ip", "q"])
def test_an_export_that_asked_for_the_address_does_not_name_it_any_more(name: str) -> None:
    (row,) = grow(1, kind="audit.exported", reason="", actor="root", detail={"filters": {name: "198.51.100.7"}})
    erase("--ip", "198.51.100.7")
    assert blank(row)
    assert verify().faults == []


@pytest.mark.parametrize("changes", [{"username": "alice"}, {"ip": "198.51.100.7"}, {"user_id": 0}, {"salt": "0" * 32}])
def test_a_row_that_was_altered_is_erased_and_goes_on_being_one_that_was_altered(
    user: User, changes: dict[str, Any]
) -> None:
    """Else who may write the table had only to put a name that will be erased into a row that is in their way."""
    grow(1, **of(user, ip="198.51.100.7"))
    (row,) = grow(1, **(of(user, ip="198.51.100.7") if "salt" in changes else {"ip": "203.0.113.1"}))
    changes = {name: user.pk if value == 0 else value for name, value in changes.items()}
    AuditEvent.objects.filter(pk=row.pk).update(**changes)
    for named in (("--user", "alice"), ("--username", "alice"), ("--ip", "198.51.100.7")):
        erase(*named)
    assert blank(row)
    assert [(fault.what, fault.event) for fault in verify(everything=True).faults] == [("altered", row.pk)]


@pytest.mark.parametrize("changes", [{"actor": "alice"}, {"actor_from": "198.51.100.7"}])
def test_an_actor_who_was_altered_is_erased_and_goes_on_being_one_who_was_altered(
    user: User, changes: dict[str, Any]
) -> None:
    (row,) = grow(1)
    AuditEvent.objects.filter(pk=row.pk).update(**changes)
    erase("--user", "alice")
    erase("--ip", "198.51.100.7")
    row.refresh_from_db()
    assert (row.actor, row.actor_from) == ("", "")
    assert [(fault.what, fault.event) for fault in verify(everything=True).faults] == [("altered", row.pk)]


def test_it_is_recorded_without_naming_the_person(user: User) -> None:
    grow(3, **of(user))
    grow(2, actor="alice")
    erase("--user", "alice")
    events = AuditEvent.objects.filter(kind="audit.erased").order_by("pk")
    assert [event.detail for event in events] == [
        {"by": "user", "rows": 3, "acted": 0},
        {"by": "user", "rows": 0, "acted": 2},
    ]
    assert {event.actor for event in events} == {"ws_erase_audit"}
    assert {event.actor_from for event in events} == {here()}
    assert not any(getattr(event, name) for event in events for name in PERSONAL)


def test_what_has_just_been_recorded_is_written_first_and_what_waits_goes_too(user: User) -> None:
    row = waiting(user=user)
    audit.record("connection.accepted", user=user)
    assert erase("--user", "alice")[1].startswith("Erased 2 rows")
    assert blank(row)
    assert not AuditEvent.objects.filter(username="alice").exists()
    assert verify().faults == []


def test_a_sum_that_grows_on_stays_without_the_person(user: User) -> None:
    for _ in range(25):
        audit.record("message.denied", "rate_limited", user=user, ip="203.0.113.7")
    erase("--user", "alice")
    audit.record("message.denied", "rate_limited", user=user, ip="203.0.113.7")
    audit.flush_now()
    is_grown = AuditEvent.objects.filter(count__gt=1, username="")
    # Unless the minute has turned, and the event is a row of its own.
    assert is_grown.exists() or AuditEvent.objects.filter(username="alice").exists()
    assert sum(AuditEvent.objects.filter(kind="message.denied").values_list("count", flat=True)) == 26
    assert verify().faults == []


def test_many_rows_go_in_batches(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "BATCH", 2)
    grow(5, **of(user))
    assert erase("--user", "alice")[1] == "Erased 5 rows, and the name in 0 others.\n"
    events = AuditEvent.objects.filter(kind="audit.erased").order_by("pk")
    assert [event.detail["rows"] for event in events] == [2, 2, 1]
    report = verify()
    assert (report.faults, report.erased) == ([], 5)


def test_who_is_erased_already_is_not_found_again(user: User) -> None:
    grow(2, **of(user))
    erase("--user", "alice")
    assert erase("--user", "alice")[1] == "Erased 0 rows, and the name in 0 others.\n"
    assert AuditEvent.objects.filter(kind="audit.erased").count() == 1


def test_rows_of_an_older_key_are_erased_with_the_newest(user: User, settings: Any) -> None:
    keyed(settings, OLDER)
    grow(1, **of(user))
    keyed(settings, KEY, OLDER)
    erase("--user", "alice")
    assert verify().faults == []


def test_erased_rows_verify_without_a_key_too(user: User, settings: Any) -> None:
    keyed(settings)
    grow(2, **of(user))
    erase("--user", "alice")
    report = verify()
    assert (report.faults, report.erased) == ([], 2)


def test_it_asks_first(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = grow(1, **of(user))
    asked = []

    def answer(question: str) -> str:
        asked.append(question)
        return "no" if len(asked) == 1 else "yes"

    monkeypatch.setattr(builtins, "input", answer)
    assert run("ws_erase_audit", "--user", "alice")[0] == 1
    assert not blank(row)
    assert run("ws_erase_audit", "--user", "alice")[0] == 0
    assert blank(row)
    assert "1 rows of this person" in asked[0]


def test_a_trial_only_says_how_many(user: User) -> None:
    grow(2, **of(user))
    said = erase("--user", "alice", "--dry-run")[1]
    assert said == "2 rows of this person, and their name in 0 of what they did to others, would be erased.\n"
    assert verify().erased == 0


@pytest.mark.parametrize(
    "arguments", [(), ("--user", "nobody"), ("--username", " "), ("--ip", ""), ("--user", "a", "--ip", "b")]
)
def test_somebody_has_to_be_named(arguments: tuple[str, ...]) -> None:
    grow(1, username="", ip="")
    assert erase(*arguments)[0] == 1
