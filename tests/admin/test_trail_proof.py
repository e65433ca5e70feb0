"""What the pages say of the chain: whether a row verifies, and where the chain ends, for the price of a few rows."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.translation import override

from channels_secure.admin.proof import MOST_WAITING, State, chain_now, proof_of
from channels_secure.audit import erasing, pruning
from channels_secure.audit.sealing import Seal
from channels_secure.models import AuditCheckpoint, AuditEvent
from tests.admin.conftest import page
from tests.audit.trails import KEY, OLDER, grow, keyed, relink, waiting

EVENTS = "/admin/channels_secure/auditevent/"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def key(settings: Any) -> None:
    keyed(settings, KEY)


def state_of(row: AuditEvent) -> State:
    return proof_of(AuditEvent.objects.get(pk=row.pk)).state


def test_each_row_that_is_as_it_was_verifies() -> None:
    rows = grow(3)
    assert [state_of(row) for row in rows] == [State.VERIFIED] * 3
    assert [proof_of(row).position for row in rows] == [1, 2, 3]


@pytest.mark.parametrize(
    "change", [{"count": 3}, {"ip": "203.0.113.99"}, {"actor": "nobody"}, {"reason": ""}, {"is_open": True}], ids=str
)
def test_a_row_that_was_altered_does_not(change: dict[str, Any]) -> None:
    rows = grow(3)
    AuditEvent.objects.filter(pk=rows[1].pk).update(**change)
    assert [state_of(row) for row in rows] == [State.VERIFIED, State.ALTERED, State.VERIFIED]
    assert proof_of(rows[1]).position == 2
    assert re.match("The row (is|has|names|was) ", proof_of(rows[1]).fault)
    with override("de"):
        assert re.match("Die Zeile (ist|hat|nennt|war) ", proof_of(rows[1]).fault)


def test_a_row_whose_predecessor_is_missing_does_not() -> None:
    rows = grow(3)
    rows[1].delete()
    assert state_of(rows[2]) is State.ALTERED
    assert "before it is missing" in proof_of(rows[2]).fault


def test_a_row_whose_predecessor_is_another_does_not() -> None:
    rows = grow(3)
    AuditEvent.objects.filter(pk=rows[1].pk).update(hash="0" * 64)
    assert state_of(rows[2]) is State.ALTERED


def test_a_row_that_waits_is_told_from_one_that_was_made_up() -> None:
    row = waiting()
    assert state_of(row) is State.WAITING
    AuditEvent.objects.filter(pk=row.pk).update(count=9)
    assert state_of(row) is State.ALTERED


def test_a_person_who_was_erased_is_told_from_one_who_took_themselves_out() -> None:
    first, second = grow(2)
    erasing.erase(erasing.by_username("user1"), actor="root")
    AuditEvent.objects.filter(pk=second.pk).update(**erasing.NOTHING, salt="0" * 32)
    assert state_of(first) is State.ERASED
    assert state_of(second) is State.ALTERED


def test_without_a_key_a_row_fits_and_proves_little(settings: Any) -> None:
    keyed(settings)
    (row,) = grow(1)
    assert state_of(row) is State.UNPROVEN
    AuditEvent.objects.filter(pk=row.pk).update(count=9)
    assert state_of(row) is State.ALTERED


def test_a_row_from_before_the_key_is_told_so(settings: Any) -> None:
    keyed(settings)
    (row,) = grow(1)
    keyed(settings, KEY)
    assert state_of(row) is State.UNKEYED


def test_an_older_key_still_verifies_and_a_strangers_does_not(settings: Any) -> None:
    keyed(settings, OLDER)
    (row,) = grow(1)
    keyed(settings, KEY, OLDER)
    assert state_of(row) is State.VERIFIED
    keyed(settings, KEY)
    assert state_of(row) is State.ALTERED


def test_the_first_row_after_pruning_hangs_on_the_signed_checkpoint() -> None:
    grow(2, age=timedelta(days=100))
    (row,) = grow(1)
    pruning.prune(90, actor="root")
    assert AuditEvent.objects.filter(position__lte=2).count() == 0
    assert state_of(row) is State.VERIFIED
    AuditCheckpoint.objects.update(signature="0" * 64)
    assert state_of(row) is State.ALTERED


def test_an_older_key_has_pruned_nothing_that_a_newer_one_had_linked(settings: Any) -> None:
    keyed(settings, KEY, OLDER)
    grow(2, age=timedelta(days=100))
    (row,) = grow(1)
    keyed(settings, OLDER)
    pruning.prune(90, actor="root", force=True)
    keyed(settings, KEY, OLDER)
    assert not AuditEvent.objects.filter(position__lt=row.position).exists()
    assert "before it is missing" in proof_of(row).fault


def test_a_row_that_went_while_the_page_was_made_breaks_nothing() -> None:
    (row,) = grow(1)
    AuditEvent.objects.all().delete()
    assert proof_of(row).state is State.ALTERED


def test_relinking_with_the_public_formulas_is_found_out() -> None:
    rows = grow(2)
    AuditEvent.objects.filter(pk=rows[0].pk).update(count=9)
    relink(AuditEvent.objects.order_by("position"), Seal())
    assert [state_of(row) for row in rows] == [State.UNKEYED] * 2


# On the pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"), [({}, "✓</span> Verified"), ({"count": 9}, "✗</span> Does not verify")], ids=["right", "wrong"]
)
def test_the_page_of_a_row_says_whether_it_verifies(admin: Client, change: dict[str, Any], said: str) -> None:
    (row,) = grow(1)
    if change:
        AuditEvent.objects.filter(pk=row.pk).update(**change)
    assert said in page(admin, f"{EVENTS}{row.pk}/change/")


def test_the_list_says_where_the_chain_ends_and_how_to_verify_it(admin: Client) -> None:
    grow(3)
    waiting()
    said = re.sub(r"\s+", " ", page(admin, EVENTS))
    assert re.search(r"The chain is linked up to row 3, of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\. 1 row waits", said)
    assert "manage.py ws_verify_audit" in said
    assert "There is no AUDIT_KEY" not in said


def test_the_list_warns_where_there_is_no_key(admin: Client, settings: Any) -> None:
    keyed(settings)
    html = page(admin, EVENTS)
    assert "The chain is linked up to row 0." in html
    assert "There is no AUDIT_KEY" in html


def test_rows_that_wait_are_counted_only_so_far() -> None:
    AuditEvent.objects.bulk_create(AuditEvent(kind="ticket.issued") for _ in range(MOST_WAITING + 5))
    with CaptureQueriesContext(connection) as asked:
        chain = chain_now()
    assert (chain.waiting, chain.is_bound) == (MOST_WAITING, True)
    assert len(asked) == 3
    assert any(f"LIMIT {MOST_WAITING + 1}" in query["sql"] for query in asked)


def test_a_proof_costs_a_few_rows_on_a_long_trail() -> None:
    (*_, row) = grow(50)
    with CaptureQueriesContext(connection) as asked:
        proof_of(row)
    assert len(asked) == 2
