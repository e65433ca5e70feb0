"""The operator's way to a block: the form, what it shows, and what it asks before it does harm."""

import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from channels_secure import blocklist
from channels_secure.models import AuditEvent, Block
from tests.admin.conftest import OPERATOR, client_of, event, page
from tests.admin.live_rows import socket
from tests.conftest import MakeUser

BLOCKS = "/admin/channels_secure/block/"
ADD = f"{BLOCKS}add/"
CONFIRMATION = 'name="confirmation"'

pytestmark = pytest.mark.django_db


def add(client: Client, query: str = "", follow: bool = False, **fields: str) -> Any:
    """Press "Block" in the form."""
    given = {"user": "", "network": "", "duration": "86400", "reason": "", "_save": "", **fields}
    return client.post(f"{ADD}{query}", given, follow=follow)


def shown(response: Any, status: int = 200) -> str:
    assert response.status_code == status
    return unescape(response.content.decode())


def crowd(make_user: MakeUser, count: int, network: str = "203.0.113") -> None:
    for number in range(count):
        socket(f"{network}-{number}", make_user(f"{network}-{number}"), ip=f"{network}.{number + 1}")


# The preview ---------------------------------------------------------------------------------------------------------


def test_the_preview_stands_on_the_page_that_a_link_opens(admin: Client, user: User) -> None:
    socket("one", user)
    socket("two", user)
    event(user=user, ip="203.0.113.7", count=41)
    for query, subject in ((f"user={user.pk}", "alice"), ("network=203.0.113.7", "203.0.113.7/32")):
        html = page(admin, f"{ADD}?{query}")
        assert f"What blocking {subject} does" in html
        assert "It closes 2 connections of 1 user now." in html
        assert "It would have matched 41 events in the last day." in html
    assert "What blocking" not in page(admin, ADD)


def test_the_preview_button_shows_a_page_that_changes_nothing(admin: Client, user: User) -> None:
    socket("one", user)
    response = add(admin, "?next=/admin/", user="alice", reason="spam & more", duration="3600", _preview="")
    assert response.status_code == 302
    asked = parse_qs(urlsplit(response.url).query, keep_blank_values=True)
    assert asked == {
        "user": ["alice"],
        "network": [""],
        "duration": ["3600"],
        "reason": ["spam & more"],
        "next": ["/admin/"],
    }
    html = page(admin, response.url)
    assert "It closes 1 connection of 1 user now." in html
    assert 'value="spam &amp; more"' in html
    assert re.search(r'<option value="3600"\s+selected', html)
    assert not Block.objects.exists()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("network=0.0.0.0/0", "too wide"),
        ("network=2001::/15", "too wide"),
        ("network=127.0.0.1", "loopback"),
        ("network=198.51.100.3", "trusted proxy"),
        ("network=nonsense", "is not an IP address"),
        ("user=123456", "Select a valid choice"),
        ("user=x&network=", "Select a valid choice"),
        ("user=%00", "Select a valid choice"),
    ],
)
def test_what_cannot_be_blocked_is_explained_and_no_confirmation_is_offered(
    admin: Client, settings: Settings, query: str, said: str
) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.3"]}
    html = page(admin, f"{ADD}?{query}")
    assert "This cannot be blocked" in html
    assert said in html
    assert CONFIRMATION not in html


@pytest.mark.parametrize("network", ["0.0.0.0/0", "127.0.0.1", "198.51.100.3/32", "::1"])
def test_what_cannot_be_blocked_cannot_be_confirmed_either(admin: Client, settings: Settings, network: str) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.3"]}
    assert add(admin, network=network, confirmation=network).status_code == 200
    assert not Block.objects.exists()


def test_the_form_says_what_is_in_force_already(admin: Client, user: User) -> None:
    blocklist.block(network="203.0.113.0/24")
    ended = blocklist.block(network="203.0.113.7")
    blocklist.lift([ended.pk])
    html = page(admin, f"{ADD}?network=203.0.113.7")
    assert "203.0.113.0/24 is blocked already, for ever." in html
    assert html.count("is blocked already") == 1
    assert "is blocked already" not in page(admin, f"{ADD}?network=203.0.112.0/23")
    blocklist.block(user=user, duration=3600)
    assert "alice is blocked already, until" in page(admin, f"{ADD}?user={user.pk}")


# The user ------------------------------------------------------------------------------------------------------------


def test_a_user_is_named_by_key_or_by_name(admin: Client, user: User, make_user: MakeUser) -> None:
    bob = make_user("bob")
    add(admin, user=str(user.pk))
    add(admin, user="bob")
    assert set(Block.objects.values_list("user", flat=True)) == {user.pk, bob.pk}


@pytest.mark.parametrize("zeros", ["", "00"])
def test_nobody_escapes_by_taking_their_own_key_for_the_name_of_another(
    admin: Client, user: User, make_user: MakeUser, zeros: str
) -> None:
    key = f"{zeros}{user.pk}"
    make_user(key)
    said = f"{key} is also the name of another user; this is alice."
    assert said in unescape(page(admin, f"{ADD}?user={key}"))
    refused(admin, said, user=key)
    refused(admin, said, user=key, confirmation=key)
    add(admin, user=key, confirmation="alice")
    assert Block.objects.get().user == user


def test_a_name_that_is_nobodys_key_needs_no_confirmation(admin: Client, user: User, make_user: MakeUser) -> None:
    make_user(str(user.pk))
    assert add(admin, user="alice").status_code == 302
    assert Block.objects.get().user == user


def test_a_user_whose_name_is_their_own_key_is_found(admin: Client, user: User) -> None:
    user.username = str(user.pk)
    user.save()
    add(admin, user=str(user.pk))
    assert Block.objects.get().user == user


# What must be confirmed ----------------------------------------------------------------------------------------------


def refused(client: Client, said: str, **fields: str) -> str:
    """The page that a block comes back with, unmade."""
    html = shown(add(client, **fields))
    assert "Nothing has been blocked." in html
    assert said in html
    assert CONFIRMATION in html
    assert not Block.objects.exists()
    return html


def test_ones_own_account_is_blocked_only_when_it_is_typed(admin: Client, root: User) -> None:
    refused(admin, "This is your own account.", user=str(root.pk))
    assert "This is your own account." in page(admin, f"{ADD}?user={root.pk}")
    add(admin, user=str(root.pk), confirmation="root")
    assert Block.objects.get().user == root


@pytest.mark.parametrize("network", [OPERATOR, "192.0.2.0/24"])
def test_ones_own_address_is_blocked_only_when_it_is_typed(admin: Client, network: str) -> None:
    refused(admin, f"Your own address, {OPERATOR}, is in this network.", network=network)
    normal = network if "/" in network else f"{network}/32"
    add(admin, network=network, confirmation=normal)
    assert Block.objects.get().network == normal


@pytest.mark.parametrize("peer", ["", "nonsense"])
def test_where_ones_own_address_is_not_known_a_network_must_be_typed(root: User, user: User, peer: str) -> None:
    # A UNIX socket that the settings do not trust, say.
    client = Client(REMOTE_ADDR=peer)
    client.force_login(root)
    refused(client, "Your own address cannot be told: it may be in this network.", network="203.0.113.0/24")
    assert add(client, user=str(user.pk)).status_code == 302
    add(client, network="203.0.113.0/24", confirmation="203.0.113.0/24")
    assert Block.objects.count() == 2


@pytest.mark.parametrize("flag", ["is_staff", "is_superuser"])
def test_staff_are_blocked_only_when_they_are_typed(admin: Client, make_user: MakeUser, flag: str) -> None:
    carol = make_user("carol", **{flag: True})
    refused(admin, "carol is a member of staff.", user=str(carol.pk))
    socket("carol", carol, ip="203.0.113.7")
    refused(admin, "Members of staff are connected from there: carol.", network="203.0.113.0/24")
    add(admin, network="203.0.113.0/24", confirmation="203.0.113.0/24")
    assert Block.objects.get().network == "203.0.113.0/24"


def test_a_network_of_many_is_blocked_only_when_it_is_typed(admin: Client, make_user: MakeUser) -> None:
    crowd(make_user, 4)
    crowd(make_user, 4, "198.51.100")
    refused(admin, "It cuts off 50 % of everybody who is connected, 4 people.", network="203.0.113.0/24")
    add(admin, network="203.0.113.0/24", confirmation="203.0.113.0/24")
    assert Block.objects.exists()


def test_few_people_are_never_too_many(admin: Client, make_user: MakeUser) -> None:
    crowd(make_user, 3)
    assert add(admin, network="203.0.113.0/24").status_code == 302


@pytest.mark.parametrize(("share", "is_asked"), [(0.49, True), (0.5, False), (1, False), (0, True)])
def test_the_share_is_a_setting(
    admin: Client, make_user: MakeUser, settings: Settings, share: float, is_asked: bool
) -> None:
    settings.CHANNELS_SECURE = {"BLOCK_CONFIRM_SHARE": share}
    crowd(make_user, 4)
    crowd(make_user, 4, "198.51.100")
    assert (add(admin, network="203.0.113.0/24").status_code == 200) == is_asked


def test_anonymous_connections_are_people_too(admin: Client) -> None:
    for number in range(4):
        socket(f"c{number}", ip="203.0.113.7")
    refused(admin, "100 % of everybody", network="203.0.113.7")


@pytest.mark.parametrize(
    "typed", ["", "yes", "Root", "ROOT", " root", "root ", "roo", "root\n", "root\x00", "1", "ro\u200bot", "*"]
)
def test_what_is_typed_must_be_the_subject_exactly(admin: Client, root: User, typed: str) -> None:
    assert add(admin, user=str(root.pk), confirmation=typed).status_code == 200
    assert not Block.objects.exists()


def test_a_name_that_nobody_can_type_is_typed_as_it_is_shown(admin: Client, make_user: MakeUser) -> None:
    tricky = make_user("a\u202eb", is_staff=True)
    html = shown(add(admin, user=str(tricky.pk)))
    assert "\u202e" not in html[html.index("cs-plan") :]
    add(admin, user=str(tricky.pk), confirmation="a\\u202eb")
    assert Block.objects.get().user == tricky


def test_harmless_blocks_ask_for_nothing(admin: Client, user: User) -> None:
    for query in (f"user={user.pk}", "network=203.0.113.7"):
        assert CONFIRMATION not in page(admin, f"{ADD}?{query}")
    assert add(admin, user=str(user.pk)).status_code == 302
    assert add(admin, network="203.0.113.7").status_code == 302


def test_what_has_changed_since_the_page_was_shown_counts(admin: Client, make_user: MakeUser) -> None:
    assert CONFIRMATION not in page(admin, f"{ADD}?network=203.0.113.0/24")
    socket("carol", make_user("carol", is_staff=True), ip="203.0.113.7")
    refused(admin, "connected from there: carol", network="203.0.113.0/24")


# What follows --------------------------------------------------------------------------------------------------------


def test_the_operator_is_told_what_was_done(admin: Client, user: User) -> None:
    for number in range(3):
        socket(f"c{number}", user)
    html = shown(add(admin, user=str(user.pk), reason="spam", follow=True))
    block = Block.objects.get()
    assert f"Blocked until {timezone.now() + timedelta(days=1):%Y-%m-%d}" in html
    assert "alice. 3 open connections close within a second or two." in html
    assert f'<a href="{BLOCKS}{block.pk}/change/">See this block</a>' in html
    assert "Blocked for ever: 198.51.100.7/32. No connection was open." in shown(
        add(admin, network="198.51.100.7", duration="", follow=True)
    )


def test_what_is_done_is_recorded_with_the_operator_and_their_address(admin: Client, user: User) -> None:
    add(admin, user=str(user.pk), reason="spam")
    written = AuditEvent.objects.get()
    assert (written.kind, written.actor, written.actor_from, written.reason) == (
        "block.created",
        "root",
        OPERATOR,
        "spam",
    )
    admin.post(f"{BLOCKS}{Block.objects.get().pk}/lift/", {"reason": "sorry"})
    lifted = AuditEvent.objects.get(kind="block.lifted")
    assert (lifted.actor, lifted.actor_from, lifted.reason) == ("root", OPERATOR, "sorry")


def test_after_blocking_the_operator_is_where_they_came_from(admin: Client, user: User) -> None:
    response = add(admin, "?next=/admin/channels_secure/auditevent/%3Fkind%3Dx", user=str(user.pk))
    assert response.url == "/admin/channels_secure/auditevent/?kind=x"
    response = add(admin, network="203.0.113.7")
    assert response.url == f"{BLOCKS}{Block.objects.latest('pk').pk}/change/"


def test_a_longer_block_is_added_and_a_shorter_one_is_not(admin: Client, user: User) -> None:
    blocklist.block(user=user, duration=7200)
    html = shown(add(admin, user=str(user.pk), duration="3600", follow=True))
    assert "Nothing has changed: alice was blocked already, for at least as long." in html
    assert Block.objects.count() == 1
    add(admin, user=str(user.pk), duration="604800")
    assert Block.objects.active().count() == 2


def test_the_same_again_within_a_minute_is_a_double_click(admin: Client, user: User) -> None:
    for _ in range(3):
        assert add(admin, user=str(user.pk), duration="3600").status_code == 302
    assert Block.objects.count() == AuditEvent.objects.count() == 1


@pytest.mark.parametrize("change", ["earlier", "another operator", "another length", "automatic"])
def test_what_is_no_double_click_makes_a_block(admin: Client, root: User, user: User, change: str) -> None:
    first = blocklist.block(user=user, duration=3600, by=root)
    moment = timezone.now() - timedelta(minutes=2)
    changed: dict[str, Any] = {
        "earlier": {"created_at": moment, "expires_at": moment + timedelta(hours=1)},
        "another operator": {"created_by": None},
        "another length": {"expires_at": first.created_at + timedelta(minutes=50)},
        "automatic": {"automatic": True},
    }[change]
    Block.objects.filter(pk=first.pk).update(**changed)
    add(admin, user=str(user.pk), duration="3600")
    assert Block.objects.count() == 2


# Who may -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("permission", ["block_subject", "add_block"])
def test_either_permission_may_block(operator_with: Any, user: User, permission: str) -> None:
    operator = operator_with(permission)
    assert "cs-danger" in page(operator, f"{ADD}?user={user.pk}")
    response = add(operator, user=str(user.pk))
    assert response.status_code == 302
    assert "was blocked" in page(operator, response.url)


@pytest.mark.parametrize(
    ("permission", "may_lift"), [("block_subject", True), ("change_block", True), ("add_block", False)]
)
def test_lifting_is_for_those_who_may(operator_with: Any, permission: str, may_lift: bool) -> None:
    block = blocklist.block(network="203.0.113.7")
    operator = operator_with("view_block", permission)
    url = f"{BLOCKS}{block.pk}/lift/"
    assert (url in page(operator, f"{BLOCKS}{block.pk}/change/")) == may_lift
    assert operator.get(url).status_code == (200 if may_lift else 403)
    assert operator.post(url).status_code == (302 if may_lift else 403)
    assert Block.objects.active().exists() != may_lift


def test_a_viewer_sees_no_button_and_every_address_behind_one_is_forbidden(operator_with: Any, user: User) -> None:
    block = blocklist.block(user=user, reason="spam")
    viewer = operator_with("view_block")
    for url in (BLOCKS, f"{BLOCKS}{block.pk}/change/"):
        html = page(viewer, url)
        assert "spam" in html
        for button in ("/lift/", "/add/", "Extend", "cs-danger", "lift_selected"):
            assert button not in html
    for url in (ADD, f"{ADD}?user={user.pk}", f"{BLOCKS}{block.pk}/lift/"):
        assert viewer.get(url).status_code == 403
        assert viewer.post(url, {"user": user.pk, "duration": "", "_preview": ""}).status_code == 403
    assert list(Block.objects.active()) == [block]
    assert AuditEvent.objects.count() == 1


@pytest.mark.parametrize("who", ["nobody", "user", "other staff"])
def test_others_see_none_of_it(user: User, operator_with: Any, who: str) -> None:
    block = blocklist.block(network="203.0.113.7", reason="spam")
    client = {"nobody": Client, "user": lambda: client_of(user), "other staff": operator_with}[who]()
    for url in (BLOCKS, ADD, f"{BLOCKS}{block.pk}/change/", f"{BLOCKS}{block.pk}/lift/"):
        for response in (client.get(url), client.post(url, {"network": "203.0.113.8", "duration": ""})):
            assert response.status_code in (302, 403)
            assert "spam" not in response.content.decode()
    assert list(Block.objects.active()) == [block]
