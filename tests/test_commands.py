"""`ws_block` and `ws_unblock`, as a shell calls them."""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from channels_secure.models import AuditEvent, Block
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_a_user_is_blocked_by_name_or_by_key(user: User, make_user: MakeUser) -> None:
    bob = make_user("bob")
    assert run("ws_block", "--user", "alice", "--reason", "spam") == "alice is blocked for ever.\n"
    run("ws_block", "--user", str(bob.pk))
    assert list(Block.objects.order_by("pk").values_list("user", "reason")) == [(user.pk, "spam"), (bob.pk, "")]
    assert set(AuditEvent.objects.values_list("kind", "actor")) == {("block.created", "ws_block")}


def test_a_username_comes_before_a_key(user: User, make_user: MakeUser) -> None:
    numbered = make_user(str(user.pk))
    run("ws_block", "--user", str(user.pk))
    assert Block.objects.get().user == numbered


@pytest.mark.parametrize(
    ("duration", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("24h", 86400), ("7d", 604800)]
)
def test_a_network_is_blocked_for_a_time(duration: str, seconds: int) -> None:
    said = run("ws_block", "--network", "203.0.113.7", "--duration", duration)
    assert said.startswith("203.0.113.7/32 is blocked until 2")
    block = Block.objects.get()
    assert block.expires_at is not None
    assert (block.expires_at - timezone.now()).total_seconds() == pytest.approx(seconds, abs=60)


def test_for_ever_can_be_said(user: User) -> None:
    run("ws_block", "--user", "alice", "--duration", "forever")
    assert Block.objects.get().expires_at is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of the arguments --user --network is required"),
        (("--user", "alice", "--network", "203.0.113.7"), "not allowed with argument"),
        (("--user", "nobody"), "no user 'nobody'"),
        (("--user", "9" * 30), "no user"),
        (("--network", "nonsense"), "is not an IP address"),
        (("--network", "0.0.0.0/0"), "too wide"),
        (("--network", "::1"), "loopback"),
        (("--network", "203.0.113.7", "--duration", "soon"), "is not a duration"),
        (("--network", "203.0.113.7", "--duration", "0"), "is not a duration"),
        (("--network", "203.0.113.7", "--duration", "-1h"), "duration"),
        (("--network", "203.0.113.7", "--duration", "9999999999d"), "is not a duration"),
    ],
)
def test_a_mistake_is_told_in_plain_words(arguments: tuple[str, ...], said: str, user: User) -> None:
    with pytest.raises(CommandError, match=said):
        run("ws_block", *arguments)
    assert not Block.objects.exists()


def test_blocks_are_lifted(user: User) -> None:
    run("ws_block", "--user", "alice", "--duration", "1h")
    run("ws_block", "--user", "alice")
    assert run("ws_unblock", "--user", "alice", "--reason", "sorry") == "Lifted 2 blocks.\n"
    assert not Block.objects.active().exists()
    lifted = AuditEvent.objects.filter(kind="block.lifted")
    assert set(lifted.values_list("actor", "reason")) == {("ws_unblock", "sorry")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of the arguments --user --network is required"),
        (("--user", "alice"), "no active block of alice"),
        (("--network", "203.0.113.9"), "no active block of 203.0.113.9"),
        (("--network", "nonsense"), "is not an IP address"),
        (("--user", "nobody"), "no user 'nobody'"),
    ],
)
def test_lifting_what_is_not_there_is_an_error(arguments: tuple[str, ...], said: str, user: User) -> None:
    run("ws_block", "--network", "203.0.113.7")
    with pytest.raises(CommandError, match=said):
        run("ws_unblock", *arguments)
    assert Block.objects.active().count() == 1


def test_the_help_names_the_presets() -> None:
    from channels_secure.management.commands.ws_block import Command

    text: Any = Command().create_parser("manage.py", "ws_block").format_help()
    for word in ("--user", "--network", "--duration", "forever", "24h", "--reason"):
        assert word in text
