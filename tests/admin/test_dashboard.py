"""The dashboard, through Django's own test client: what it shows, to whom, and where it leads."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin import site as default_site
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client, override_settings
from django.urls import path, reverse
from django.utils import timezone

from channels_secure.admin import AuditEventAdmin, figures, ranking
from channels_secure.admin.dashboard import LATEST
from channels_secure.admin.periods import PERIODS
from channels_secure.models import AuditEvent, AuditRollup, Block, LiveConnection, LiveProcess
from tests.admin.conftest import event, page
from tests.conftest import MakeUser

PAGE = "/admin/channels_secure/auditevent/dashboard/"
EVENTS = "/admin/channels_secure/auditevent/"
BLOCKS = "/admin/channels_secure/block/"
CONNECTIONS = "/admin/channels_secure/liveconnection/"
HOSTILE = "\"'><script>alert(1)</script>"

pytestmark = pytest.mark.django_db


class Reader(HTMLParser):
    """The texts of a page by the id, or the part, that they stand in, and its links."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, str] = {}
        self.links: dict[str, list[tuple[str, str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._places: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.append((tag, facts))
        place = facts.get("id") or facts.get("data-cs-part") or ""
        self._places.append((tag, place))
        if tag == "a":
            for name in self._within():
                self.links.setdefault(name, []).append((facts.get("href") or "", ""))

    def handle_data(self, data: str) -> None:
        for name in self._within():
            self.texts[name] = " ".join(f"{self.texts.get(name, '')} {data}".split())
        if any(tag == "a" for tag, _ in self._places):
            for name in self._within():
                href, text = self.links[name][-1]
                self.links[name][-1] = (href, " ".join(f"{text} {data}".split()))

    def handle_endtag(self, tag: str) -> None:
        while self._places:
            if self._places.pop()[0] == tag:
                break

    def _within(self) -> list[str]:
        return [name for _, name in self._places if name]


def read(client: Client, **asked: str) -> Reader:
    response = client.get(PAGE, asked)
    assert response.status_code == 200
    return Reader(response.content.decode())


def rollup(ago: timedelta, kind: str, events: int, reason: str = "") -> None:
    hour = (timezone.now() - ago).replace(minute=0, second=0, microsecond=0)
    AuditRollup.objects.create(hour=hour, kind=kind, reason=reason, events=events, rows=1)


def connect(user: User | None, number: int, process: LiveProcess) -> None:
    LiveConnection.objects.create(
        connection_id=f"c{number}", process=process, user=user, ip="203.0.113.7", opened_at=timezone.now()
    )


def process(key: str = "one", seconds: float = 60) -> LiveProcess:
    until = timezone.now() + timedelta(seconds=seconds)
    return LiveProcess.objects.create(id=key, host="web", pid=1, lease_until=until)


def allow(*codenames: str) -> None:
    """Give the operator of `operator_with` more permissions."""
    operator = User.objects.get(username="operator")
    operator.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


# Who may look --------------------------------------------------------------------------------------------------------


def test_the_dashboard_needs_its_permission(operator_with: Callable[..., Client], client: Client) -> None:
    blind = operator_with("view_auditevent", "view_block", "block_subject", "view_liveconnection")
    for url in (PAGE, f"{PAGE}?part=1"):
        assert blind.get(url).status_code == 403
        assert client.get(url).status_code == 302
    allow("view_dashboard")
    for url in (PAGE, f"{PAGE}?part=1"):
        assert blind.get(url).status_code == 200


def test_the_dashboard_is_only_looked_at(admin: Client) -> None:
    for ask in (admin.post, admin.put, admin.delete):
        assert ask(PAGE).status_code == 405


def test_who_may_see_no_more_finds_no_link_that_leads_nowhere(operator_with: Callable[..., Client], user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7", origin="https://evil.example")
    Block.objects.create(network="203.0.113.0/24")
    connect(user, 1, process())
    viewer = operator_with("view_dashboard")
    html = page(viewer, PAGE)
    for shown in ("alice", "203.0.113.7", "https://evil.example", "origin_not_allowed", ">Blocked<"):
        assert shown in html
    for href in re.findall(r'href="([^"]+)"', html):
        target = unescape(href)
        if target.startswith(("/admin/channels_secure/", "?")):
            assert viewer.get(target if target.startswith("/") else PAGE + target).status_code == 200, target


@pytest.mark.parametrize(
    ("codename", "prefix"),
    [("view_auditevent", f"{EVENTS}?"), ("view_block", f"{BLOCKS}?"), ("view_liveconnection", CONNECTIONS)],
)
def test_a_list_is_linked_for_those_who_may_see_it(
    operator_with: Callable[..., Client], codename: str, prefix: str
) -> None:
    viewer = operator_with("view_dashboard")

    def has_link() -> bool:
        return any(href.startswith(prefix) for href, _ in read(viewer).links.get("tiles", []))

    assert not has_link()
    allow(codename)
    assert has_link()


# What it shows -------------------------------------------------------------------------------------------------------


def test_each_tile_has_its_number_and_leads_to_its_list(admin: Client, user: User, make_user: MakeUser) -> None:
    here, gone = process(), process("gone", seconds=-1)
    for number, whose in enumerate((user, user, make_user("bob"), None)):
        connect(whose, number, here)
    connect(make_user("carol"), 9, gone)
    rollup(timedelta(hours=2), "handshake.denied", 1200, "rate_limited")
    rollup(timedelta(hours=3), "message.denied", 30, "invalid_message")
    rollup(timedelta(hours=3), "connection.accepted", 5000)
    rollup(timedelta(hours=30), "handshake.denied", 123, "rate_limited")
    event(kind="credentials.failed", reason="invalid_credentials", count=4)
    event(kind="store.degraded", reason="", detail={"store": "RedisStore"})
    Block.objects.create(network="203.0.113.7", automatic=True)
    Block.objects.create(user=user, created_at=timezone.now() - timedelta(days=3))
    Block.objects.create(network="203.0.113.8", lifted_at=timezone.now())
    found = read(admin, period="24h")
    tiles = {key: found.texts[f"cs-tile-{key}"] for key in ("live", "users", "refusals", "limits", "blocks", "stores")}
    assert tiles["live"] == "Live connections 4 Live connections in 1 process"
    assert tiles["users"] == "Live users 2 Live users 1 connection without a user"
    assert tiles["refusals"] == (
        "Refusals 1,234 1,200 handshakes 30 messages 4 credentials 10 times as many as in the 24 hours before"
    )
    assert tiles["limits"] == "Rate limits 1,200 Rate limits 9 times as many as in the 24 hours before"
    assert tiles["blocks"] == "Active blocks 2 Active blocks 1 made in the last 24 hours 1 automatic"
    assert re.fullmatch(
        r"Degraded stores 1 Degraded stores RedisStore since \w{3} \d\d:\d\d in 1 process", tiles["stores"]
    )
    assert [href for href, _ in found.links["tiles"]] == [
        CONNECTIONS,
        CONNECTIONS,
        f"{EVENTS}?period=24h&kind=handshake.denied",
        f"{EVENTS}?period=24h&kind=message.denied",
        f"{EVENTS}?period=24h&kind=credentials.failed",
        f"{EVENTS}?period=24h&reason=rate_limited",
        f"{BLOCKS}?state=active",
        f"{EVENTS}?kind=store.degraded",
    ]
    assert "Degraded store: RedisStore since" in found.texts["said"]
    assert "1,234 refusals in the last 24 hours. 10 times as many as in the 24 hours before." in found.texts["said"]
    for href, _ in found.links["tiles"]:
        assert admin.get(href).status_code == 200, href


def test_nothing_yet_is_said_and_not_drawn(admin: Client) -> None:
    html = page(admin, PAGE)
    found = Reader(html)
    assert "Nothing was refused in the last 24 hours." in found.texts["said"]
    assert "Nothing happened in this time." in found.texts["chart"]
    assert "There are no events yet." in found.texts["latest"]
    assert found.texts["cs-tile-stores"] == "Degraded stores 0 Degraded stores All stores answer"
    assert found.texts["tops"].count("None") == 5
    assert "cs-chart" not in html


@pytest.mark.parametrize(
    ("asked", "chosen"), [({}, "24h"), ({"period": "1h"}, "1h"), ({"period": "30d"}, "30d"), ({"period": "<b>"}, "24h")]
)
def test_the_period_is_chosen_by_a_link(admin: Client, asked: dict[str, str], chosen: str) -> None:
    found = read(admin, **asked)
    links = [facts for tag, facts in found.tags if tag == "a" and (facts.get("href") or "").startswith("?period=")]
    current = [facts["href"] for facts in links if facts.get("aria-current") == "page"]
    assert current == [f"?period={chosen}"]
    assert {f"?period={key}" for key in ("1h", "24h", "7d", "30d")} <= {facts["href"] for facts in links}


def test_an_older_event_is_in_a_longer_period_only(admin: Client) -> None:
    event(ip="203.0.113.7", count=5, created_at=timezone.now() - timedelta(days=3))
    for period, is_in in (("1h", False), ("24h", False), ("7d", True), ("30d", True)):
        found = read(admin, period=period)
        assert ("203.0.113.7" in found.texts["tops"]) is is_in
        assert (" 5 refusals in the last" in f" {found.texts['said']}") is is_in


def test_the_chart_has_a_title_for_each_segment_and_a_table_that_says_the_same(admin: Client) -> None:
    rollup(timedelta(hours=2), "handshake.denied", 1200)
    rollup(timedelta(hours=2), "connection.accepted", 7)
    rollup(timedelta(hours=5), "ticket.issued", 3)
    html = page(admin, PAGE)
    number = r"[\d.]+"
    place = rf'x="{number}%" y="{number}" width="{number}%" height="{number}"'
    fill = r'fill="url\(#cs-pattern-(\w+)\)"'
    segments = re.findall(rf'<rect class="cs-segment" {place} {fill}><title>([^<]+)</title>', html)
    assert [(pattern, title.partition(", ")[2]) for pattern, title in segments] == [
        ("others", "everything else: 3"),
        ("handshakes", "handshakes refused: 1,200"),
        ("accepted", "connections accepted: 7"),
    ]
    assert all(f'id="cs-pattern-{pattern}"' in html for pattern, _ in segments)
    table = re.search(r"<details.*?</details>", html, re.DOTALL)
    assert table is not None
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table[0])
    assert cells == ["1,200", "7", "0", "1,207", "0", "0", "3", "3"]
    assert table[0].count('scope="row"') == 2


def test_the_last_events_lead_to_their_pages(admin: Client, user: User) -> None:
    now = timezone.now()
    rows = [event(path=f"/{number}/", created_at=now - timedelta(minutes=number)) for number in range(LATEST + 5)]
    event(user=user, username="alice", ip="203.0.113.7", path="/ws/", count=1234, created_at=now)
    found = read(admin)
    latest = found.texts["latest"]
    assert "handshake denied origin_not_allowed alice 203.0.113.7 /ws/ 1,234" in latest
    hrefs = [href for href, _ in found.links["latest"]]
    assert hrefs[1:-1] == [f"{EVENTS}{row.pk}/change/" for row in rows[: LATEST - 1]]
    assert hrefs[-1] == f"{EVENTS}?period=24h"


def test_too_many_rows_are_said_not_to_be_all(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    for minute in range(4):
        event(ip="203.0.113.7", created_at=now - timedelta(minutes=minute))
    monkeypatch.setattr(ranking, "REACH", 2)
    monkeypatch.setattr("channels_secure.admin.dashboard.REACH", 2)
    assert "Of the newest 2 rows, since" in read(admin).texts["tops"]
    monkeypatch.setattr(figures, "REACH", 2)
    found = read(admin, period="1h")
    assert "Too many to count by the minute" in found.texts["chart"]
    assert "2+ refusals in the last hour." in found.texts["said"]
    assert found.texts["cs-tile-refusals"].startswith("Refusals 2+ ")


# Blocking ------------------------------------------------------------------------------------------------------------


def offers(found: Reader, top: str) -> list[tuple[str, str]]:
    return [(href, text) for href, text in found.links.get(f"cs-top-{top}", []) if text.startswith("Block")]


def test_who_stands_out_can_be_blocked_from_there(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="2001:db8:1:2::9", origin="https://evil.example")
    found = read(admin, period="7d")
    asked = {
        top: [parse_qs(urlsplit(href).query) for href, _ in offers(found, top)]
        for top in ("users", "addresses", "networks", "origins", "reasons")
    }
    back = [f"{PAGE}?period=7d"]
    assert asked == {
        "users": [{"user": [str(user.pk)], "next": back}],
        "addresses": [{"network": ["2001:db8:1:2::/64"], "next": back}],
        "networks": [{"network": ["2001:db8:1::/48"], "next": back}],
        "origins": [],
        "reasons": [],
    }
    for top in ("users", "addresses", "networks"):
        ((href, text),) = offers(found, top)
        assert urlsplit(href).path == f"{BLOCKS}add/"
        assert text != "Block"
        assert admin.get(href).status_code == 200


def test_who_may_not_block_has_no_button(operator_with: Callable[..., Client], user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7")
    viewer = operator_with("view_dashboard", "view_auditevent", "view_block")
    html = page(viewer, PAGE)
    assert "/block/add/" not in html
    assert ">Block<" not in html


def test_who_is_blocked_already_leads_to_the_block(admin: Client, user: User, make_user: MakeUser) -> None:
    event(user=user, username="alice", ip="203.0.113.7")
    event(user=make_user("bob"), username="bob", ip="198.51.100.1")
    person, network = Block.objects.create(user=user), Block.objects.create(network="203.0.0.0/16")
    found = read(admin)
    assert f"{BLOCKS}{person.pk}/change/" in [href for href, _ in offers(found, "users")]
    for top, name in (("addresses", "203.0.113.7"), ("networks", "203.0.113.0/24")):
        offered = {text: href for href, text in offers(found, top)}
        assert offered[f"Blocked {name}"] == f"{BLOCKS}{network.pk}/change/"
        assert sum(text.startswith("Block ") for text in offered) == 1


def test_whose_block_is_over_can_be_blocked_again(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7")
    Block.objects.create(user=user, lifted_at=timezone.now())
    Block.objects.create(network="203.0.113.7", expires_at=timezone.now() - timedelta(seconds=1))
    found = read(admin)
    assert [text for top in ("users", "addresses") for _, text in offers(found, top)] == [
        "Block alice",
        "Block 203.0.113.7",
    ]


@pytest.mark.parametrize("ip", ["", "127.0.0.1", "nonsense", HOSTILE[:64]])
def test_what_cannot_be_blocked_has_no_button(admin: Client, ip: str) -> None:
    event(username="gone", ip=ip)
    found = read(admin)
    assert offers(found, "users") + offers(found, "addresses") + offers(found, "networks") == []


# Part by part --------------------------------------------------------------------------------------------------------


def test_a_part_is_what_the_page_has_and_nothing_around_it(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7", created_at=timezone.now() - timedelta(minutes=5))
    whole, part = page(admin, PAGE), page(admin, f"{PAGE}?period=24h&part=1")
    assert part.startswith('<div class="cs-parts" data-cs-parts>')
    assert "<html" not in part
    assert "<script" not in part
    names = re.findall(r'data-cs-part="(\w+)"', part)
    assert names == re.findall(r'data-cs-part="(\w+)"', whole) == ["said", "tiles", "chart", "tops", "latest"]
    assert Reader(part).texts["latest"] == Reader(whole).texts["latest"]
    (asked,) = re.findall(r'data-part="([^"]+)"', whole)
    assert unescape(asked) == "?period=24h&part=1"


def test_no_answer_is_kept_by_anybody(admin: Client) -> None:
    for url in (PAGE, f"{PAGE}?part=1"):
        assert "no-store" in admin.get(url).headers["Cache-Control"]


def test_hostile_text_is_shown_as_text(admin: Client, make_user: MakeUser) -> None:
    texts = ("reason", "username", "ip", "path", "origin", "user_agent", "connection_id", "actor")
    event(**dict.fromkeys(texts, HOSTILE), user=make_user("x"), detail={HOSTILE: HOSTILE}, created_at=timezone.now())
    event(kind="store.degraded", reason="", detail={"store": HOSTILE})
    event(kind=HOSTILE[:60], reason="")
    for period in ("1h", "24h"):
        html = page(admin, f"{PAGE}?period={period}")
        assert "<script>alert" not in html
        assert html.count("&lt;script&gt;alert(1)") >= 8


def test_the_page_has_no_inline_script_or_style(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7")
    for period in ("1h", "30d"):
        found = read(admin, period=period, part="1")
        assert [tag for tag, _ in found.tags if tag in {"script", "style", "link"}] == []
        assert [name for _, facts in found.tags for name in facts if name == "style" or name.startswith("on")] == []


def test_the_page_brings_its_script_as_a_file_that_is_there(admin: Client) -> None:
    scripts = [facts for tag, facts in read(admin).tags if tag == "script" and "dashboard" in (facts.get("src") or "")]
    assert [facts["type"] for facts in scripts] == ["module"]
    source = finders.find("channels_secure/dashboard.js")
    assert source is not None
    # Nothing of another origin, and no way for a text to become a tag.
    script = Path(source).read_text()
    assert "http" not in script
    assert re.search(r"innerHTML\s*\+?=[^=]|insertAdjacentHTML|eval|Function", script) is None


def test_every_id_is_unique_and_every_label_is_there(admin: Client, user: User) -> None:
    event(user=user, username="alice", ip="203.0.113.7")
    found = read(admin, part="1")
    ids = [facts["id"] for _, facts in found.tags if "id" in facts]
    assert len(ids) == len(set(ids))
    labels = {name for _, facts in found.tags for name in (facts.get("aria-labelledby") or "").split()}
    assert labels <= set(ids)


# What it costs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", ["1h", "24h"])
def test_a_busy_hour_costs_as_many_queries_as_a_quiet_one(
    admin: Client, make_user: MakeUser, django_assert_num_queries: Any, period: str
) -> None:
    def happen(first: int, last: int) -> None:
        for number in range(first, last):
            somebody = make_user(f"user{number}")
            event(
                user=somebody, username=somebody.username, ip=f"203.{number}.113.7", origin=f"https://{number}.example"
            )
            Block.objects.create(network=f"203.{number}.113.7")
            Block.objects.create(user=somebody)
            connect(somebody, number, here)
            event(kind="store.degraded", reason="", detail={"store": f"store{number}"})

    here = process()
    happen(0, 3)
    admin.get(PAGE)
    # Session and user, the figures (two or three), the period before, who stands out (two), blocks among them, stores
    # (two), live connections, blocks, the last events; and, inside a transaction, a savepoint and its release.
    with django_assert_num_queries(16, exact=False):
        few = admin.get(PAGE, {"period": period})
    happen(3, 30)
    with django_assert_num_queries(16, exact=False):
        many = admin.get(PAGE, {"period": period})
    assert few.content.decode().count(">Blocked<") == 6
    assert many.content.decode().count(">Blocked<") == 16


def test_who_is_gone_is_found_by_the_name_and_not_by_anybodys_key(
    admin: Client, user: User, make_user: MakeUser
) -> None:
    gone = make_user(str(user.pk))
    event(user=gone, username=gone.username, path="/gone/")
    event(user=user, username="alice", kind="connection.accepted", reason="", path="/alice/")
    gone.delete()
    (link,) = [href for href, text in read(admin).links["cs-top-users"] if text == str(user.pk)]
    html = page(admin, link)
    assert "/gone/" in html
    assert "/alice/" not in html


# A database that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["auditevent", "auditrollup", "block", "liveconnection"])
def test_a_database_that_fails_is_said_and_leaves_the_way_to_other_periods(
    admin: Client, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    def misspell(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(sql.replace(f"channels_secure_{table}", "no_such_table"), params, many, context)

    with connection.execute_wrapper(misspell):
        whole, part = admin.get(PAGE), admin.get(PAGE, {"part": "1"})
    html = whole.content.decode()
    assert (whole.status_code, part.status_code, part.content) == (503, 503, b"")
    assert re.search(r'role="alert">What is happening cannot be found out now: the database fails', html)
    assert 'href="?period=7d"' in html
    assert "data-cs-dashboard" not in html
    assert caplog.messages.count("admin.dashboard_failed") == 2
    # The transaction of the test, which the page ran in as with ATOMIC_REQUESTS, is unharmed.
    assert "data-cs-dashboard" in page(admin, PAGE)


# Where it is found ---------------------------------------------------------------------------------------------------


def test_the_apps_page_leads_to_it(admin: Client, operator_with: Callable[..., Client]) -> None:
    index = reverse("admin:app_list", args=["channels_secure"])
    assert f'href="{PAGE}"' in page(admin, index)
    assert PAGE not in page(operator_with("view_auditevent"), index)


@pytest.mark.parametrize("listed", [EVENTS, BLOCKS, CONNECTIONS])
def test_the_lists_lead_to_it(admin: Client, operator_with: Callable[..., Client], listed: str) -> None:
    assert f'href="{PAGE}"' in page(admin, listed)
    assert PAGE not in page(operator_with("view_auditevent", "view_block", "view_liveconnection"), listed)


def test_another_site_has_a_dashboard_of_its_own_with_the_lists_that_it_has(root: User) -> None:
    # Django's, or unfold's.
    site: AdminSite = default_site.__class__(name="other")
    site.register(AuditEvent, AuditEventAdmin)
    urls = type("urls", (), {"urlpatterns": [*_patterns(site)]})
    with override_settings(ROOT_URLCONF=urls):
        client = Client()
        client.force_login(root)
        event(user=root, username="root", ip="203.0.113.7")
        html = page(client, "/other/channels_secure/auditevent/dashboard/")
    assert 'href="/other/channels_secure/auditevent/?period=24h' in html
    assert "/block/" not in html
    assert "/liveconnection/" not in html


def test_another_site_has_the_trail_without_the_blocks(root: User, user: User) -> None:
    site: AdminSite = default_site.__class__(name="other")
    site.register(AuditEvent, AuditEventAdmin)
    urls = type("urls", (), {"urlpatterns": [*_patterns(site)]})
    rows = [event(user=user, username="alice", ip="203.0.113.7"), event(ip="203.0.113.8")]
    Block.objects.create(network="203.0.113.8/32")
    with override_settings(ROOT_URLCONF=urls):
        client = Client()
        client.force_login(root)
        pages = [page(client, EVENTS.replace("/admin/", "/other/"))]
        pages += [page(client, f"/other/channels_secure/auditevent/{row.pk}/change/") for row in rows]
    assert "Address blocked" in pages[0]
    assert "Blocked now" in pages[2]
    for html in pages:
        assert "/block/" not in html
        assert "Block address" not in html


def _patterns(site: AdminSite) -> list[Any]:
    return [path("other/", site.urls)]


def test_it_opens_in_a_project_without_time_zones(admin: Client) -> None:
    with override_settings(USE_TZ=False):
        rollup(timedelta(hours=2), "handshake.denied", 1200)
        event(count=34)
        for period in PERIODS:
            assert "1,234" in read(admin, period=period).texts["said"] or period == "1h"
