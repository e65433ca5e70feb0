"""The operator's pages, through Django's own test client."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from channels_secure import blocklist
from channels_secure.models import AuditEvent, Block
from tests.admin.conftest import OPERATOR, event, page
from tests.conftest import MakeUser

EVENTS = "/admin/channels_secure/auditevent/"
BLOCKS = "/admin/channels_secure/block/"
HOSTILE = "<script>alert(1)</script>"

pytestmark = pytest.mark.django_db


def add(client: Client, **fields: str) -> Any:
    return client.post(f"{BLOCKS}add/", {"user": "", "network": "", "duration": "86400", "reason": "", **fields})


def errors(response: Any) -> list[str]:
    assert response.status_code == 200
    form = response.context["adminform"].form
    return [str(error) for found in form.errors.values() for error in found]


# The audit trail -----------------------------------------------------------------------------------------------------


def test_events_are_listed_newest_first_with_what_matters(admin: Client, user: User) -> None:
    moment = datetime(2026, 11, 21, 9, 41, 7, tzinfo=UTC)
    event(user=user, username="alice", ip="203.0.113.7", path="/ws/chat/", count=17, created_at=moment)
    event(path="/older/", created_at=moment - timedelta(hours=1))
    with override_settings(TIME_ZONE="UTC"):
        html = page(admin, EVENTS)
    assert html.count(">2026-11-21</span>") == 2
    assert html.index(">09:41:07</span>") < html.index(">08:41:07</span>")
    for shown in ("handshake denied", "origin_not_allowed", "alice", "203.0.113.7", "/ws/chat/", ">17<"):
        assert shown in html


def test_hostile_text_is_shown_as_text(admin: Client) -> None:
    texts = ("reason", "username", "ip", "path", "origin", "user_agent", "connection_id", "actor")
    one = event(**dict.fromkeys(texts, HOSTILE), detail={HOSTILE: HOSTILE})
    for url in (EVENTS, f"{EVENTS}{one.pk}/change/"):
        html = page(admin, url)
        assert HOSTILE not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;: &quot;&lt;script" in page(admin, f"{EVENTS}{one.pk}/change/")


def test_nobody_may_add_change_or_delete_an_event(admin: Client, operator_with: Any) -> None:
    one = event()
    every = operator_with("view_auditevent", "add_auditevent", "change_auditevent", "delete_auditevent")
    for client in (admin, every):
        for action in ("add/", f"{one.pk}/delete/"):
            assert client.get(EVENTS + action).status_code == 403
            assert client.post(EVENTS + action, {"post": "yes"}).status_code == 403
        assert client.post(f"{EVENTS}{one.pk}/change/", {"reason": "never happened"}).status_code == 403
        client.post(EVENTS, {"action": "delete_selected", "_selected_action": [one.pk], "post": "yes"})
        assert "delete_selected" not in page(client, EVENTS)
        assert 'name="_save"' not in page(client, f"{EVENTS}{one.pk}/change/")
    one.refresh_from_db()
    assert one.reason == "origin_not_allowed"


def test_reading_the_trail_needs_its_permission(operator_with: Any, user: User) -> None:
    one = event(user=user, username="alice", ip="203.0.113.7")
    blind = operator_with("view_block")
    assert blind.get(EVENTS).status_code == 403
    assert blind.get(f"{EVENTS}{one.pk}/change/").status_code == 403


def test_links_to_block_are_for_those_who_may(admin: Client, operator_with: Any, user: User) -> None:
    one = event(user=user, username="alice", ip="203.0.113.7")
    reader = operator_with("view_auditevent")
    assert "Block address" in page(admin, EVENTS)
    assert "Block this address" in page(admin, f"{EVENTS}{one.pk}/change/")
    for url in (EVENTS, f"{EVENTS}{one.pk}/change/"):
        assert "Block " not in page(reader, url)


def test_a_link_opens_the_form_filled_in(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="2001:db8::/64")
    links = re.findall(r'class="cs-block" href="([^"]+)"', page(admin, EVENTS))
    assert [parse_qs(urlsplit(unescape(link)).query) for link in links] == [
        {"user": [str(user.pk)], "next": [EVENTS]},
        {"network": ["2001:db8::/64"], "next": [EVENTS]},
    ]
    assert f'name="user" value="{user.pk}"' in page(admin, unescape(links[0]))
    assert 'name="network" value="2001:db8::/64"' in page(admin, unescape(links[1]))


def offers(html: str) -> dict[str, str]:
    """What the column says of who is or may be blocked, and where each entry leads."""
    return {text: unescape(href) for href, text in re.findall(r'<a class="cs-block[^>]* href="([^"]+)">([^<]+)<', html)}


def test_who_is_blocked_already_is_not_offered_but_leads_to_the_block(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7")
    person, network = blocklist.block(user=user), blocklist.block(network="203.0.113.0/24")
    assert offers(page(admin, EVENTS)) == {
        "User blocked": f"{BLOCKS}{person.pk}/change/",
        "Address blocked": f"{BLOCKS}{network.pk}/change/",
    }


def test_a_block_concerns_nobody_else(admin: Client, user: User, make_user: MakeUser) -> None:
    # Without `blocklist`, which would add events of its own about those who are blocked.
    Block.objects.create(user=user)
    Block.objects.create(network="203.0.113.8")
    event(user=make_user("bob"), username="bob", ip="203.0.113.7")
    assert set(offers(page(admin, EVENTS))) == {"Block user", "Block address"}


def test_whose_block_is_over_is_offered_again(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7")
    blocklist.block(user=user)
    blocklist.unblock(user=user)
    Block.objects.create(network="203.0.113.7", expires_at=timezone.now() - timedelta(seconds=1))
    assert set(offers(page(admin, EVENTS))) == {"Block user", "Block address"}


@pytest.mark.parametrize("ip", ["2001:db8::9", "2001:db8::/64"])
def test_an_ipv6_client_is_blocked_with_its_network(admin: Client, ip: str) -> None:
    event(ip=ip)
    assert set(offers(page(admin, EVENTS))) == {"Block address"}
    blocklist.block(network="2001:db8::1")
    assert set(offers(page(admin, EVENTS))) == {"Address blocked"}


def test_the_block_is_named_but_not_linked_for_those_who_may_not_see_it(operator_with: Any, user: User) -> None:
    event(user=user, username="alice")
    blocklist.block(user=user)
    html = page(operator_with("view_auditevent", "add_block"), EVENTS)
    assert offers(html) == {}
    assert ">User blocked</span>" in html


def test_a_full_page_of_blocked_clients_costs_one_query_more(
    admin: Client, user: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(50):
        event(user=user, username="alice", ip=f"2001:db8:{number:x}::7")
        Block.objects.create(network=f"2001:db8:{number:x}::7")
    with django_assert_max_num_queries(10):
        html = page(admin, EVENTS)
    assert html.count("Address blocked") == 50


@pytest.mark.parametrize("ip", ["", HOSTILE, "127.0.0.1", "nonsense"])
def test_what_cannot_be_blocked_has_no_link(admin: Client, ip: str) -> None:
    event(ip=ip)
    assert "Block ad" not in page(admin, EVENTS)


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("alice", {"one"}),
        ("alic", set()),
        ("203.0.113.7", {"one"}),
        ("203.0.113", set()),
        ("2001:db8::9", {"two"}),
        ("abc", {"two"}),
        ("abcd", {"two"}),
        ("bcd", set()),
        ("", {"one", "two"}),
        ("%", set()),
    ],
)
def test_search_is_exact_or_by_the_beginning_of_a_connection(admin: Client, term: str, found: set[str]) -> None:
    event(path="/one/", username="alice", ip="203.0.113.7", connection_id="123")
    event(path="/two/", username="bob", ip="2001:db8::/64", connection_id="abcd")
    html = admin.get(EVENTS, {"q": term}).content.decode()
    assert {name for name in ("one", "two") if f"/{name}/" in html} == found


def test_filters_narrow_the_list(admin: Client) -> None:
    now = timezone.now()
    event(path="/new/", created_at=now)
    event(path="/old/", created_at=now - timedelta(days=3), kind="message.denied", reason="rate_limited")

    def paths(**chosen: str) -> set[str]:
        html = admin.get(EVENTS, chosen).content.decode()
        return {name for name in ("new", "old") if f"/{name}/" in html}

    assert paths() == {"new", "old"}
    assert paths(period="1h") == paths(period="24h") == {"new"}
    assert paths(period="7d") == paths(period="nonsense") == {"new", "old"}
    assert paths(kind__exact="message.denied") == paths(reason="rate_limited") == {"old"}


def test_a_long_list_costs_as_many_queries_as_a_short_one(
    admin: Client, user: User, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        event(user=user, username="alice", ip="203.0.113.7")
    with django_assert_max_num_queries(10):
        page(admin, EVENTS)


# Blocks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("duration", "seconds"), [("3600", 3600), ("86400", 86400), ("604800", 604800), ("", None)])
def test_a_user_is_blocked_for_a_preset_time(
    admin: Client, root: User, user: User, duration: str, seconds: int | None
) -> None:
    assert add(admin, user=str(user.pk), duration=duration, reason="spam").status_code == 302
    block = Block.objects.get()
    assert (block.user, block.network, block.reason, block.created_by) == (user, None, "spam", root)
    left = block.expires_at and (block.expires_at - timezone.now()).total_seconds()
    assert left == (None if seconds is None else pytest.approx(seconds, abs=60))
    written = AuditEvent.objects.get()
    assert (written.kind, written.actor, written.user) == ("block.created", "root", user)


def test_a_network_is_blocked_in_its_normal_form(admin: Client) -> None:
    assert add(admin, network="203.0.113.7/24").status_code == 302
    assert Block.objects.get().network == "203.0.113.0/24"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either a user or a network"),
        ({"network": "nonsense"}, "is not an IP address"),
        ({"network": "0.0.0.0/0"}, "too wide"),
        ({"network": "127.0.0.1"}, "loopback"),
        ({"network": "198.51.100.0/24"}, "trusted proxy"),
        ({"network": HOSTILE}, "is not an IP address"),
        ({"user": "123456"}, "Select a valid choice"),
        ({"user": "x"}, "Select a valid choice"),
        ({"network": "203.0.113.7", "duration": "17"}, "Select a valid choice"),
    ],
)
def test_what_must_not_be_blocked_is_an_error_in_the_form(
    admin: Client, settings: Settings, fields: dict[str, str], said: str
) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.3"]}
    response = add(admin, **fields)
    found = errors(response)
    assert len(found) == 1
    assert said in found[0]
    assert HOSTILE not in response.content.decode()
    assert not Block.objects.exists()


def test_a_user_and_a_network_at_once_are_an_error(admin: Client, user: User) -> None:
    assert "either a user or a network" in errors(add(admin, user=str(user.pk), network="203.0.113.7"))[0]


def test_the_labels_of_the_form_begin_alike(admin: Client) -> None:
    labels = re.findall(r"<label[^>]*>\s*([^<:]+):", page(admin, f"{BLOCKS}add/"))
    assert labels == ["User", "Network", "Duration", "Reason"]


def test_nobody_blocks_their_own_account(admin: Client, root: User) -> None:
    response = add(admin, user=str(root.pk))
    assert "Nothing has been blocked." in errors(response)[0]
    assert "This is your own account." in response.content.decode()
    assert not Block.objects.exists()


def test_the_operators_address_is_the_one_behind_the_proxy(admin: Client, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": [OPERATOR]}
    fields = {"user": "", "network": "203.0.113.7", "duration": "", "reason": ""}
    response = admin.post(f"{BLOCKS}add/", fields, headers={"x-forwarded-for": "203.0.113.7"})
    assert "Your own address, 203.0.113.7, is in this network." in response.content.decode()
    assert not Block.objects.exists()


def test_blocking_who_is_blocked_already_shows_the_block_that_stands(admin: Client, user: User) -> None:
    blocklist.block(user=user)
    assert add(admin, user=str(user.pk)).status_code == 302
    assert Block.objects.count() == 1


def test_the_list_tells_states_and_filters_by_them(admin: Client, user: User) -> None:
    now, hour = timezone.now(), timedelta(hours=1)
    Block.objects.create(network="203.0.113.1")
    Block.objects.create(network="203.0.113.2", expires_at=now + hour)
    Block.objects.create(network="203.0.113.3", expires_at=now - hour)
    Block.objects.create(network="203.0.113.4/32", lifted_at=now)
    Block.objects.create(user=user)

    def shown(**chosen: str) -> list[int]:
        html = admin.get(BLOCKS, chosen).content.decode()
        return [number for number in range(1, 5) if f"203.0.113.{number}/32" in html]

    assert shown() == [1, 2, 3, 4]
    assert shown(state="active") == [1, 2]
    assert shown(state="expired") == [3]
    assert shown(state="lifted") == [4]
    html = page(admin, BLOCKS)
    assert [html.count(f"cs-{state}") for state in ("active", "expired", "lifted")] == [3, 1, 1]
    assert ">alice</a>" in html


def test_search_finds_the_networks_around_an_address(admin: Client, user: User) -> None:
    blocklist.block(network="203.0.113.0/24", reason="wide")
    blocklist.block(network="203.0.113.7", reason="narrow")
    blocklist.block(user=user, reason="person")

    def found(term: str) -> set[str]:
        html = admin.get(BLOCKS, {"q": term}).content.decode()
        return {name for name in ("wide", "narrow", "person") if f">{name}<" in html}

    assert found("203.0.113.7") == {"wide", "narrow"}
    assert found("203.0.113.9") == {"wide"}
    assert found("203.0.113.0/24") == {"wide"}
    assert found("alice") == {"person"}
    assert found("2001:db8::1") == set()


def test_selected_blocks_are_lifted(admin: Client, root: User, user: User) -> None:
    one, two = blocklist.block(user=user), blocklist.block(network="203.0.113.7")
    other = blocklist.block(network="203.0.113.8")
    selected = {"action": "lift_selected", "_selected_action": [one.pk, two.pk]}
    asked = admin.post(BLOCKS, selected)
    assert "Lift 2 blocks?" in asked.content.decode()
    assert Block.objects.active().count() == 3
    admin.post(BLOCKS, {**selected, "confirmed": "lift_selected"})
    assert list(Block.objects.active()) == [other]
    assert Block.objects.filter(lifted_by=root).count() == 2
    assert AuditEvent.objects.filter(kind="block.lifted", actor="root").count() == 2


def test_a_block_is_lifted_with_the_button_on_its_page(admin: Client) -> None:
    block = blocklist.block(network="203.0.113.7")
    url = reverse("admin:channels_secure_block_lift", args=[block.pk])
    assert f'action="{url}?' in page(admin, f"{BLOCKS}{block.pk}/change/")
    assert "Lift the block of 203.0.113.7/32?" in page(admin, url)
    assert Block.objects.active().exists()
    response = admin.post(url, follow=True)
    assert "1 block was lifted." in response.content.decode()
    assert not Block.objects.active().exists()
    assert f'action="{url}' not in page(admin, f"{BLOCKS}{block.pk}/change/")
    assert "no active block" in admin.post(url, follow=True).content.decode()


def test_lifting_needs_a_csrf_token(root: User) -> None:
    block = blocklist.block(network="203.0.113.7")
    client = Client(enforce_csrf_checks=True)
    client.force_login(root)
    assert client.post(reverse("admin:channels_secure_block_lift", args=[block.pk])).status_code == 403
    assert Block.objects.active().exists()


def test_past_rows_are_neither_edited_nor_deleted(admin: Client) -> None:
    block = blocklist.block(network="203.0.113.7", reason="first")
    for url in (f"{BLOCKS}{block.pk}/change/", f"{BLOCKS}{block.pk}/delete/"):
        assert admin.post(url, {"network": "203.0.113.8", "reason": "second", "post": "yes"}).status_code == 403
    admin.post(BLOCKS, {"action": "delete_selected", "_selected_action": [block.pk], "post": "yes"})
    html = page(admin, BLOCKS)
    assert "delete_selected" not in html
    assert Block.objects.get().reason == "first"


def test_a_blocked_user_can_still_be_deleted_with_their_blocks(admin: Client, user: User) -> None:
    blocklist.block(user=user)
    url = f"/admin/auth/user/{user.pk}/delete/"
    assert "cannot" not in page(admin, url).lower()
    assert admin.post(url, {"post": "yes"}).status_code == 302
    assert not Block.objects.exists()
    assert AuditEvent.objects.get().username == "alice"


def test_each_permission_opens_what_it_names(operator_with: Any, user: User) -> None:
    block = blocklist.block(network="203.0.113.7")
    url = reverse("admin:channels_secure_block_lift", args=[block.pk])
    viewer = operator_with("view_block")
    assert "lift_selected" not in page(viewer, BLOCKS)
    assert url not in page(viewer, f"{BLOCKS}{block.pk}/change/")
    assert viewer.post(url).status_code == 403
    viewer.post(BLOCKS, {"action": "lift_selected", "_selected_action": [block.pk]})
    assert add(viewer, user=str(user.pk)).status_code == 403
    assert list(Block.objects.active()) == [block]


def test_lifting_needs_the_permission_to_change(operator_with: Any) -> None:
    block = blocklist.block(network="203.0.113.7")
    lifter = operator_with("view_block", "change_block")
    assert "lift_selected" in page(lifter, BLOCKS)
    assert lifter.post(reverse("admin:channels_secure_block_lift", args=[block.pk])).status_code == 302
    assert not Block.objects.active().exists()


def test_the_pages_hold_under_a_strict_content_security_policy(admin: Client, user: User) -> None:
    one, block = event(user=user, username="alice", ip="203.0.113.7", detail={"a": 1}), blocklist.block(user=user)
    for url in (
        EVENTS,
        f"{EVENTS}{one.pk}/change/",
        BLOCKS,
        f"{BLOCKS}add/?user={user.pk}",
        f"{BLOCKS}{block.pk}/change/",
    ):
        html = page(admin, url)
        assert re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", html) == []
        assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", html) == []
        assert "channels_secure/admin.css" in html
