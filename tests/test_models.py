"""The tables: what may be stored, and that every change of blocks is counted."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, IntegrityError, connection, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from channels_secure.models import AuditEvent, Block, PolicyVersion, policy_change
from channels_secure.signals import policy_changed

KINDS = """
    connection.accepted connection.closed handshake.denied message.denied credentials.refreshed credentials.failed
    policy.would_deny ticket.issued block.created block.lifted connection.disconnected tokens.revoked room.moderated
    audit.exported audit.pruned audit.erased audit.recovered store.degraded store.recovered
"""


def version() -> int:
    return PolicyVersion.current(DEFAULT_DB_ALIAS)


@pytest.mark.django_db
def test_the_migrations_are_up_to_date() -> None:
    call_command("makemigrations", "channels_secure", check=True, dry_run=True, stdout=StringIO())


def test_the_kinds_are_those_of_the_documentation() -> None:
    assert set(AuditEvent.Kind.values) == set(KINDS.split())


@pytest.mark.django_db
def test_an_event_is_newest_first_and_survives_its_user(user: User) -> None:
    first = AuditEvent.objects.create(kind="connection.accepted", user=user, username="alice")
    second = AuditEvent.objects.create(kind="connection.closed", user=user, username="alice")
    user.delete()
    assert list(AuditEvent.objects.all()) == [second, first]
    first.refresh_from_db()
    assert (first.user, first.username, str(first)) == (None, "alice", "connection.accepted")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:DB8::7/128", "2001:db8::7/128"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
    ],
)
def test_a_network_is_stored_in_one_form(written: str, stored: str) -> None:
    block = Block.objects.create(network=written)
    assert block.network == stored
    assert str(block) == stored


@pytest.mark.django_db
@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/0",
        "128.0.0.0/7",
        "::/0",
        "2000::/15",
        "127.0.0.1",
        "127.0.0.0/8",
        "::1",
        "198.51.100.3",
        "nonsense",
        "1.2.3",
    ],
)
def test_a_network_that_would_lock_out_everyone_is_refused_everywhere(network: str, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.0/24"]}
    with pytest.raises(ValueError, match=r"\w"):
        Block.objects.create(network=network)
    with pytest.raises(ValidationError) as refused:
        Block(network=network).full_clean()
    assert list(refused.value.message_dict) == ["network"]
    assert not Block.objects.exists()


@pytest.mark.django_db
def test_a_block_of_nobody_or_of_both_is_refused_by_form_and_database(user: User) -> None:
    for fields in ({}, {"network": ""}, {"user": user, "network": "203.0.113.7"}):
        with pytest.raises(ValidationError, match="either a user or a network"):
            Block(**fields).full_clean()
        with pytest.raises(IntegrityError), transaction.atomic():
            Block.objects.create(**fields)
    Block(user=user).full_clean()
    Block(network="203.0.113.7").full_clean()


@pytest.mark.django_db
def test_a_block_is_active_until_it_expires_or_is_lifted(user: User) -> None:
    now, hour = timezone.now(), timedelta(hours=1)
    active = [Block.objects.create(user=user), Block.objects.create(user=user, expires_at=now + hour)]
    history = [
        Block.objects.create(user=user, expires_at=now - hour),
        Block.objects.create(user=user, lifted_at=now),
        Block.objects.create(user=user, expires_at=now + hour, lifted_at=now),
    ]
    assert [block.is_active for block in active + history] == [True, True, False, False, False]
    assert set(Block.objects.active()) == set(active)


@pytest.mark.django_db
def test_a_block_that_became_dangerous_can_still_be_lifted(settings: Settings) -> None:
    block = Block.objects.create(network="198.51.100.3")
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.0/24"]}
    block.lifted_at = timezone.now()
    block.full_clean()
    block.save()
    assert not Block.objects.active().exists()


@pytest.mark.django_db
def test_every_way_of_changing_blocks_one_by_one_is_counted(user: User) -> None:
    seen = [version()]
    block = Block.objects.create(user=user)
    seen.append(version())
    block.save()
    seen.append(version())
    block.delete()
    seen.append(version())
    Block.objects.create(network="203.0.113.7")
    Block.objects.all().delete()
    seen.append(version())
    Block.objects.create(user=user)
    user.delete()
    seen.append(version())
    assert not Block.objects.exists()
    assert seen == sorted(set(seen))


@pytest.mark.django_db
def test_the_version_has_one_row(user: User) -> None:
    Block.objects.create(user=user)
    assert PolicyVersion.objects.count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        PolicyVersion.objects.create(pk=2, version=1)


@pytest.mark.django_db
def test_an_emptied_table_does_not_repeat_versions(user: User) -> None:
    Block.objects.create(user=user)
    before = version()
    PolicyVersion.objects.all().delete()
    Block.objects.create(user=user)
    assert version() > before


@pytest.mark.django_db(transaction=True)
def test_a_change_is_announced_once_it_is_committed_and_not_before(user: User) -> None:
    heard: list[bool] = []

    def hear(**_: Any) -> None:
        heard.append(connection.in_atomic_block)

    policy_changed.connect(hear)
    try:
        with transaction.atomic():
            Block.objects.create(user=user)
            assert heard == []
        assert heard == [False]
        before = version()
        with pytest.raises(ZeroDivisionError), policy_change():
            raise ZeroDivisionError
        assert heard == [False]
        assert version() == before
    finally:
        policy_changed.disconnect(hear)
