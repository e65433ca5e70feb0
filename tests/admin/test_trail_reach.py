"""The list of events on a long trail: what it reads, how far it leads, and whom it lets export."""

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_secure.admin import paging
from channels_secure.audit import exporting
from channels_secure.models import AuditEvent
from tests.admin.conftest import OPERATOR, client_of, event
from tests.admin.trail import EVENTS, EXPORT, MOMENT, events, link, look, shown
from tests.conftest import MakeUser

TABLE = AuditEvent._meta.db_table

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader(staff: Callable[..., User]) -> Client:
    return client_of(staff("view_auditevent"))


@pytest.fixture
def exporter(staff: Callable[..., User]) -> Client:
    return client_of(staff("view_auditevent", "export_audit"))


# Pages ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "REACH", 100)


def test_nothing_is_counted_further_than_pages_lead(reader: Client, short_reach: None) -> None:
    events(130)
    with CaptureQueriesContext(connection) as asked:
        html = look(reader)
    counts = [query["sql"] for query in asked if "COUNT(" in query["sql"] and "ORDER BY" in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 101" in counts[0]
    assert "There are more than these 100." in html
    assert "100 results" not in html


def test_what_can_be_reached_is_counted_exactly(reader: Client, short_reach: None) -> None:
    events(100)
    html = look(reader)
    assert "There are more" not in html
    assert "100 audit events" in html
    assert not link(look(reader, p=2), "Older")


def test_pages_and_the_link_to_older_ones_lead_to_every_event_once(reader: Client, short_reach: None) -> None:
    events(230)
    seen, html = shown(look(reader)), look(reader, p=2)
    assert not link(look(reader), "Older")
    while older := link(html, "Older"):
        seen += shown(html)
        html = look(reader, older)
        seen += shown(html)
        html = look(reader, f"{older}&p=2")
    assert seen == list(range(200)) + list(range(200, 230))


def test_events_of_one_moment_are_told_apart_by_their_order(reader: Client, short_reach: None) -> None:
    events(120, created_at=MOMENT)
    first = [*shown(look(reader)), *shown(look(reader, p=2))]
    rest = shown(look(reader, link(look(reader, p=2), "Older")))
    assert sorted([*first, *rest]) == list(range(120))


def test_what_is_older_keeps_the_filters_and_a_new_filter_begins_anew(reader: Client, short_reach: None) -> None:
    events(130)
    events(10, kind="message.denied")
    older = link(look(reader, kind__exact="handshake.denied", p=2), "Older")
    html = look(reader, older)
    assert shown(html) == list(range(100, 130))
    assert link(html, "Newest") == "?kind__exact=handshake.denied"
    others = set(re.findall(r'href="(\?[^"]*)"', html))
    assert len(others) > 10
    assert not [other for other in others if "before" in other]
    assert 'name="before"' not in html


def test_pages_of_what_is_older_stay_there(reader: Client, short_reach: None) -> None:
    events(180)
    html = look(reader, link(look(reader, p=2), "Older"))
    second = re.search(r'<a[^>]* href="(\?[^"]*p=2[^"]*)"', html)
    assert second
    assert shown(look(reader, unescape(second[1]))) == list(range(150, 180))


@pytest.mark.parametrize(
    "asked",
    [
        {"p": "3"},
        {"p": "999999999"},
        {"before": "nonsense"},
        {"before": "2026-11-21T09:41:07~1"},
        {"before": "0001-01-01T00:00:00+23:00~1"},
        {"before": f"{MOMENT.isoformat()}~x"},
    ],
)
def test_no_page_lies_beyond_and_nonsense_is_no_page(reader: Client, short_reach: None, asked: dict[str, str]) -> None:
    events(130)
    response = reader.get(EVENTS, asked)
    assert response.status_code == 302
    assert response.headers["Location"].endswith("?e=1")


@pytest.mark.parametrize("order", ["1", "-1", "2", "3", "4", "-4", "1.0", "99", "x"])
def test_no_address_makes_the_database_sort_the_table(reader: Client, order: str) -> None:
    events(10, kind="message.denied")
    events(10)
    with CaptureQueriesContext(connection) as asked:
        look(reader, o=order)
    orders = {found for query in asked for found in re.findall(r"ORDER BY .*", query["sql"]) if TABLE in query["sql"]}
    assert orders
    assert all("created_at" in found.split(",")[0] for found in orders)


def test_the_oldest_can_come_first(reader: Client) -> None:
    events(3)
    assert shown(look(reader, o="0")) == [2, 1, 0]
    assert shown(look(reader, o="-0")) == [0, 1, 2]


@pytest.mark.parametrize("lookup", ["path__icontains", "detail__contains", "username__contains", "count__gte", "actor"])
def test_what_has_no_index_cannot_be_asked_for(reader: Client, lookup: str) -> None:
    assert reader.get(EVENTS, {lookup: "1"}).status_code == 400


# Plans ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_scans() -> None:
    """Let PostgreSQL show which plan it has for a long table: for a short one it reads the table."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for way in ("seqscan", "sort", "bitmapscan"):
                cursor.execute(f"SET LOCAL enable_{way} = off")


def plan(sql: str) -> str:
    words = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{words} {sql}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def plans(client: Client, **asked: Any) -> list[str]:
    """The plans of a page's own queries for events, without those for the state of the chain."""
    with CaptureQueriesContext(connection) as queries:
        look(client, **asked)
    of_events = [query["sql"] for query in queries if f'FROM "{TABLE}"' in query["sql"]]
    return [plan(sql) for sql in of_events if '"position" ' not in sql.partition("WHERE")[2]]


ASKED: list[dict[str, str]] = [
    {},
    {"kind__exact": "handshake.denied"},
    {"reason": "rate_limited"},
    {"kind__exact": "handshake.denied", "reason": "rate_limited"},
    {"period": "24h"},
    {"period": "24h", "kind__exact": "handshake.denied"},
    {"q": "alice"},
    {"q": "203.0.113.7"},
    {"o": "0"},
    {"p": "2"},
    {"before": f"{MOMENT.isoformat()}~1000000"},
    {"before": f"{MOMENT.isoformat()}~1000000", "kind__exact": "handshake.denied"},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_an_index_has_every_list_in_order(reader: Client, without_scans: None, asked: dict[str, str]) -> None:
    events(120, username="alice", ip="203.0.113.7", reason="rate_limited", created_at=timezone.now())
    found = plans(reader, **asked)
    assert len(found) >= 2
    for shape in found:
        assert "cs_audit_" in shape
        assert "B-TREE" not in shape
        assert not re.search(r"Sort|Seq Scan|Bitmap", shape.replace("Incremental Sort", "Sort"))
        assert not re.search(rf"SCAN {TABLE}(?! USING)", shape)


def test_an_index_finds_the_beginning_of_a_connection(reader: Client, without_scans: None) -> None:
    events(120)
    event(connection_id="abcdef")
    found = plans(reader, q="abc")
    assert any("cs_audit_connection" in shape for shape in found)
    # SQLite's SCAN with an index is the whole index.
    assert not [shape for shape in found if re.search(rf"Seq Scan|SCAN {TABLE}", shape)]


def test_the_beginning_of_a_connection_has_three_characters(reader: Client) -> None:
    event(connection_id="abcdef", path="/1/")
    assert shown(look(reader, q="abc")) == [1]
    assert shown(look(reader, q="ab")) == []


@pytest.mark.parametrize("sign", ["%", "_", "\\", "'", "é"])
def test_no_sign_stands_for_others(reader: Client, sign: str) -> None:
    event(connection_id="abcdef", path="/1/")
    event(connection_id=f"abc{sign}f", path="/2/")
    assert shown(look(reader, q=f"abc{sign}")) == [2]


# Rows of users who are gone ------------------------------------------------------------------------------------------


def test_a_user_who_is_gone_breaks_no_page(staff: Callable[..., User]) -> None:
    client = client_of(staff("view_auditevent", "export_audit", "add_block", "view_block"))
    one = event(user_id=4_000_000, user_key="4000000", username="gone", ip="203.0.113.7", path="/1/")
    assert shown(look(client)) == shown(look(client, q="gone")) == shown(look(client, user="4000000")) == [1]
    detail = client.get(f"{EVENTS}{one.pk}/change/")
    assert detail.status_code == 200
    assert b"gone" in detail.content
    exported = b"".join(client.post(EXPORT, {"format": "ndjson"}).streaming_content)
    assert json.loads(exported)["user.name"] == "gone"


# Exports -------------------------------------------------------------------------------------------------------------


def names(content: bytes) -> list[str]:
    return [json.loads(line)["url.path"] for line in content.splitlines()]


def test_the_list_is_exported_with_its_filters_and_its_search(exporter: Client) -> None:
    events(3, username="alice")
    events(2, username="alice", kind="message.denied")
    events(2, username="bob")
    html = look(exporter, q="alice", kind__exact="handshake.denied")
    action = re.search(r'<form method="post" action="([^"]*export[^"]*)"', html)
    assert action
    response = exporter.post(unescape(action[1]), {"format": "ndjson"})
    assert names(b"".join(response.streaming_content)) == ["/2/", "/1/", "/0/"]
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert re.fullmatch(r'attachment; filename="audit-\d{8}T\d{6}Z\.ndjson"', response.headers["Content-Disposition"])
    assert "no-store" in response.headers["Cache-Control"]


def test_an_export_is_in_the_trail_before_its_first_row_is_sent(exporter: Client) -> None:
    events(3)
    response = exporter.post(f"{EXPORT}?kind__exact=handshake.denied", {"format": "csv"})
    noted = AuditEvent.objects.get(kind="audit.exported")
    assert (noted.actor, noted.username, noted.ip, noted.path) == ("operator", "operator", OPERATOR, EXPORT)
    assert noted.detail == {"format": "csv", "rows": 3, "filters": {"kind__exact": "handshake.denied"}}
    assert len(b"".join(response.streaming_content).splitlines()) == 4


def test_what_cannot_be_noted_is_not_exported(exporter: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(exporting, "write", fail)
    with pytest.raises(ConnectionError):
        exporter.post(EXPORT, {"format": "csv"})


def test_exporting_needs_its_permission_and_that_of_reading(staff: Callable[..., User], make_user: MakeUser) -> None:
    events(1)
    staff("view_auditevent")
    for codenames in ((), ("view_auditevent",), ("export_audit",)):
        operator = User.objects.get(username="operator")
        operator.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert client_of(operator).post(EXPORT, {"format": "csv"}).status_code == 403
    stranger = make_user("stranger")
    assert client_of(stranger).post(EXPORT, {"format": "csv"}).status_code == 302
    assert not AuditEvent.objects.filter(kind="audit.exported").exists()


def test_who_may_not_export_is_not_offered_it(reader: Client) -> None:
    assert "export/" not in look(reader)


def test_who_may_export_is_offered_both_formats(exporter: Client) -> None:
    html = look(exporter)
    assert re.findall(r'name="format" value="(\w+)"', html) == ["csv", "ndjson"]


def test_exporting_is_by_post_alone_and_not_from_other_sites(staff: Callable[..., User]) -> None:
    client = client_of(staff("view_auditevent", "export_audit"), enforce_csrf_checks=True)
    assert client.get(EXPORT).status_code == 405
    assert client.post(EXPORT, {"format": "csv"}).status_code == 403
    look(client)
    token = client.cookies["csrftoken"].value
    assert client.post(EXPORT, {"format": "csv", "csrfmiddlewaretoken": token}).status_code == 200


@pytest.mark.parametrize(
    ("query", "shape"), [("", ""), ("", "xml"), ("?before=nonsense", "csv"), ("?path__contains=x", "csv")]
)
def test_what_is_asked_wrongly_is_not_exported(exporter: Client, query: str, shape: str) -> None:
    assert exporter.post(EXPORT + query, {"format": shape}).status_code == 400
    assert not AuditEvent.objects.filter(kind="audit.exported").exists()


def test_a_hostile_query_string_is_text_on_the_page(exporter: Client) -> None:
    html = look(exporter, q='"><script>alert(1)</script>')
    assert "<script>alert" not in html


def test_the_page_needs_no_inline_script_or_style(exporter: Client) -> None:
    events(120)
    html = look(exporter)
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style| style=| on[a-z]+=", html)


@pytest.mark.django_db(transaction=True)
async def test_an_asgi_server_is_given_an_asynchronous_stream(staff: Callable[..., User]) -> None:
    user = await User.objects.acreate_user("root", is_staff=True, is_superuser=True)
    await AuditEvent.objects.abulk_create(
        AuditEvent(kind="handshake.denied", path=f"/{number}/", created_at=MOMENT) for number in range(25)
    )
    client = AsyncClient()
    await client.aforce_login(user)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "PAGE", 10)
        response = await client.post(EXPORT, {"format": "ndjson"})
        assert response.is_async
        pieces = [piece async for piece in response.streaming_content]
    assert len([piece for piece in pieces if piece]) == 3
    assert names(b"".join(pieces)) == [f"/{number}/" for number in range(25)]


def test_a_wsgi_server_is_given_a_synchronous_stream(exporter: Client) -> None:
    assert not exporter.post(EXPORT, {"format": "csv"}).is_async
