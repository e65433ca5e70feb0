"""From where somebody acted: an operator's address, or the account and machine of a command."""

import getpass
import re
import socket
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from channels_secure import audit, blocklist
from channels_secure.audit import acting
from channels_secure.audit.formats import Format
from channels_secure.management import operators
from channels_secure.models import AuditEvent, Block
from tests.audit.trails import grow
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db

PROXY, CLIENT = "192.0.2.1", "198.51.100.7"
BLOCK = {"user": "", "network": "203.0.113.9", "duration": "86400", "reason": "spam"}


@pytest.fixture
def operator(make_user: MakeUser) -> User:
    operator = make_user("operator", is_staff=True)
    names = ("view_block", "add_block", "change_block", "view_auditevent", "export_audit")
    operator.user_permissions.set(Permission.objects.filter(codename__in=names))
    return operator


def client_of(person: User, **options: Any) -> Client:
    client = Client(REMOTE_ADDR=PROXY, **options)
    client.force_login(person)
    return client


def acted(kind: str) -> tuple[str, str]:
    event = AuditEvent.objects.get(kind=kind)
    return event.actor, event.actor_from


def block(client: Client, **typed: str) -> None:
    assert client.post(reverse("admin:channels_secure_block_add"), BLOCK | typed).status_code == 302


# In the admin ---------------------------------------------------------------------------------------------------------


def test_a_block_and_its_lifting_have_the_operators_address(operator: User) -> None:
    client = client_of(operator)
    block(client)
    client.post(reverse("admin:channels_secure_block_lift", args=[Block.objects.get().pk]))
    assert acted("block.created") == acted("block.lifted") == ("operator", PROXY)


def test_several_blocks_that_are_lifted_together_have_it_too(operator: User) -> None:
    made = blocklist.block(network="203.0.113.9")
    fields = {"action": "lift_selected", "_selected_action": [made.pk], "confirmed": "lift_selected"}
    client_of(operator).post(reverse("admin:channels_secure_block_changelist"), fields)
    assert acted("block.lifted") == ("operator", PROXY)
    assert acted("block.created") == ("", "")


@pytest.mark.parametrize(("proxies", "address"), [([f"{PROXY}/32"], CLIENT), ([], PROXY)])
def test_through_a_proxy_it_is_the_clients_only_if_the_proxy_is_trusted(
    operator: User, settings: Any, proxies: list[str], address: str
) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": proxies}
    block(client_of(operator, HTTP_X_FORWARDED_FOR=f"203.0.113.66, {CLIENT}"))
    assert acted("block.created") == ("operator", address)


def test_an_export_has_it(operator: User) -> None:
    page = reverse("admin:channels_secure_auditevent_export")
    assert client_of(operator).post(page, {"format": Format.CSV.value}).status_code == 200
    assert acted("audit.exported") == ("operator", PROXY)


def test_a_server_that_names_no_address_leaves_it_empty(operator: User) -> None:
    client = Client(REMOTE_ADDR="")
    client.force_login(operator)
    # Who may be among those that are blocked types which.
    block(client, confirmation="203.0.113.9/32")
    assert acted("block.created") == ("operator", "")


# Commands -------------------------------------------------------------------------------------------------------------

HERE = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (("ws_block", "--network", "203.0.113.9"), "block.created"),
        (("ws_unblock", "--network", "203.0.113.8"), "block.lifted"),
        (("ws_disconnect", "--user", "alice"), "connection.disconnected"),
        (("ws_export_audit",), "audit.exported"),
        (("ws_erase_audit", "--user", "alice", "--no-input"), "audit.erased"),
        (("ws_prune_audit", "--days", "1"), "audit.pruned"),
        (("ws_revoke", "--user", "alice"), "tokens.revoked"),
    ],
)
def test_a_command_says_by_which_account_and_on_which_machine(user: User, command: tuple[str, ...], kind: str) -> None:
    blocklist.block(network="203.0.113.8")
    AuditEvent.objects.all().delete()
    grow(2, age=timedelta(days=100), kind="handshake.denied", user=user, user_key=str(user.pk), username="alice")
    call_command(*command, stdout=StringIO())
    assert acted(kind) == (command[0], HERE)


def test_an_account_without_a_name_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run under a number that stands in no list."""

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(operators.getpass, "getuser", nobody)
    assert operators.here() == f"?@{socket.gethostname()}"


# Events ---------------------------------------------------------------------------------------------------------------


def test_an_event_without_an_actor_is_from_nowhere() -> None:
    with audit.acting_from(CLIENT):
        audit.write("block.created")
        audit.write("block.lifted", actor="root")
    audit.write("tokens.revoked", actor="root")
    assert acted("block.created") == ("", "")
    assert acted("block.lifted") == ("root", CLIENT)
    assert acted("tokens.revoked") == ("root", "")
    nobody = AuditEvent.objects.get(kind="block.created")
    assert (nobody.actor_salt, nobody.actor_commitment) == ("", "")


def test_it_holds_where_a_view_of_the_event_loop_asks_for_a_thread_and_nowhere_else() -> None:
    seen: list[str] = []
    with audit.acting_from(CLIENT):
        async_to_sync(sync_to_async(lambda: seen.append(acting.place())))()
    seen.append(acting.place())
    assert seen == [CLIENT, ""]


def test_what_is_said_of_a_place_is_plain_and_bounded() -> None:
    with audit.acting_from("\x1b[2J" + "x" * 1_000):
        place = acting.place()
    assert (len(place), place.isprintable()) == (256, True)


def test_every_command_that_acts_under_its_own_name_says_where() -> None:
    for file in (Path(operators.__file__).parent / "commands").glob("ws_*.py"):
        text = file.read_text()
        assert ("OperatorCommand" in text) == bool(re.search(r'(actor|by)="ws_', text)), file.name
