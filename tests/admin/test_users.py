"""WebSockets in the project's own admin of users: the panel, the actions, and whom they refuse."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_secure import blocklist
from channels_secure.admin import panel
from channels_secure.admin.crowd import MOST
from channels_secure.models import AuditEvent, Block, LiveConnection, Revocation
from tests.admin.conftest import OPERATOR, event, page
from tests.admin.live_rows import process, socket
from tests.conftest import MakeUser

USERS = "/admin/auth/user/"
HOSTILE = "<script>alert(1)</script>"
ACTIONS = ("websocket_block", "websocket_disconnect", "websocket_revoke")
DURING = {"duration": "86400", "reason": ""}

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.user_sites")]


def change(user: User) -> str:
    return f"{USERS}{user.pk}/change/"


def said(response: HttpResponse) -> list[str]:
    """The messages of the page on which somebody ends up, as text."""
    shown = response.context["messages"]  # type: ignore[attr-defined]  # of the test client's
    return [unescape(re.sub(r"<[^>]*>", "", str(message))) for message in shown]


def act(client: Client, action: str, *users: User, confirmed: bool = False, **fields: str) -> HttpResponse:
    """Choose an action of the list of users for some of them, or answer what it asked."""
    chosen: dict[str, Any] = {"action": action, "_selected_action": [str(user.pk) for user in users], **fields}
    response: HttpResponse = client.post(USERS, chosen | ({"confirmed": action} if confirmed else {}), follow=True)
    return response


def nothing_happened() -> bool:
    return not (Block.objects.exists() or Revocation.objects.exists() or AuditEvent.objects.exists())


# The panel -----------------------------------------------------------------------------------------------------------


def test_a_users_page_shows_what_their_websockets_do(admin: Client, user: User, make_user: MakeUser) -> None:
    now = timezone.now()
    socket("a", user, process=process("web7"), received=120, violations=3, heard_at=now - timedelta(seconds=200))
    socket("lost", user, process=process("dead", is_alive=False))
    socket("foreign", make_user("bob"))
    event(user=user, path="/ws/earlier/", reason="rate_limited")
    html = page(admin, change(user)).replace("\xa0", " ")
    for words in ("Not blocked.", "/ws/a/", "203.0.113.7", "web7:42", "3 minutes ago", "12.0", "/ws/earlier/"):
        assert words in html
    for words in ("/ws/lost/", "/ws/foreign/"):
        assert words not in html
    assert 'href="/admin/channels_secure/liveconnection/a/change/"' in html
    assert "channels_secure/admin.css" in html


def test_the_buttons_lead_to_the_pages_that_ask_and_back(admin: Client, user: User) -> None:
    html = unescape(page(admin, change(user)))
    back = f"next=%2Fadmin%2Fauth%2Fuser%2F{user.pk}%2Fchange%2F"
    for url in (
        f"/admin/channels_secure/block/add/?user={user.pk}&{back}",
        f"/admin/channels_secure/liveconnection/disconnect/?user={user.pk}&{back}",
        f"/admin/channels_secure/liveconnection/revoke/?user={user.pk}&{back}",
    ):
        assert f'href="{url}"' in html
        page(admin, url)


def test_a_block_is_shown_with_its_end_its_reason_and_its_maker(admin: Client, root: User, user: User) -> None:
    blocklist.block(user=user, duration=3600, reason="spam")
    longest = blocklist.block(user=user, reason="flood", by=root)
    html = page(admin, change(user))
    assert "Blocked for ever</strong>: flood" in html
    assert "by root" in html
    assert f'href="/admin/channels_secure/block/{longest.pk}/change/"' in html
    assert "/block/add/?" not in html
    blocklist.unblock(user=user)
    assert "Not blocked." in page(admin, change(user))
    until = blocklist.block(user=user, duration=3600).expires_at
    assert f"Blocked until {until:%Y-%m-%d %H:%M}" in page(admin, change(user))


def test_a_panel_is_as_long_and_costs_as_much_as_a_panel_may(admin: Client, user: User) -> None:
    for count in (3, 30):
        LiveConnection.objects.all().delete()
        for number in range(count):
            socket(f"s{number}", user)
            event(user=user, path=f"/e/{number}/")
        with CaptureQueriesContext(connection) as asked:
            html = page(admin, change(user))
        ours = [query["sql"] for query in asked if 'FROM "channels_secure_' in query["sql"]]
        assert len(ours) == 3
        assert all("LIMIT" in sql for sql in ours)
        assert html.count("<td>/ws/s") == min(count, panel.ROWS)
    assert len(set(re.findall(r"<td>/e/(\d+)/", html))) == panel.ROWS
    assert f'href="/admin/channels_secure/liveconnection/?user={user.pk}"' in html


def test_saving_the_page_changes_what_it_did_before_and_nothing_else(admin: Client, user: User) -> None:
    socket("a", user)
    html = page(admin, change(user))
    fields = {"username": "alice", "first_name": "Alice", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    assert 'name="websocket' not in html
    assert admin.post(change(user), fields | {"websocket_state": "x"}).status_code == 302
    user.refresh_from_db()
    assert user.first_name == "Alice"
    assert not Block.objects.exists()


def test_a_mistake_in_the_form_keeps_the_panel(admin: Client, user: User) -> None:
    socket("a", user)
    html = admin.post(change(user), {"username": ""}).content.decode()
    assert "This field is required" in html
    assert "/ws/a/" in html


def test_the_form_for_a_new_user_is_as_it_was(admin: Client) -> None:
    html = page(admin, f"{USERS}add/")
    assert "WebSockets" not in html
    assert 'name="password1"' in html


@pytest.mark.parametrize(
    ("right", "sees", "misses"),
    [
        ("view_block", ["Not blocked."], ["/ws/a/", "/ws/earlier/"]),
        ("view_liveconnection", ["/ws/a/"], ["Not blocked.", "/ws/earlier/"]),
        ("view_auditevent", ["/ws/earlier/"], ["Not blocked.", "/ws/a/"]),
        ("view_session", [], ["WebSockets", "Not blocked.", "/ws/a/", "/ws/earlier/"]),
    ],
)
def test_everybody_sees_what_they_may_see_elsewhere_and_no_buttons(
    operator_with: Callable[..., Client], user: User, right: str, sees: list[str], misses: list[str]
) -> None:
    socket("a", user)
    event(user=user, path="/ws/earlier/")
    html = page(operator_with("view_user", right), change(user))
    assert [words for words in sees if words not in html] == []
    assert [words for words in [*misses, "/disconnect/", "/revoke/", "/block/add/?"] if words in html] == []


@pytest.mark.parametrize(
    ("right", "leads_to"),
    [("block_subject", {"block/add", "revoke"}), ("disconnect_connection", {"disconnect"})],
)
def test_each_permission_gives_its_buttons(
    operator_with: Callable[..., Client], user: User, right: str, leads_to: set[str]
) -> None:
    html = page(operator_with("view_user", "view_block", right), change(user))
    found = re.findall(r"channels_secure/(?:liveconnection/)?(block/add|disconnect|revoke)/\?user", html)
    assert set(found) == leads_to


def test_every_text_of_the_panel_is_inert(admin: Client, make_user: MakeUser) -> None:
    user = make_user(HOSTILE)
    operator = make_user(f"{HOSTILE}2")
    socket("a", user, process=process(HOSTILE), **dict.fromkeys(("ip", "path", "user_agent"), HOSTILE))
    event(user=user, **dict.fromkeys(("ip", "path", "reason"), HOSTILE))
    blocklist.block(user=user, reason=HOSTILE, by=operator)
    html = page(admin, change(user))
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;") > 8
    for action in ACTIONS:
        html = act(admin, action, user).content.decode()
        assert HOSTILE not in html
        assert "&lt;script&gt;" in html


# A database that fails -----------------------------------------------------------------------------------------------


@pytest.fixture
def broken_tables() -> Iterator[None]:
    """Let every query of our tables fail in the database, as when nobody has migrated."""

    def misspell(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(sql.replace("channels_secure_", "no_such_"), params, many, context)

    with connection.execute_wrapper(misspell):
        yield


@pytest.mark.usefixtures("broken_tables")
def test_a_database_that_fails_costs_the_page_a_line_and_nothing_else(
    admin: Client, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    html = page(admin, change(user))
    assert html.count("the database fails") == 3
    assert 'name="first_name"' in html
    assert "admin.panel_failed" in caplog.messages
    # The transaction of the test, which the page ran in as with ATOMIC_REQUESTS, is unharmed.
    assert User.objects.filter(pk=user.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_outside_of_a_transaction_the_panel_begins_none(admin: Client, user: User) -> None:
    seen: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "channels_secure_" in sql:
            seen.append("inside" if connection.in_atomic_block else "outside")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        page(admin, change(user))
    assert set(seen) == {"outside"}


# Other admins and other models ---------------------------------------------------------------------------------------


def test_an_admin_keeps_its_own_fieldsets_inlines_actions_and_media(admin: Client, user: User) -> None:
    socket("a", user)
    html = page(admin, f"/admin/messages/member/{user.pk}/change/")
    for words in ("ALICE", "Person", "Sockets", "/ws/a/", "members.css", "channels_secure/admin.css", "logentry_set"):
        assert words in html
    assert "Not blocked." not in html
    options = re.findall(r'<option value="(\w+)"', page(admin, "/admin/messages/member/"))
    assert {"cheer", "delete_selected", *ACTIONS} <= set(options)


def test_users_of_a_proxy_are_blocked_as_the_users_they_are(admin: Client, user: User) -> None:
    fields = {"action": "websocket_block", "_selected_action": [user.pk], "confirmed": "yes", **DURING}
    admin.post("/admin/messages/member/", fields)
    assert Block.objects.get().user == user


def test_a_table_that_only_shares_the_key_shows_the_panel_and_no_actions(admin: Client, user: User) -> None:
    socket("a", user)
    html = page(admin, f"/admin/messages/account/{user.pk}/change/")
    assert "/ws/a/" in html
    assert "Not blocked." in html
    assert "websocket_block" not in page(admin, "/admin/messages/account/")


def test_a_site_without_our_pages_has_the_panel_without_links(admin: Client, user: User) -> None:
    socket("a", user)
    blocklist.block(user=user)
    html = page(admin, f"/office/auth/user/{user.pk}/change/")
    assert "/ws/a/" in html
    assert "Blocked for ever" in html
    assert "channels_secure/block" not in html
    assert "liveconnection" not in html


# The actions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_asks_first(admin: Client, user: User, make_user: MakeUser, action: str) -> None:
    bob = make_user("bob")
    socket("a", user)
    socket("b", user)
    html = act(admin, action, user, bob).content.decode()
    assert "2 users, with 2 open connections now." in html
    assert re.findall(r"<li>(\w+) <span class=\"cs-quiet\">(\d) open", html) == [("alice", "2"), ("bob", "0")]
    assert nothing_happened()


def test_users_are_blocked_with_a_duration_and_a_reason(
    admin: Client, root: User, user: User, make_user: MakeUser
) -> None:
    bob = make_user("bob")
    response = act(admin, "websocket_block", user, bob, confirmed=True, duration="3600", reason="spam")
    assert said(response) == ["2 users are blocked."]
    made = list(Block.objects.order_by("user__username"))
    assert [(one.user, one.reason, one.created_by) for one in made] == [(user, "spam", root), (bob, "spam", root)]
    assert {round((one.expires_at - one.created_at).total_seconds()) for one in made if one.expires_at} == {3600}
    written = AuditEvent.objects.filter(kind="block.created", actor="root", actor_from=OPERATOR)
    assert {one.username for one in written} == {"alice", "bob"}


def test_a_duration_that_is_not_offered_is_refused(admin: Client, user: User) -> None:
    html = act(admin, "websocket_block", user, confirmed=True, duration="17").content.decode()
    assert "Select a valid choice" in html
    assert nothing_happened()


def test_users_are_disconnected(admin: Client, user: User, make_user: MakeUser) -> None:
    bob = make_user("bob")
    response = act(admin, "websocket_disconnect", user, bob, confirmed=True, reason="floods")
    assert said(response) == ["What the chosen users have open ends within a second or two."]
    rows = set(Revocation.objects.values_list("kind", "subject", "reason"))
    assert rows == {("user", str(user.pk), "disconnected"), ("user", str(bob.pk), "disconnected")}
    written = AuditEvent.objects.filter(kind="connection.disconnected", reason="floods", actor_from=OPERATOR)
    assert {one.username for one in written} == {"alice", "bob"}


def test_tokens_are_revoked(admin: Client, user: User) -> None:
    response = act(admin, "websocket_revoke", user, confirmed=True)
    assert said(response) == ["The tokens of the chosen users are revoked."]
    assert Revocation.objects.get().reason == "credentials_revoked"
    written = AuditEvent.objects.get()
    assert (written.kind, written.user, written.actor, written.actor_from) == ("tokens.revoked", user, "root", OPERATOR)


@pytest.mark.parametrize("confirmed", [False, True])
def test_staff_and_oneself_are_not_blocked_by_the_dozen(
    admin: Client, root: User, user: User, make_user: MakeUser, confirmed: bool
) -> None:
    carol = make_user("carol", is_staff=True)
    response = act(admin, "websocket_block", user, carol, root, confirmed=confirmed, **DURING)
    html = unescape(response.content.decode())
    for refused in (carol, root):
        assert f'<a href="/admin/channels_secure/block/add/?user={refused.pk}&next=' in html
        assert refused.username in html
    assert [block.user for block in Block.objects.all()] == ([user] if confirmed else [])


def test_where_all_are_refused_nobody_is_asked(admin: Client, root: User) -> None:
    response = act(admin, "websocket_block", root)
    assert [text.startswith("Staff, and your own account") for text in said(response)] == [True]
    assert nothing_happened()


def test_a_superuser_who_is_no_staff_is_staff_here(admin: Client, make_user: MakeUser) -> None:
    act(admin, "websocket_block", make_user("dora", is_superuser=True), confirmed=True, **DURING)
    assert not Block.objects.exists()


def test_many_of_all_who_are_connected_need_their_number_typed_in(
    admin: Client, make_user: MakeUser, settings: Any
) -> None:
    people = [make_user(f"u{number}") for number in range(5)]
    for number, person in enumerate(people):
        socket(f"s{number}", person)
    assert "Type 5 to confirm" in act(admin, "websocket_block", *people).content.decode()
    for typed in ("", "4", "five"):
        html = act(admin, "websocket_block", *people, confirmed=True, typed=typed, **DURING).content.decode()
        assert "errorlist" in html
        assert not Block.objects.exists()
    settings.CHANNELS_SECURE = {"BLOCK_CONFIRM_SHARE": 1.0}
    assert "to confirm" not in act(admin, "websocket_block", *people).content.decode()
    settings.CHANNELS_SECURE = {}
    act(admin, "websocket_block", *people, confirmed=True, typed="5", **DURING)
    assert Block.objects.count() == 5


def test_nobody_else_is_asked_to_type_anything(admin: Client, make_user: MakeUser) -> None:
    people = [make_user(f"u{number}") for number in range(5)]
    for number, person in enumerate(people[:3]):
        socket(f"s{number}", person)
    assert "to confirm" not in act(admin, "websocket_block", *people).content.decode()


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_for_a_hundred_users_at_most(admin: Client, user: User, action: str) -> None:
    User.objects.bulk_create(User(username=f"u{number}") for number in range(MOST))
    response = act(admin, action, user, confirmed=True, select_across="1", **DURING)
    assert said(response) == ["At most 100 users at once."]
    assert nothing_happened()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_question_costs_the_same_for_many_and_for_few(
    admin: Client, make_user: MakeUser, django_assert_max_num_queries: Any, action: str
) -> None:
    people = User.objects.bulk_create(User(username=f"u{number}") for number in range(30))
    for person in people:
        socket(f"s{person.pk}", person)
    counts = []
    for some in (people[:5], people):
        with django_assert_max_num_queries(14) as asked:
            act(admin, action, *some)
        counts.append(len(asked.captured_queries))
    assert counts[0] == counts[1]


def test_one_of_a_hundred_that_fails_leaves_none_changed(
    admin: Client, user: User, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = blocklist.block

    def fail_at_the_second(**options: Any) -> Any:
        if Block.objects.exists():
            raise RuntimeError
        return real(**options)

    monkeypatch.setattr(blocklist, "block", fail_at_the_second)
    with pytest.raises(RuntimeError):
        act(admin, "websocket_block", user, make_user("bob"), confirmed=True, **DURING)
    assert nothing_happened()


def test_oneself_is_named_before_one_is_disconnected(admin: Client, root: User, user: User) -> None:
    assert "You are one of them." in act(admin, "websocket_disconnect", user, root).content.decode()
    assert "You are one of them." not in act(admin, "websocket_disconnect", user).content.decode()


@pytest.mark.parametrize(
    ("rights", "offered"),
    [
        (["view_user"], set()),
        (["view_user", "view_block", "view_liveconnection"], set()),
        (["view_user", "block_subject"], {"websocket_block", "websocket_revoke"}),
        (["view_user", "disconnect_connection"], {"websocket_disconnect"}),
    ],
    ids=str,
)
def test_actions_are_offered_and_done_with_their_permission_only(
    operator_with: Callable[..., Client], user: User, rights: list[str], offered: set[str]
) -> None:
    operator = operator_with(*rights)
    html = page(operator, USERS)
    assert {action for action in ACTIONS if f'value="{action}"' in html} == offered
    for action in set(ACTIONS) - offered:
        act(operator, action, user, confirmed=True, **DURING)
    assert nothing_happened()


def test_without_simplejwt_no_tokens_can_be_revoked(admin: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels_secure.auth.simplejwt.is_installed", lambda: False)
    assert "websocket_revoke" not in page(admin, USERS)
    html = page(admin, change(user))
    assert "liveconnection/disconnect" in html
    assert "liveconnection/revoke" not in html


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_needs_a_csrf_token(root: User, user: User, action: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(root)
    fields = {"action": action, "_selected_action": [user.pk], "confirmed": action, **DURING}
    assert client.post(USERS, fields).status_code == 403
    assert nothing_happened()


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_in_an_address_does_nothing(admin: Client, user: User, action: str) -> None:
    admin.get(USERS, {"action": action, "_selected_action": user.pk, "confirmed": action, **DURING})
    assert nothing_happened()
