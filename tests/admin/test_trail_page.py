"""The page of one event: its story, the rest of its connection, its neighbours, and what can be done from there."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_secure import blocklist
from channels_secure.admin import around
from channels_secure.models import AuditEvent, Block, LiveConnection, LiveProcess
from tests.admin.conftest import OPERATOR, event, page
from tests.conftest import MakeUser

EVENTS = "/admin/channels_secure/auditevent/"
BLOCKS = "/admin/channels_secure/block/"
MOMENT = datetime(2026, 3, 5, 9, 41, 7, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>"

pytestmark = pytest.mark.django_db


def url(row: AuditEvent) -> str:
    return f"{EVENTS}{row.pk}/change/"


def links(html: str) -> dict[str, str]:
    found = re.findall(r'<a[^>]* href="([^"]+)"[^>]*>([^<]+)</a>', html[html.index('class="cs-ev-event"') :])
    return {words: unescape(target) for target, words in found}


def form_of(html: str, button: str) -> tuple[str, dict[str, str]]:
    """Where a form with this button posts to, and what, if nothing is changed."""
    forms = re.findall(r'<form method="post" action="([^"]+)" class="cs-ev-blocking">(.*?)</form>', html, re.DOTALL)
    (chosen,) = [(action, body) for action, body in forms if f">{button}<" in body]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', chosen[1]))
    selected = re.findall(r'<option value="(\d*)" selected>', chosen[1])
    return unescape(chosen[0]), {
        **{name: unescape(value) for name, value in fields.items()},
        "duration": selected[0],
        "reason": "",
    }


def open_socket(name: str, **facts: Any) -> LiveConnection:
    now = timezone.now()
    process, _is_new = LiveProcess.objects.get_or_create(
        id="p", defaults={"host": "web", "pid": 1, "lease_until": now + timedelta(minutes=1)}
    )
    return LiveConnection.objects.create(connection_id=name, process=process, opened_at=now, **facts)


# The story -----------------------------------------------------------------------------------------------------------


def test_the_page_tells_what_happened_and_what_to_do(admin: Client, user: User) -> None:
    row = event(user=user, username="alice", ip="203.0.113.7", origin="https://evil.example", created_at=MOMENT)
    html = page(admin, url(row))
    said = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "alice (from 203.0.113.7 ) was refused on March 5, 2026 at 09:41:07 because the page at" in said
    for words in ("ALLOWED_ORIGINS", "scheme, host and port must all match", "Connections from this website", "4403"):
        assert words in said
    target = urlsplit(links(html)["Events with the same reason in the last 24 hours"])
    assert target.path == EVENTS
    assert parse_qs(target.query) == {"reason": ["origin_not_allowed"], "period": ["24h"]}


@override_settings(LANGUAGE_CODE="ar")
def test_a_detail_is_read_from_left_to_right_everywhere(admin: Client) -> None:
    html = page(admin, url(event(detail={"a": [1]})))
    assert '<html lang="ar" dir="rtl"' in html
    assert re.search(r'<pre class="cs-detail" dir="ltr">\{\s', html)


@override_settings(USE_THOUSAND_SEPARATOR=True)
def test_a_code_is_no_number(admin: Client) -> None:
    html = page(admin, url(event(pk=123456)))
    assert "4403" in html
    assert "4,403" not in html


def test_texts_from_outside_are_text_everywhere(admin: Client) -> None:
    texts = ("reason", "username", "ip", "path", "origin", "user_agent", "connection_id", "actor", "actor_from", "kind")
    row = event(**dict.fromkeys(texts, HOSTILE), detail={"detail": HOSTILE, "by": HOSTILE, HOSTILE: HOSTILE})
    event(**dict.fromkeys(texts, HOSTILE), created_at=row.created_at - timedelta(seconds=1))
    html = page(admin, url(row))
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    own = html[html.index('class="cs-ev-event"') : html.index("The row as it is stored")]
    assert not re.findall(r"<script|<style| style=| on[a-z]+=|javascript:", own)


@pytest.mark.parametrize("kind", list(AuditEvent.Kind))
def test_every_kind_has_a_page(admin: Client, kind: str) -> None:
    row = AuditEvent.objects.create(kind=kind)
    assert "What happened" in page(admin, url(row))


# The connection around it --------------------------------------------------------------------------------------------


def steps(html: str) -> list[tuple[str, str]]:
    rows = re.findall(r"<tr(?: aria-current[^>]*)?>(.*?)</tr>", html.partition("<tbody>")[2], re.DOTALL)
    cells = [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)] for row in rows
    ]
    return [(cell[1], cell[3]) for cell in cells]


def test_the_rest_of_the_connection_stands_around_the_event(admin: Client) -> None:
    times = {"−1:01:01": -3661, "−1:05": -65, "0.0 s": 0, "+2.5 s": 2.5}
    for name, seconds in times.items():
        event(connection_id="c1", reason=f"at {name}", created_at=MOMENT + timedelta(seconds=seconds))
    event(connection_id="c2", reason="another connection", created_at=MOMENT)
    here = event(connection_id="c1", reason="here", created_at=MOMENT)
    html = page(admin, url(here))
    assert steps(html) == [
        ("−1:01:01", "at −1:01:01"),
        ("−1:05", "at −1:05"),
        ("0.0 s", "at 0.0 s"),
        ("this event", "here"),
        ("+2.5 s", "at +2.5 s"),
    ]
    assert html.count('aria-current="true"') == 1
    assert links(html)["All events of this connection"] == f"{EVENTS}?connection_id=c1"
    (before, *_rest) = re.findall(r'href="(\.\./\.\./\d+/change/)"', html)
    assert "at −1:01:01" in page(admin, urljoin(url(here), before))


def test_of_a_long_connection_the_nearest_are_shown(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [event(connection_id="c1", created_at=MOMENT + timedelta(seconds=number)) for number in range(40)]
    html = page(admin, url(rows[20]))
    assert len(steps(html)) == 2 * around.NEAR + 1
    assert "8 more before these." in html
    assert "7 more after these." in html
    monkeypatch.setattr(around, "MOST", 30)
    with CaptureQueriesContext(connection) as asked:
        html = page(admin, url(rows[20]))
    assert "There are more events before these." in html
    assert any("LIMIT 31" in query["sql"] and "c1" in query["sql"] for query in asked)


def test_an_event_that_stands_alone_has_no_table(admin: Client) -> None:
    assert "<tbody>" not in page(admin, url(event(connection_id="c1")))
    assert "<tbody>" not in page(admin, url(event()))


# Neighbours ----------------------------------------------------------------------------------------------------------


def test_the_events_next_to_it_are_those_of_the_same_user_and_of_the_same_address(
    admin: Client, make_user: MakeUser
) -> None:
    alice, bob = make_user("alice"), make_user("bob")

    def at(seconds: int, user: User, ip: str) -> AuditEvent:
        return event(user=user, username=user.username, ip=ip, created_at=MOMENT + timedelta(seconds=seconds))

    before = at(-2, alice, "203.0.113.1")
    same_moment = at(0, alice, "203.0.113.1")
    here = at(0, alice, "203.0.113.7")
    after = at(1, bob, "203.0.113.7")
    at(2, bob, "203.0.113.1")
    html = page(admin, url(here))
    groups = re.findall(r'role="group" aria-labelledby="cs-(\w+)">(.*?)</ul>', html, re.DOTALL)
    found = {name: dict(re.findall(r'<a href="([^"?]+)">([^<]+) event', part)) for name, part in groups}
    assert found == {"user": {url(same_moment): "Earlier"}, "network": {url(after): "Later"}}
    assert url(before) in page(admin, url(same_moment))


def test_the_lists_of_the_same_user_and_address_are_linked(admin: Client, user: User) -> None:
    html = page(admin, url(event(user=user, ip="203.0.113.7")))
    assert f'href="{EVENTS}?user={user.pk}"' in html
    assert f'href="{EVENTS}?ip=203.0.113.7"' in html


# Blocking ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("button", "about"), [("Block this user", "user"), ("Block this address", "network")])
def test_one_click_blocks_and_comes_back(admin: Client, root: User, user: User, button: str, about: str) -> None:
    row = event(user=user, username="alice", ip="203.0.113.7")
    action, fields = form_of(page(admin, url(row)), button)
    response = admin.post(action, {**fields, "duration": "3600", "reason": "Floods"})
    assert (response.status_code, response.headers["Location"]) == (302, url(row))
    block = Block.objects.get()
    assert {"user": block.user, "network": block.network}[about] == {"user": user, "network": "203.0.113.7/32"}[about]
    assert (block.reason, block.created_by) == ("Floods", root)
    assert block.expires_at is not None
    assert abs(block.expires_at - timezone.now() - timedelta(hours=1)) < timedelta(minutes=1)
    written = AuditEvent.objects.get(kind="block.created")
    assert (written.actor, written.actor_from) == ("root", OPERATOR)
    html = page(admin, url(row))
    assert f">{button}<" not in html
    assert links(html)["Blocked now"] == f"{BLOCKS}{block.pk}/change/"


def test_the_durations_are_those_of_the_form_and_a_day_is_chosen(admin: Client) -> None:
    html = page(admin, url(event(ip="203.0.113.7")))
    assert re.findall(r'<option value="(\d*)"', html) == ["3600", "86400", "604800", ""]
    assert form_of(html, "Block this address")[1]["duration"] == "86400"


def test_the_preview_stands_beside_the_button(admin: Client, user: User) -> None:
    row = event(user=user, username="alice", ip="203.0.113.7", count=41)
    open_socket("c1", user=user, username="alice", ip="203.0.113.7")
    html = page(admin, url(row))
    assert html.count("A block now: closes 1 connection of 1 user now, would have matched 41 events") == 2


def test_the_guards_of_the_form_hold(admin: Client, root: User) -> None:
    row = event(user=root, username="root", ip=OPERATOR)
    for button in ("Block this user", "Block this address"):
        action, fields = form_of(page(admin, url(row)), button)
        assert admin.post(action, fields).status_code == 200
    assert not Block.objects.exists()


def test_no_form_is_sent_from_elsewhere(root: User) -> None:
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR=OPERATOR)
    client.force_login(root)
    action, fields = form_of(page(client, url(event(ip="203.0.113.7"))), "Block this address")
    assert "csrfmiddlewaretoken" in fields
    assert client.post(action, {**fields, "csrfmiddlewaretoken": "x" * 64}).status_code == 403
    assert not Block.objects.exists()


@pytest.mark.parametrize("ip", [HOSTILE, "nonsense", "127.0.0.1", "0.0.0.0/0"])
def test_what_cannot_be_blocked_has_no_form(admin: Client, ip: str) -> None:
    assert "cs-ev-blocking" not in page(admin, url(event(ip=ip)))


def test_a_user_who_is_gone_has_no_form(admin: Client) -> None:
    html = page(admin, url(event(user_id=4_000_000, user_key="4000000", username="gone", ip="203.0.113.7")))
    assert "Block this user" not in html
    assert "Block this address" in html


# Disconnecting -------------------------------------------------------------------------------------------------------


def test_an_open_connection_can_be_disconnected_from_its_events(admin: Client) -> None:
    row = event(connection_id="c1")
    assert "Disconnect this connection" not in page(admin, url(row))
    open_socket("c1")
    target = urlsplit(links(page(admin, url(row)))["Disconnect this connection"])
    assert target.path == "/admin/channels_secure/liveconnection/disconnect/"
    assert parse_qs(target.query) == {"connection": ["c1"], "next": [url(row)]}
    assert "c1" in page(admin, target.geturl())
    LiveProcess.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert "Disconnect this connection" not in page(admin, url(row))


# Who may do what -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codenames", "offered"),
    [
        ((), set()),
        (("block_subject",), {"Block this user", "Block this address"}),
        (("add_block",), {"Block this user", "Block this address"}),
        (("disconnect_connection",), {"Disconnect this connection", "Disconnect all connections"}),
    ],
)
def test_each_permission_shows_its_own_buttons(
    operator_with: Callable[..., Client], user: User, codenames: tuple[str, ...], offered: set[str]
) -> None:
    row = event(user=user, username="alice", ip="203.0.113.7", connection_id="c1")
    open_socket("c1", user=user)
    html = page(operator_with("view_auditevent", *codenames), url(row))
    assert set(re.findall(r"Block this user|Block this address|Disconnect [a-z]+ connections?", html)) == offered


def test_who_may_not_see_blocks_is_told_but_not_led_there(operator_with: Callable[..., Client], user: User) -> None:
    row = event(user=user, username="alice")
    blocklist.block(user=user)
    html = page(operator_with("view_auditevent", "add_block"), url(row))
    assert '<span class="cs-active">Blocked now</span>' in html


def test_nothing_is_changed_by_reading(admin: Client, user: User) -> None:
    row = event(user=user, username="alice", ip="203.0.113.7", connection_id="c1")
    open_socket("c1", user=user)
    with CaptureQueriesContext(connection) as asked:
        page(admin, url(row))
    assert not [query["sql"] for query in asked if re.match(r"INSERT|UPDATE|DELETE", query["sql"])]


# What it costs -------------------------------------------------------------------------------------------------------


def test_thirty_events_around_it_cost_as_many_queries_as_three(admin: Client, user: User) -> None:
    facts = {"user": user, "username": "alice", "ip": "203.0.113.7", "connection_id": "c1"}
    row, counts = event(**facts), []
    open_socket("c1", user=user, ip="203.0.113.7")
    for more in (3, 27):
        for _ in range(more):
            event(**facts)
        with CaptureQueriesContext(connection) as asked:
            page(admin, url(row))
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 30
