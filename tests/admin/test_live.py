"""The open sockets in the admin: which are listed, what is said of them, and who may see it."""

import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from channels_secure.admin.sockets import within
from channels_secure.models import LiveConnection
from tests.admin.conftest import OPERATOR, event, page
from tests.admin.live_rows import process, socket, sockets
from tests.conftest import MakeUser

LIST = "/admin/channels_secure/liveconnection/"
DISCONNECT = f"{LIST}disconnect/"
HOSTILE = "<script>alert(1)</script>"
LAYER = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": ["redis://192.0.2.1"]}}}

pytestmark = pytest.mark.django_db


def detail(name: str) -> str:
    return f"{LIST}{name}/change/"


def shown(client: Client, **asked: str) -> set[str]:
    """The names of the sockets that the list shows, which are in their paths."""
    response = client.get(LIST, asked)
    assert response.status_code == 200, response.headers.get("Location")
    return set(re.findall(r">/ws/(\w+)/<", response.content.decode()))


# The list ------------------------------------------------------------------------------------------------------------


def test_the_list_says_who_where_how_and_since_when(admin: Client, user: User) -> None:
    now = timezone.now()
    socket(
        "a",
        user,
        process=process("web7", pid=4711),
        opened_at=now - timedelta(hours=3),
        heard_at=now - timedelta(seconds=200),
        received=3600,
        violations=7,
        credentials="jwt",
        expires_at=now + timedelta(minutes=5, seconds=30),
    )
    html = re.sub(r"\s+", " ", page(admin, LIST).replace("\xa0", " "))
    for words in ("alice", "203.0.113.7", "/ws/a/", "web7:4711", "3 h ago", "3 min ago", "3,600", "jwt"):
        assert words in html
    assert "20.0/min" in html
    assert "in 5 min</time>" in html
    assert re.search(r"field-violations[^>]*> ?7 ?<", html)
    assert f"{now - timedelta(hours=3):%H:%M:%S}" in html


def test_a_socket_younger_than_a_minute_is_not_said_to_be_faster_than_it_was(admin: Client, user: User) -> None:
    socket("a", user, opened_at=timezone.now() - timedelta(seconds=2), received=10)
    assert "10.0/min" in page(admin, LIST)


def test_sockets_of_dead_processes_are_not_listed(admin: Client, user: User) -> None:
    socket("alive", user)
    socket("lost", user, process=process("dead", is_alive=False))
    assert shown(admin) == {"alive"}
    assert admin.get(detail("lost")).status_code == 302


def test_sockets_of_every_process_are_listed(admin: Client, user: User) -> None:
    socket("one", user, process=process("web1"))
    socket("two", user, process=process("web2"))
    assert shown(admin) == {"one", "two"}
    assert shown(admin, process="web2") == {"two"}


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("alice", {"one"}),
        ("alic", set()),
        ("203.0.113.7", {"one"}),
        ("::ffff:203.0.113.7", {"one"}),
        ("203.0.113.70", set()),
        ("203.0.113.0/24", {"one", "two"}),
        ("203.0.113.0/28", {"one"}),
        ("203.0.0.0/8", {"one", "two"}),
        ("2001:db8::9", {"three"}),
        ("2001:db8::/32", {"three"}),
        ("0.0.0.0/0", {"one", "two"}),
        ("id-1", {"one"}),
        ("id", set()),
        ("", {"one", "two", "three"}),
        ("%", set()),
    ],
)
def test_search_is_exact_or_a_network(admin: Client, user: User, term: str, found: set[str]) -> None:
    socket("id-1", user, path="/ws/one/")
    socket("id-2", path="/ws/two/", ip="203.0.113.77")
    socket("id-3", path="/ws/three/", ip="2001:db8::9")
    assert shown(admin, q=term) == found


ADDRESSES = [
    "9.255.255.255", "10.0.0.0", "10.0.15.255", "10.0.16.0", "10.0.31.255", "10.0.32.0", "10.1.0.0", "100.0.16.1",
    "110.0.0.1", "203.0.113.127", "203.0.113.128", "203.0.113.255", "2001:db8::9", "2001:db8:0:1::9", "2001:db8:1::9",
    "2001:db9::9", "2001:db80::9", "::1", "fe80::1",
]  # fmt: skip
NETWORKS = [
    "0.0.0.0/0", "0.0.0.0/1", "8.0.0.0/6", "10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/15", "10.0.0.0/16", "10.0.16.0/20",
    "203.0.113.0/24", "203.0.113.128/25", "203.0.113.128/31", "203.0.113.128/32", "::/0", "2001:db8::/32",
    "2001:db8::/31", "2001:db8::/48", "2001:db8:0:1::/64", "2001:db8:1::/48", "2001:db8::9/128", "fe80::/10",
]  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_is_searched_as_numbers_though_addresses_are_text(network: str) -> None:
    for number, ip in enumerate(ADDRESSES):
        socket(f"s{number}", ip=ip)
    found = within(LiveConnection.objects.all(), ip_network(network)).values_list("ip", flat=True)
    assert set(found) == {ip for ip in ADDRESSES if ip_address(ip) in ip_network(network)}


def test_an_address_that_is_none_breaks_no_search(admin: Client) -> None:
    socket("a", ip=HOSTILE)
    assert shown(admin, q="203.0.113.0/24") == set()
    assert shown(admin, q="2001:db8::/32") == set()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"by": "session"}, {"one", "two"}),
        ({"by": "jwt"}, {"two"}),
        ({"by": "anonymous"}, {"three"}),
        ({"by": "ticket"}, set()),
        ({"by": "nonsense"}, set()),
        ({"quiet": "1m"}, {"one"}),
        ({"quiet": "5m"}, {"two"}),
        ({"quiet": "30m"}, set()),
        ({"quiet": "nonsense"}, {"one", "two", "three"}),
        ({"violations": "some"}, {"two"}),
        ({"violations": "none"}, {"one", "three"}),
        ({"violations": "nonsense"}, {"one", "two", "three"}),
        ({"by": "session", "violations": "some"}, {"two"}),
        ({"ip": "203.0.113.8"}, {"two"}),
    ],
    ids=str,
)
def test_filters_narrow_the_list(admin: Client, user: User, asked: dict[str, str], found: set[str]) -> None:
    now = timezone.now()
    socket("one", user)
    socket("two", user, ip="203.0.113.8", credentials="session+jwt", violations=2, heard_at=now - timedelta(minutes=6))
    socket("three", heard_at=None)
    assert shown(admin, **asked) == found


def test_the_sockets_of_one_user_can_be_listed(admin: Client, user: User, make_user: MakeUser) -> None:
    socket("one", user)
    socket("two", make_user("bob"))
    assert shown(admin, user=str(user.pk)) == {"one"}


@pytest.mark.parametrize("lookup", ["path__icontains", "user__password__startswith", "session", "process__host"])
def test_nothing_else_can_be_asked_of_the_table(admin: Client, lookup: str) -> None:
    assert admin.get(LIST, {lookup: "a"}).status_code == 400


def test_many_rows_cost_as_many_queries_as_few(admin: Client, user: User, django_assert_max_num_queries: Any) -> None:
    for count in (3, 30):
        LiveConnection.objects.all().delete()
        sockets(count, user)
        with django_assert_max_num_queries(7):
            html = page(admin, LIST)
        assert html.count("/ws/many/") == count


def test_ten_thousand_sockets_make_pages(admin: Client, user: User, django_assert_max_num_queries: Any) -> None:
    sockets(10_000, user)
    with django_assert_max_num_queries(7):
        html = page(admin, LIST)
    assert html.count("/ws/many/") == 50
    assert "10000 live connections" in html
    assert page(admin, f"{LIST}?p=200").count("/ws/many/") == 50
    assert page(admin, f"{LIST}?q=10.0.38.0/24").count("/ws/many/") == 50
    assert "all=" not in html


def test_the_page_says_how_far_it_lags_and_how_others_hear(admin: Client, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 2.5}
    html = page(admin, LIST)
    assert "a second or two late" in html
    assert "every 2.5 seconds" in html
    settings.CHANNELS_SECURE = {}
    assert "looks every second for what to close" in page(admin, LIST)
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 2.5}
    settings.CHANNEL_LAYERS = LAYER
    html = page(admin, LIST)
    assert "at once, over the channel layer" in html
    assert "every 2.5 seconds" not in html


def test_a_channel_layer_that_cannot_be_made_does_not_take_the_page_away(admin: Client, settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}
    assert "looks every second for what to close" in page(admin, LIST)


# One connection ------------------------------------------------------------------------------------------------------


def test_a_connections_page_tells_its_facts_and_last_events(admin: Client, user: User, make_user: MakeUser) -> None:
    socket("a", user, user_agent="Firefox/150", received=12)
    event(connection_id="a", path="/ws/own/")
    event(user=user, path="/ws/earlier/")
    event(user=make_user("bob"), path="/ws/foreign/")
    html = page(admin, detail("a"))
    for words in ("alice", "203.0.113.7", "Firefox/150", "web1:42", "(10 minutes ago)", "/ws/own/", "/ws/earlier/"):
        assert words in html.replace("\xa0", " ")
    assert "/ws/foreign/" not in html
    assert 'name="_save"' not in html


def test_the_events_of_a_connection_are_its_last_and_bounded(
    admin: Client, user: User, django_assert_max_num_queries: Any
) -> None:
    socket("a", user)
    now = timezone.now()
    for number in range(30):
        event(connection_id="a", user=user, path=f"/{number}/", created_at=now - timedelta(seconds=number))
    with django_assert_max_num_queries(7):
        html = page(admin, detail("a"))
    assert set(re.findall(r">/(\d+)/<", html)) == {str(number) for number in range(10)}


def test_a_connections_page_leads_to_every_button(admin: Client, user: User) -> None:
    socket("a", user)
    html = page(admin, detail("a")).replace("&amp;", "&")
    back = "next=%2Fadmin%2Fchannels_secure%2Fliveconnection%2Fa%2Fchange%2F"
    block = "/admin/channels_secure/block/add/"
    for link in (
        f"{DISCONNECT}?connection=a&{back}",
        f"{DISCONNECT}?user={user.pk}&{back}",
        f"{DISCONNECT}?ip=203.0.113.7&{back}",
        f"{block}?user={user.pk}&{back}",
        f"{block}?network=203.0.113.7&{back}",
    ):
        assert f'href="{link}"' in html


def test_an_anonymous_connection_from_an_odd_address_has_the_buttons_that_make_sense(admin: Client) -> None:
    socket("a", ip="127.0.0.1")
    html = page(admin, detail("a"))
    assert f"{DISCONNECT}?ip=127.0.0.1" in html
    assert "?user=" not in html
    assert "network=" not in html


def test_who_comes_for_a_connection_that_has_ended_is_led_to_its_events(admin: Client, operator_with: Any) -> None:
    response = admin.get(detail("gone"))
    assert response.headers["Location"] == "/admin/channels_secure/auditevent/?connection_id=gone"
    response = operator_with("view_liveconnection").get(detail("gone"))
    assert response.headers["Location"] == LIST


@pytest.mark.parametrize("name", ["user", "ip", "process", "by", "quiet", "violations", "q"])
@pytest.mark.parametrize("text", ["\x00", "9" * 19, "-" + "9" * 40, "x" * 10_000, "(", "\u0663", "::/0"])
def test_no_parameter_breaks_the_list(admin: Client, user: User, name: str, text: str) -> None:
    socket("a", user)
    assert admin.get(LIST, {name: text}).status_code in {200, 302}


def test_an_id_that_no_database_could_look_for_is_that_of_no_connection(admin: Client) -> None:
    assert admin.get(detail("%00")).status_code == 302
    assert admin.get(detail("x" * 5000)).status_code == 302


# Who may see what ----------------------------------------------------------------------------------------------------


def test_a_viewer_sees_connections_and_no_buttons(operator_with: Callable[..., Client], user: User) -> None:
    socket("a", user)
    event(connection_id="a", path="/ws/secret/")
    viewer = operator_with("view_liveconnection")
    for url in (LIST, detail("a")):
        html = page(viewer, url)
        assert "alice" in html
        assert "Disconnect" not in html.replace("Disconnecting", "")
        assert "disconnect_selected" not in html
        assert "block/add" not in html
        assert "/ws/secret/" not in html


def test_who_may_disconnect_may_also_look(operator_with: Callable[..., Client], user: User) -> None:
    socket("a", user)
    operator = operator_with("disconnect_connection")
    assert f"{DISCONNECT}?connection=a" in page(operator, LIST)
    assert "disconnect_selected" in page(operator, LIST)
    assert page(operator, "/admin/").count("/liveconnection/") >= 1


def test_others_see_nothing(operator_with: Callable[..., Client], user: User) -> None:
    socket("a", user)
    nobody = operator_with("view_block")
    for url in (LIST, detail("a"), DISCONNECT, f"{LIST}revoke/"):
        page(nobody, url, status=403)
    assert "liveconnection" not in page(nobody, "/admin/")


def test_rows_are_neither_made_nor_changed_nor_deleted(admin: Client, user: User) -> None:
    row = socket("a", user)
    for url in (f"{LIST}add/", detail("a"), f"{LIST}a/delete/"):
        assert admin.post(url, {"path": "/other/", "post": "yes"}).status_code == 403
    admin.post(LIST, {"action": "delete_selected", "_selected_action": ["a"], "post": "yes"})
    assert LiveConnection.objects.get().path == row.path


def test_whoever_may_delete_a_user_may_do_so_while_they_are_connected(
    operator_with: Callable[..., Client], user: User
) -> None:
    socket("a", user)
    operator = operator_with("delete_user", "view_user")
    url = f"/admin/auth/user/{user.pk}/delete/"
    assert operator.post(url, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=user.pk).exists()
    assert not LiveConnection.objects.exists()


# Hostile texts -------------------------------------------------------------------------------------------------------


def test_every_text_is_inert(admin: Client, make_user: MakeUser) -> None:
    row = socket(
        f"a{HOSTILE}",
        make_user(HOSTILE),
        process=process(HOSTILE),
        ip=HOSTILE,
        path=HOSTILE,
        user_agent=HOSTILE,
        credentials=HOSTILE,
    )
    event(connection_id=row.pk, user=row.user, **dict.fromkeys(("path", "ip", "reason"), HOSTILE))
    change = reverse("admin:channels_secure_liveconnection_change", args=[quote(row.pk)])
    for url in (LIST, change, f"{DISCONNECT}?user={row.user_id}"):
        html = page(admin, url)
        assert HOSTILE not in html
        assert "&lt;script&gt;" in html


def test_every_page_has_its_styles_and_none_in_its_text(admin: Client, user: User) -> None:
    socket("a", user)
    event(connection_id="a")
    for url in (LIST, detail("a"), f"{DISCONNECT}?connection=a", f"{LIST}revoke/?user={user.pk}"):
        html = page(admin, url)
        assert "channels_secure/admin.css" in html
        # A theme may need some of its own; whether a strict policy holds is seen in a browser.
        assert re.findall(r"<[^>]*cs-[^>]*\s(?:style|on[a-z]+)=", html) == []


def test_the_operators_own_address_is_not_theirs_alone(admin: Client) -> None:
    socket("a", ip=OPERATOR)
    assert "1 of them is your own, or comes from your address." in page(admin, f"{DISCONNECT}?connection=a")
