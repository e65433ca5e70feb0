"""Ending open sockets from the admin: whom it names, what only POST does, and what the trail says afterwards."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from channels_secure.admin import disconnecting
from channels_secure.models import AuditEvent, LiveConnection, Revocation
from tests.admin.conftest import OPERATOR, client_of, page
from tests.admin.live_rows import process, socket, sockets
from tests.conftest import MakeUser
from tests.sockets import Echo, connect, quiet, told  # noqa: F401

LIST = "/admin/channels_secure/liveconnection/"
DISCONNECT = f"{LIST}disconnect/"
REVOKE = f"{LIST}revoke/"
ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "javascript:alert(1)",
    r"\\evil.example",
    "http:///evil.example",
]

pytestmark = pytest.mark.django_db


def said(response: HttpResponse) -> list[str]:
    """The messages of the page on which somebody ends up."""
    return [str(message) for message in response.context["messages"]]  # type: ignore[attr-defined]  # the test client's


def ended() -> set[tuple[str, str, str]]:
    """What processes are told to end, and as what."""
    return set(Revocation.objects.values_list("kind", "subject", "reason"))


# Asking --------------------------------------------------------------------------------------------------------------


def test_nothing_happens_before_the_answer(admin: Client, user: User) -> None:
    socket("a", user)
    for asked in ({"connection": "a"}, {"user": user.pk}, {"ip": "203.0.113.7"}):
        page(admin, f"{DISCONNECT}?{urlencode(asked)}")
    page(admin, f"{REVOKE}?user={user.pk}")
    assert not Revocation.objects.exists()
    assert not AuditEvent.objects.exists()


def test_the_question_says_whom_it_is_about_and_how_many_it_closes(
    admin: Client, user: User, make_user: MakeUser
) -> None:
    socket("one", user, process=process("web1"))
    socket("two", user, process=process("web2"))
    socket("lost", user, process=process("web3", is_alive=False))
    socket("other", make_user("bob"))
    html = page(admin, f"{DISCONNECT}?user={user.pk}")
    assert "Disconnect the user alice?" in html
    assert "This closes 2 connections of 1 user." in html
    assert set(re.findall(r"<td>/ws/(\w+)/", html)) == {"one", "two"}
    assert set(re.findall(r"<td>(web\d):42", html)) == {"web1", "web2"}
    html = page(admin, f"{DISCONNECT}?ip=203.0.113.0/24")
    assert "Disconnect everybody at 203.0.113.0/24?" in html
    assert "This closes 3 connections of 2 users." in html


def test_the_operators_own_connections_are_named_as_such(admin: Client, root: User, user: User) -> None:
    socket("mine", root)
    socket("near", ip=OPERATOR)
    socket("other", user)
    assert "1 of them is your own, or comes from your address." in page(admin, f"{DISCONNECT}?user={root.pk}")
    assert "1 of them is your own" in page(admin, f"{DISCONNECT}?ip={OPERATOR}")
    socket("mine-too", root)
    assert "2 of them are your own" in page(admin, f"{DISCONNECT}?user={root.pk}")
    assert "(you)" in page(admin, f"{DISCONNECT}?user={root.pk}")
    assert "your own" not in page(admin, f"{DISCONNECT}?user={user.pk}")
    assert "(you)" not in page(admin, f"{DISCONNECT}?user={user.pk}")


def test_sockets_of_nobody_are_counted_too(admin: Client) -> None:
    socket("a")
    assert "This closes 1 connection, of nobody who has logged in." in page(admin, f"{DISCONNECT}?connection=a")


def test_a_socket_too_young_to_be_listed_can_be_ended_all_the_same(admin: Client, user: User) -> None:
    html = page(admin, f"{DISCONNECT}?user={user.pk}")
    assert "No open connection is listed now." in html
    admin.post(DISCONNECT, {"user": user.pk})
    assert ended() == {("user", str(user.pk), "disconnected")}


def test_the_question_costs_the_same_for_many_and_for_few(
    admin: Client, user: User, django_assert_max_num_queries: Any
) -> None:
    for count in (3, 300):
        LiveConnection.objects.all().delete()
        sockets(count, user)
        for asked in (f"user={user.pk}", "ip=10.0.0.0/8"):
            with django_assert_max_num_queries(6):
                html = page(admin, f"{DISCONNECT}?{asked}")
            assert f"This closes {count} connections of 1 user." in html
            assert html.count("<td>/ws/many/") == min(count, 20)
        assert ("and 280 more" in html) is (count == 300)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "Name exactly one"),
        ({"user": ""}, "Name exactly one"),
        ({"user": "1", "ip": "203.0.113.7"}, "Name exactly one"),
        ({"user": "4000000"}, "There is no such user."),
        ({"user": "x"}, "There is no such user."),
        ({"user": "9" * 40}, "There is no such user."),
        ({"ip": "nonsense"}, "is not an IP address"),
        ({"ip": "0.0.0.0/0"}, "too wide"),
        ({"ip": "::/8"}, "too wide"),
        ({"connection": "x" * 65}, "There is no such connection."),
        ({"connection": "a\x00b"}, "There is no such connection."),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_nonsense_is_explained_and_ends_nothing(
    admin: Client, user: User, method: str, asked: dict[str, str], words: str
) -> None:
    response = getattr(admin, method)(DISCONNECT, asked, follow=True)
    assert response.redirect_chain == [(LIST, 302)]
    assert words in said(response)[0]
    assert not Revocation.objects.exists()


# Doing ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ({"connection": "a"}, ("connection", "a")),
        ({"user": "{user}"}, ("user", "{user}")),
        ({"ip": "203.0.113.7"}, ("address", "203.0.113.7/32")),
        ({"ip": "203.0.113.0/24"}, ("address", "203.0.113.0/24")),
        ({"ip": "2001:db8::9"}, ("address", "2001:db8::/64")),
    ],
    ids=str,
)
def test_each_button_ends_what_it_names(
    admin: Client, user: User, asked: dict[str, str], target: tuple[str, str]
) -> None:
    socket("a", user)
    asked = {name: text.format(user=user.pk) for name, text in asked.items()}
    html = page(admin, f"{DISCONNECT}?{urlencode(asked)}")
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html))
    response = admin.post(DISCONNECT, {**hidden, "reason": "floods the lobby"}, follow=True)
    assert ended() == {(target[0], target[1].format(user=user.pk), "disconnected")}
    assert len(said(response)) == 1
    written = AuditEvent.objects.get()
    assert (written.kind, written.reason) == ("connection.disconnected", "floods the lobby")
    assert (written.actor, written.actor_from) == ("root", OPERATOR)


def test_the_message_says_whom_and_how_many(admin: Client, user: User) -> None:
    socket("one", user)
    socket("two", user)
    response = admin.post(DISCONNECT, {"user": user.pk}, follow=True)
    assert said(response) == ["Disconnecting alice: 2 connections end within a second or two."]
    assert AuditEvent.objects.get().reason == "disconnected"


@pytest.mark.parametrize("word", ["blocked", "session_ended", "credentials_revoked"])
def test_a_word_of_the_protocol_is_no_reason(admin: Client, user: User, word: str) -> None:
    html = admin.post(DISCONNECT, {"user": user.pk, "reason": word}).content.decode()
    assert "say it in other words" in html
    assert not Revocation.objects.exists()
    assert f'name="user" value="{user.pk}"' in html


def test_a_reason_is_no_longer_than_the_trail_can_hold(admin: Client, user: User) -> None:
    html = admin.post(DISCONNECT, {"user": user.pk, "reason": "x" * 257}).content.decode()
    assert "at most 256 characters" in html
    assert not Revocation.objects.exists()


@pytest.mark.parametrize("url", [DISCONNECT, REVOKE])
def test_the_answer_leads_back_to_where_the_button_was(admin: Client, user: User, url: str) -> None:
    back = "/admin/channels_secure/auditevent/?period=1h"
    html = page(admin, f"{url}?{urlencode({'user': user.pk, 'next': back})}")
    assert f'href="{back}"' in unescape(html)
    assert admin.post(url, {"user": user.pk, "next": back}).headers["Location"] == back


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
@pytest.mark.parametrize("url", [DISCONNECT, REVOKE])
def test_no_address_leads_away_from_the_site(admin: Client, user: User, url: str, elsewhere: str) -> None:
    html = page(admin, f"{url}?{urlencode({'user': user.pk, 'next': elsewhere})}")
    assert "evil" not in html
    assert "javascript:" not in html
    assert admin.post(url, {"user": user.pk, "next": elsewhere}).headers["Location"] == LIST
    assert admin.post(url, {"user": "x", "next": elsewhere}).headers["Location"] == LIST


def test_over_tls_no_address_leads_to_plain_http(admin: Client, user: User) -> None:
    asked = {"user": user.pk, "next": "http://testserver/admin/"}
    assert admin.post(DISCONNECT, asked, secure=True).headers["Location"] == LIST


# Selected rows -------------------------------------------------------------------------------------------------------


def selected(*names: str, **more: str) -> dict[str, Any]:
    return {"action": "disconnect_selected", "_selected_action": list(names), **more}


def test_selected_connections_are_ended_after_a_question(admin: Client, user: User) -> None:
    for name in ("one", "two", "three"):
        socket(name, user)
    html = admin.post(LIST, selected("one", "two")).content.decode()
    assert "This closes 2 connections of 1 user." in html
    assert not Revocation.objects.exists()
    fields: dict[str, Any] = {"_selected_action": re.findall(r'name="_selected_action" value="(\w+)"', html)}
    fields |= dict(re.findall(r'name="(action|confirmed)" value="(\w+)"', html))
    response = admin.post(LIST, {**fields, "reason": "spam"}, follow=True)
    assert ended() == {("connection", "one", "disconnected"), ("connection", "two", "disconnected")}
    assert said(response) == ["2 connections end within a second or two."]
    written = AuditEvent.objects.filter(reason="spam", actor="root", actor_from=OPERATOR)
    assert {one.connection_id for one in written} == {"one", "two"}


def test_selected_connections_that_have_ended_meanwhile_are_left_out(admin: Client, user: User) -> None:
    socket("one", user)
    admin.post(LIST, selected("one", "gone", confirmed="yes"))
    assert ended() == {("connection", "one", "disconnected")}


def test_more_than_a_hundred_rows_are_too_many(admin: Client, user: User) -> None:
    sockets(101, user)
    response = admin.post(LIST, selected("many-0", select_across="1", confirmed="yes"), follow=True)
    assert said(response) == ["At most 100 at once: disconnect a user or an address instead."]
    assert not Revocation.objects.exists()
    LiveConnection.objects.get(pk="many-100").delete()
    admin.post(LIST, selected("many-0", select_across="1", confirmed="yes"))
    assert len(ended()) == 100


def test_a_hundred_rows_are_one_change_or_none(admin: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    socket("one", user)
    socket("two", user)
    real = disconnecting.disconnect

    def fail_at_the_second(**options: Any) -> None:
        if Revocation.objects.exists():
            raise RuntimeError
        real(**options)

    monkeypatch.setattr(disconnecting, "disconnect", fail_at_the_second)
    with pytest.raises(RuntimeError):
        admin.post(LIST, selected("one", "two", confirmed="yes"))
    assert not Revocation.objects.exists()
    assert not AuditEvent.objects.exists()


# Tokens --------------------------------------------------------------------------------------------------------------


def test_a_users_tokens_are_revoked_after_a_question(admin: Client, user: User) -> None:
    html = page(admin, f"{REVOKE}?user={user.pk}")
    assert "Revoke the tokens of alice?" in html
    response = admin.post(REVOKE, {"user": user.pk}, follow=True)
    assert said(response) == ["The tokens of alice are revoked."]
    assert ended() == {("user", str(user.pk), "credentials_revoked")}
    written = AuditEvent.objects.get()
    assert (written.kind, written.user, written.actor, written.actor_from) == (
        "tokens.revoked",
        user,
        "root",
        OPERATOR,
    )


@pytest.mark.parametrize("asked", [{}, {"user": "x"}, {"ip": "203.0.113.7"}], ids=str)
@pytest.mark.parametrize("method", ["get", "post"])
def test_tokens_of_nobody_are_not_revoked(admin: Client, method: str, asked: dict[str, str]) -> None:
    response = getattr(admin, method)(REVOKE, asked, follow=True)
    assert response.redirect_chain == [(LIST, 302)]
    assert not Revocation.objects.exists()


def test_where_there_are_no_tokens_nobody_may_revoke_any(
    admin: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels_secure.auth.simplejwt.is_installed", lambda: False)
    assert admin.post(REVOKE, {"user": user.pk}).status_code == 403


# Rights --------------------------------------------------------------------------------------------------------------


def test_every_deed_needs_its_permission(operator_with: Callable[..., Client], user: User) -> None:
    socket("a", user)
    others = operator_with("view_liveconnection", "view_user", "view_auditevent", "add_block", "change_liveconnection")
    for method in ("get", "post"):
        for asked in ({"connection": "a"}, {"user": user.pk}, {"ip": "203.0.113.7"}, {}):
            assert getattr(others, method)(DISCONNECT, asked).status_code == 403
    others.post(LIST, selected("a", confirmed="yes"))
    assert not Revocation.objects.exists()


def test_who_may_disconnect_may_not_revoke(operator_with: Callable[..., Client], user: User) -> None:
    operator = operator_with("disconnect_connection")
    assert operator.post(DISCONNECT, {"user": user.pk}).status_code == 302
    assert len(ended()) == 1
    for method in ("get", "post"):
        assert getattr(operator, method)(REVOKE, {"user": user.pk}).status_code == 403
    assert len(ended()) == 1


def test_who_may_block_may_revoke(operator_with: Callable[..., Client], user: User) -> None:
    assert operator_with("block_subject").post(REVOKE, {"user": user.pk}).status_code == 302
    assert ended() == {("user", str(user.pk), "credentials_revoked")}


def test_strangers_are_asked_to_log_in(client: Client, user: User) -> None:
    for url in (DISCONNECT, REVOKE):
        assert "/login/" in client.post(url, {"user": user.pk}).headers["Location"]
    assert not Revocation.objects.exists()


def test_every_deed_needs_a_csrf_token(root: User, user: User) -> None:
    socket("a", user)
    client = Client(enforce_csrf_checks=True)
    client.force_login(root)
    for url, fields in (
        (DISCONNECT, {"user": user.pk}),
        (REVOKE, {"user": user.pk}),
        (LIST, selected("a", confirmed="yes")),
    ):
        assert client.post(url, fields).status_code == 403
    assert not Revocation.objects.exists()


# The sockets themselves ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_real_socket_hears_of_it(root: User, user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 0.02, "AUDIT_FLUSH_INTERVAL": 0.02}
    open_one = connect(Echo, user=user)
    assert (await open_one.shake_hands()).accepted
    other = connect(Echo)
    assert (await other.shake_hands()).accepted
    admin = await sync_to_async(client_of)(root)
    response = await sync_to_async(admin.post)(
        reverse("admin:channels_secure_liveconnection_disconnect"), {"user": user.pk, "reason": "floods"}
    )
    assert response.status_code == 302
    assert await told(open_one) == ("disconnected", 4440)
    await other.send_json_to("here")
    assert await other.receive_json_from() == "here"
    await other.disconnect()
