"""The formulas: what is sealed stays the same in every database, and what is erased leaves its seal."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels_secure import audit
from channels_secure.audit import sealing, writer
from channels_secure.audit.sealing import FORGED, GENESIS, Seal, seals
from channels_secure.audit.volume import Row
from channels_secure.models import AuditEvent, new_uid
from channels_secure.policy.decisions import Reason

NOW = 1_800_000_000.123456
PERSONAL = ("user_key", "username", "ip", "path", "origin", "user_agent")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
# More than 64 bits too, which the recorder does not let through, and floats that databases write in their own ways.
numbers = (
    st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e22, -0.0, 1e2, 6.694938948601881e16])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
details = st.dictionaries(texts, values, max_size=4)


def row(**facts: Any) -> Row:
    return Row(**{"kind": "block.created", "reason": "spam", "created_at": NOW, "last_at": NOW + 1, **facts})


def event(seal: Seal | None = None, **facts: Any) -> AuditEvent:
    fields = {name: f"some {name}" for name in (*PERSONAL, "actor", "connection_id")}
    return writer.sealed(row(**{"uid": "one", "detail": {"a": 1}, **fields, **facts}), seal or Seal(b"key"))


def is_right(found: AuditEvent, seal: Seal) -> bool:
    return (seal.digest(found), seal.commitment(found), seal.actor_commitment(found) if found.actor else "") == (
        found.hash,
        found.commitment,
        found.actor_commitment,
    )


# Through a database --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@settings(max_examples=40)
@given(st.lists(st.tuples(details, texts), min_size=1, max_size=20))
def test_what_a_database_gives_back_has_the_seal_of_what_it_was_given(contents: list[tuple[Any, str]]) -> None:
    seal = Seal(b"key")
    AuditEvent.objects.all().delete()
    AuditEvent.objects.bulk_create(
        writer.sealed(row(uid=new_uid(), detail=detail, path=text, actor=text, reason=text), seal)
        for detail, text in contents
    )
    found = list(AuditEvent.objects.all())
    assert len(found) == len(contents)
    assert all(is_right(each, seal) for each in found)


@pytest.mark.django_db
def test_what_was_recorded_verifies_with_all_that_clients_send() -> None:
    audit.record(
        "handshake.denied",
        "x" * 5000,
        path="\ud800\x00 \u202e \U0001f600",
        detail={"big": 10**5000, "float": 1e300, "nan": float("nan"), "sets": {1}, "é": "é", "1": 1.0},
    )
    audit.flush_now()
    (found,) = AuditEvent.objects.all()
    assert (found.salt == "") is False
    assert Seal().commitment(found) == found.commitment
    assert Seal().link(1, GENESIS, Seal().digest(found)) == found.hash


@pytest.mark.django_db
def test_times_count_to_the_microsecond_and_in_every_zone() -> None:
    made = event(uid=new_uid())
    made.save()
    found = AuditEvent.objects.get()
    assert found.created_at.microsecond == made.created_at.microsecond != 0
    found.created_at = found.created_at.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert is_right(found, Seal(b"key"))
    found.created_at += timedelta(microseconds=1)
    assert not is_right(found, Seal(b"key"))


# The formulas --------------------------------------------------------------------------------------------------------


def test_h_is_sha_256_or_its_hmac() -> None:
    assert Seal().of(b"abc") == hashlib.sha256(b"abc").hexdigest()
    for key in (b"k", b"k" * 64, b"k" * 65, b"\xff" * 200):
        assert Seal(key).of(b"abc") == hmac.new(key, b"abc", "sha256").hexdigest()
    assert Seal().link(7, "before", "digest") == hashlib.sha256(b"7:before:digest").hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uid", "two"),
        ("kind", "block.lifted"),
        ("created_at", datetime(2026, 1, 1, tzinfo=UTC)),
        ("last_at", datetime(2026, 1, 1, tzinfo=UTC)),
        ("count", 2),
        ("connection_id", "another"),
        ("commitment", "0" * 64),
        ("actor_commitment", "0" * 64),
    ],
)
def test_the_digest_covers_each_public_field(field: str, value: Any) -> None:
    made = event()
    setattr(made, field, value)
    assert Seal(b"key").digest(made) != made.hash


def test_the_digest_covers_a_reason_of_the_package() -> None:
    made = event(reason=Reason.BLOCKED)
    made.reason = Reason.RATE_LIMITED
    assert Seal(b"key").digest(made) != made.hash
    assert Seal(b"key").commitment(made) == made.commitment


@pytest.mark.parametrize(
    ("field", "value"),
    [*((name, "another") for name in PERSONAL), ("reason", "another"), ("detail", {"a": 2}), ("salt", "0" * 32)],
)
def test_the_commitment_covers_each_personal_field_and_the_salt(field: str, value: Any) -> None:
    made = event()
    setattr(made, field, value)
    assert Seal(b"key").commitment(made) != made.commitment
    assert Seal(b"key").digest(made) == made.hash, "so that it may be erased"


@pytest.mark.parametrize("field", ["actor", "actor_salt"])
def test_the_actor_has_a_commitment_of_his_own(field: str) -> None:
    made = event()
    setattr(made, field, "another")
    assert Seal(b"key").actor_commitment(made) != made.actor_commitment
    assert Seal(b"key").commitment(made) == made.commitment
    assert Seal(b"key").digest(made) == made.hash


def test_erasing_values_and_salts_keeps_the_digest() -> None:
    made = event()
    for name in (*PERSONAL, "reason", "actor", "salt", "actor_salt"):
        setattr(made, name, "")
    made.detail = {}
    assert Seal(b"key").digest(made) == made.hash


def test_equal_persons_have_different_commitments() -> None:
    made = [event() for _ in range(50)]
    assert len({each.commitment for each in made}) == len({each.actor_commitment for each in made}) == 50
    assert {len(each.salt) for each in made} == {32}


def test_nobody_has_no_actor_to_commit_to() -> None:
    made = event(actor="")
    assert (made.actor_salt, made.actor_commitment) == ("", "")


def test_fields_cannot_be_shifted_into_one_another() -> None:
    seal = Seal()
    one, two = event(seal, username="ab", ip="c"), event(seal, username="a", ip="bc")
    two.salt = one.salt
    assert seal.commitment(one) != seal.commitment(two)
    assert seal.link(11, "1", "x") != seal.link(1, "11", "x")


def test_the_newest_key_seals_and_each_key_is_another_seal() -> None:
    newest, older = seals(["newest", "older"])
    assert (newest, older) == (Seal(b"newest"), Seal(b"older"))
    made = event(older)
    assert is_right(made, older)
    assert not is_right(made, newest)
    assert newest.link(1, GENESIS, made.hash) != older.link(1, GENESIS, made.hash)
    assert seals([]) == (Seal(),)


def test_no_row_has_the_digest_that_marks_a_forged_one() -> None:
    assert len(FORGED) != len(event().hash)


def test_numbers_that_are_equal_are_sealed_equally() -> None:
    as_given = {"a": 100.0, "b": 1e22, "c": -0.0, "d": True, "e": [2**70], "f": 6.694938948601881e16}
    as_stored = {"f": 66949389486018810, "e": [2**70], "d": True, "c": 0, "b": 10**22, "a": 100}
    assert sealing._canonical(as_given) == sealing._canonical(as_stored)
    assert sealing._encode(sealing._canonical(as_given)) == sealing._encode(sealing._canonical(as_stored))


def test_true_is_not_one() -> None:
    made = event(detail={"a": 1})
    made.detail = {"a": True}
    assert Seal(b"key").commitment(made) != made.commitment


def test_a_row_is_sealed_as_it_will_be_stored() -> None:
    facts = {"user_id": 5, "user_key": "5", "count": 3}
    made = writer.sealed(msgspec.structs.replace(row(uid="one"), **facts), Seal())
    assert (made.user_id, made.user_key, made.count, made.position) == (5, "5", 3, None)
    assert made.hash == Seal().digest(made)
