"""The list of events: from when until when, in which network, blocked or not; and what it says of itself."""

import re
from collections.abc import Callable
from html import unescape
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.admin import networks, paging
from channels_secure.admin.networks import Networks, beginning, network_in
from channels_secure.admin.ranges import moment_in
from channels_secure.models import AuditEvent, Block
from channels_secure.policy.addresses import IPNetwork
from tests.admin.trail import EVENTS, EXPORT, MOMENT, events, link, look, shown
from tests.conftest import MakeUser

WHOLE = MOMENT.replace(microsecond=0)
HOSTILE = '"><script>alert(1)</script>'

database = pytest.mark.django_db


def fault(html: str) -> str:
    found = re.search(r'role="alert">([^<]*)<', html)
    return unescape(found[1]) if found else ""


# From when until when ------------------------------------------------------------------------------------------------


@database
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"from": "2026-03-05T09:41:05Z"}, [0, 1, 2]),
        ({"to": "2026-03-05T09:41:05Z"}, [3, 4]),
        ({"from": "2026-03-05T09:41:04Z", "to": "2026-03-05T09:41:06Z"}, [2, 3]),
        ({"from": "2026-03-05T10:41:05+01:00"}, [0, 1, 2]),
        ({"from": "2026-03-05T09:41:05"}, [0, 1, 2]),
        ({"from": "2026-03-05T09:41", "to": "2026-03-05T09:42"}, [0, 1, 2, 3, 4]),
        ({"from": "2026-03-05"}, [0, 1, 2, 3, 4]),
        ({"to": "2026-03-05"}, []),
        ({"from": "", "to": " "}, [0, 1, 2, 3, 4]),
        ({"from": "2026-03-05T09:41:05Z", "kind": "message.denied"}, []),
    ],
    ids=str,
)
def test_a_range_begins_with_its_first_moment_and_ends_before_its_last(
    admin: Client, asked: dict[str, str], found: list[int]
) -> None:
    events(5, WHOLE)
    assert shown(look(admin, **asked)) == found


@override_settings(TIME_ZONE="Europe/Berlin")
def test_a_time_without_an_offset_is_the_projects_own() -> None:
    assert moment_in("2026-03-05T10:41:07") == WHOLE
    assert moment_in("2026-03-05T09:41:07Z") == WHOLE


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_a_project_without_time_zones_has_local_times() -> None:
    naive = WHOLE.replace(tzinfo=None, hour=10)
    assert moment_in("2026-03-05T10:41:07") == moment_in("2026-03-05T09:41:07Z") == naive


@database
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"from": "yesterday"}, "“yesterday” is no time"),
        ({"to": HOSTILE}, "is no time"),
        ({"from": "x" * 5000}, f"“{'x' * 40}” is no time"),
        ({"from": "2026-13-40"}, "is no time"),
        ({"from": "0001-01-01T00:00:00+23:00"}, "is no time"),
        ({"to": "9999-12-31T23:59:59-23:00"}, "is no time"),
        ({"from": "2026-03-06", "to": "2026-03-05"}, "ends before it begins"),
        ({"from": "2026-03-05", "to": "2026-03-05"}, "ends before it begins"),
        ({"q": "203.0.113.0/33"}, "/33 is not a prefix length"),
        ({"q": "2001:db8::/x"}, "is not an IP address or network"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_said_and_nothing_else_is_listed_or_exported(
    admin: Client, asked: dict[str, str], said: str
) -> None:
    events(5, WHOLE)
    html = look(admin, **asked)
    assert said in fault(html)
    assert shown(html) == []
    assert HOSTILE not in html
    refused = admin.post(EXPORT, {"format": "csv"}, query_params=asked)
    assert (refused.status_code, refused.headers["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert not AuditEvent.objects.filter(kind="audit.exported").exists()


@database
@pytest.mark.parametrize(
    "asked",
    [
        {"blocked": "maybe"},
        {"kind": HOSTILE},
        {"reason": "x"},
        {"q": "/"},
        {"q": "a/b"},
        {"q": "1.2.3.4/"},
        {"q": "%"},
        {"connection_id": HOSTILE},
        {"from": "2026-03-05", "period": "1h", "blocked": "no", "q": "203.0.113.0/24", "kind": "x", "reason": "y"},
    ],
    ids=ascii,
)
def test_no_parameter_breaks_the_page(admin: Client, asked: dict[str, str]) -> None:
    events(2)
    assert admin.get(EVENTS, asked).status_code == 200


@database
@pytest.mark.parametrize("name", ["kind", "reason", "period", "blocked", "ip", "user", "connection_id", "from", "to"])
def test_what_no_database_could_look_for_is_refused_politely(admin: Client, name: str) -> None:
    assert admin.get(EVENTS, {name: "\x00"}).status_code == 302
    assert admin.get(EVENTS, {name: "9" * 40}).status_code in {200, 302}
    assert admin.get(EVENTS, {name: "9" * 40, "blocked": "no"}).status_code in {200, 302}


@database
def test_a_user_that_is_no_key_is_refused_politely(admin: Client) -> None:
    assert admin.get(EVENTS, {"user": "x"}).status_code == 302


@database
def test_the_range_keeps_the_other_filters_and_they_keep_the_range(admin: Client) -> None:
    events(60, kind="message.denied")
    asked = {"kind": "message.denied", "q": "", "o": "-0", "from": "2026-03-01", "to": "2026-04-01", "period": "7d"}
    html = look(admin, **{**asked, "period": ""})
    form = html[html.index('class="cs-ev-range"') :].partition("</form>")[0]
    assert set(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)) >= {
        ("kind", "message.denied"),
        ("o", "-0"),
    }
    assert 'name="period"' not in form
    assert re.findall(r'value="(2026[^"]*)"', form) == ["2026-03-01T00:00:00", "2026-04-01T00:00:00"]
    links = [unescape(each) for each in re.findall(r'href="(\?[^"]*)"', html)]
    for other in ("blocked=yes", "reason=rate_limited", "p=2"):
        (target,) = {each for each in links if other in re.split("[?&]", each)}
        assert {"from=2026-03-01", "to=2026-04-01", "kind=message.denied"} <= set(re.split("[?&]", target))
    assert link(html, "Last hour") == "?kind=message.denied&o=-0&period=1h&q="
    assert link(html, "Any time") == "?kind=message.denied&o=-0&q="
    assert '<strong aria-current="true">Last 7 days</strong>' in look(admin, period="7d")
    search = html[html.index('id="changelist-search"') :].partition("</form>")[0]
    assert 'name="from" value="2026-03-01"' in search


# Networks ------------------------------------------------------------------------------------------------------------

v4 = st.builds(
    lambda number, length: ip_network((number, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 31)
)
# With many zeros, whose spelling is what is difficult.
groups = st.lists(st.sampled_from([0, 0, 0, 1, 0xDB8, 0x2001, 0xA000, 0xFFFF]), min_size=8, max_size=8)
v6_numbers = st.builds(lambda parts: sum(part << 16 * place for place, part in enumerate(parts)), groups)
v6 = st.builds(
    lambda number, length: ip_network((IPv6Address(number), length), strict=False), v6_numbers, st.integers(0, 127)
)


@given(network=v4 | v6, data=st.data())
def test_what_lies_in_a_network_begins_as_the_network_does(network: IPNetwork, data: st.DataObject) -> None:
    bits = network.max_prefixlen
    numbers = st.integers(0, 2**32 - 1) if bits == 32 else v6_numbers
    host = data.draw(numbers) & int(network.hostmask)
    number = int(network.network_address) | host
    address = IPv4Address(number) if bits == 32 else IPv6Address(number)
    text = str(address.ipv4_mapped or address) if isinstance(address, IPv6Address) else str(address)
    if ":" in text or bits == 32:
        assert text.startswith(beginning(network))
        assert Networks([str(network)]).hold(text)
        if bits == 128:
            sum_of = ip_network((address, max(64, network.prefixlen)), strict=False)
            assert str(sum_of).startswith(beginning(network))


@given(network=v4 | v6, number=st.integers(0, 2**32 - 1) | v6_numbers)
def test_nothing_else_lies_in_it(network: IPNetwork, number: int) -> None:
    address = IPv4Address(number % 2**32) if network.version == 4 else IPv6Address(number)
    is_mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    assert is_mapped or Networks([str(network)]).hold(str(address)) is (address in network)


@pytest.mark.parametrize(
    ("text", "is_in"),
    [
        ("2001:db8::7", True),
        ("2001:db8::/64", True),
        ("2001:db8::/48", True),
        ("2001:db8::/32", False),
        ("2001:db9::7", False),
        ("2001:db8::/x", False),
        ("", False),
        ("<script>", False),
        ("2001:db8::/1000000000000", False),
    ],
)
def test_a_sum_lies_in_a_network_that_is_no_narrower(text: str, is_in: bool) -> None:
    network = network_in("2001:db8::/48")
    assert network is not None
    assert Networks([str(network)]).hold(text) is is_in


LISTED = {
    0: "203.0.113.7",
    1: "203.0.113.200",
    2: "203.0.112.7",
    3: "203.0.11.7",
    4: "2001:db8:1:2::7",
    5: "2001:db8:1:2::/64",
    6: "2001:db8:1:20::7",
    7: "2001:db8::1",
    8: "2001:db8:0:5::1",
    9: "203.0.113.0/24",
    10: "<script>",
    11: "20.30.113.7",
    12: "203.0.113.77/32",
}


@database
@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("203.0.113.0/24", [0, 1, 9, 12]),
        (" 203.0.113.9/24 ", [0, 1, 9, 12]),
        ("203.0.113.0/25", [0, 12]),
        ("203.0.112.0/23", [0, 1, 2, 9, 12]),
        ("203.0.0.0/16", [0, 1, 2, 3, 9, 12]),
        ("203.0.113.7/32", [0]),
        ("203.0.113.77", [12]),
        ("200.0.0.0/5", [0, 1, 2, 3, 9, 12]),
        ("2001:db8:1:2::/64", [4, 5]),
        ("2001:db8:1::/48", [4, 5, 6]),
        ("2001:db8::/48", [7, 8]),
        ("2001:db8::/32", [4, 5, 6, 7, 8]),
        ("2001:db8:1:2::/63", [4, 5]),
        ("::ffff:203.0.113.0/120", [0, 1, 9, 12]),
        ("10.0.0.0/8", []),
    ],
)
def test_a_network_is_searched_for(admin: Client, term: str, found: list[int]) -> None:
    for number, ip in LISTED.items():
        AuditEvent.objects.create(kind="handshake.denied", ip=ip, path=f"/{number}/")
    assert sorted(shown(look(admin, q=term))) == found


@pytest.fixture
def short_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "REACH", 20)


def wander(client: Client, **asked: str) -> tuple[list[int], int]:
    """What all pages show, from the newest to the oldest, and how many there were."""
    html, pages = look(client, **asked), 1
    seen = shown(html)
    while older := link(html, "Older"):
        assert "No index answers this" in html
        html, pages = look(client, older), pages + 1
        seen += shown(html)
    return seen, pages


@database
def test_a_network_with_too_many_events_is_looked_for_from_the_newest_on(admin: Client, short_reach: None) -> None:
    for number, event in enumerate(rows := events(70)):
        event.ip = "203.0.113.7" if number % 2 else "198.51.100.7"
    AuditEvent.objects.bulk_update(rows, ["ip"])
    assert wander(admin, q="203.0.113.0/24") == (list(range(1, 70, 2)), 4)


@database
def test_a_network_with_few_events_is_found_however_old_they_are(admin: Client, short_reach: None) -> None:
    events(70, ip="198.51.100.7")
    AuditEvent.objects.filter(path="/69/").update(ip="203.0.113.7")
    assert wander(admin, q="203.0.113.0/24") == ([69], 1)


# Blocked or not ------------------------------------------------------------------------------------------------------


@database
def test_events_of_those_who_are_blocked_now_are_told_from_the_others(
    admin: Client, make_user: MakeUser, user: User
) -> None:
    Block.objects.create(user=user)
    Block.objects.create(user=make_user("bob"), lifted_at=MOMENT)
    Block.objects.create(network="203.0.113.0/24")
    Block.objects.create(network="198.51.100.7")
    Block.objects.create(network="198.51.100.8", expires_at=MOMENT)
    Block.objects.create(network="2001:db8:1:2::7")
    who: list[dict[str, Any]] = [
        {"user": user, "ip": "192.0.2.1"},
        {"user": User.objects.get(username="bob"), "ip": "192.0.2.1"},
        {"ip": "203.0.113.200"},
        {"ip": "198.51.100.7"},
        {"ip": "198.51.100.8"},
        {"ip": "198.51.100.7/32"},
        {"ip": "2001:db8:1:2:ffff::1"},
        {"ip": "2001:db8:1:2::/64"},
        {"ip": "2001:db8:1:3::1"},
        {"ip": ""},
    ]
    for number, facts in enumerate(who):
        AuditEvent.objects.create(kind="handshake.denied", path=f"/{number}/", **facts)
    assert sorted(shown(look(admin, blocked="yes"))) == [0, 2, 3, 5, 6, 7]
    assert sorted(shown(look(admin, blocked="no"))) == [1, 4, 8, 9]
    assert sorted(shown(look(admin, blocked="yes", q="198.51.100.0/24"))) == [3, 5]


@database
def test_blocks_that_no_index_helps_with_are_looked_for_from_the_newest_on(
    admin: Client, short_reach: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    events(50, ip="203.0.113.7")
    Block.objects.create(network="203.0.113.0/24")
    assert wander(admin, blocked="yes") == (list(range(50)), 3)
    assert wander(admin, blocked="no") == ([], 3)
    AuditEvent.objects.exclude(path="/49/").update(ip="198.51.100.7")
    assert wander(admin, blocked="yes") == ([49], 1)
    monkeypatch.setattr(networks, "MOST_NETWORKS", 0)
    assert wander(admin, blocked="yes") == ([49], 3)


@database
def test_a_network_that_sql_has_spoilt_blocks_nobody_and_breaks_nothing(admin: Client) -> None:
    events(1, ip="203.0.113.7")
    Block.objects.create(network="203.0.113.7")
    Block.objects.update(network="nonsense")
    assert shown(look(admin, blocked="yes")) == []


@database
def test_an_export_has_what_the_page_looked_at_and_says_how_far(admin: Client, short_reach: None) -> None:
    events(50, ip="203.0.113.7")
    Block.objects.create(network="203.0.113.0/24")
    response = admin.post(f"{EXPORT}?blocked=yes&from=2026-03-05", {"format": "ndjson"})
    assert len(b"".join(response.streaming_content).splitlines()) == 20
    filters = AuditEvent.objects.get(kind="audit.exported").detail["filters"]
    assert filters == {"blocked": "yes", "from": "2026-03-05", "looked_until": "2026-03-05T09:40:48.123456+00:00"}


@database
def test_an_export_of_a_network_and_a_range_has_these_alone(admin: Client) -> None:
    events(5, WHOLE, ip="203.0.113.7")
    events(5, WHOLE, ip="198.51.100.7")
    response = admin.post(f"{EXPORT}?q=203.0.113.0/24&to=2026-03-05T09:41:05Z", {"format": "ndjson"})
    assert b"".join(response.streaming_content).count(b'"source.ip":"203.0.113.7"') == 2


# What it costs -------------------------------------------------------------------------------------------------------

COSTS: list[tuple[dict[str, str], int]] = [
    ({}, 10),
    ({"kind": "handshake.denied", "from": "2026-03-01"}, 10),
    ({"q": "203.0.113.0/24"}, 11),
    ({"blocked": "yes"}, 14),
    ({"blocked": "no", "q": "203.0.113.0/24"}, 14),
]


@database
@pytest.mark.parametrize(("asked", "most"), COSTS, ids=str)
def test_thirty_events_cost_as_many_queries_as_three(
    admin: Client, make_user: MakeUser, asked: dict[str, str], most: int
) -> None:
    counts = []
    for start, count in ((0, 3), (3, 27)):
        for number in range(start, start + count):
            person = make_user(f"user{number}")
            AuditEvent.objects.create(
                kind="handshake.denied", user=person, ip=f"203.0.113.{number}", path=f"/{number}/"
            )
            Block.objects.create(**({"user": person} if number % 3 else {"network": f"203.0.113.{number}"}))
        with CaptureQueriesContext(connection) as queries:
            look(admin, **asked)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= most


@database
@pytest.mark.parametrize("term", ["203.0.113.0/24", "2001:db8:1::/48"])
def test_an_index_finds_a_network(admin: Client, term: str) -> None:
    for number in range(200):
        AuditEvent.objects.create(kind="handshake.denied", ip=f"198.51.{number}.7")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_bitmapscan = off")
    with CaptureQueriesContext(connection) as queries:
        look(admin, q=term)
    (near,) = [query["sql"] for query in queries if '"ip" >= ' in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"{'EXPLAIN QUERY PLAN' if connection.vendor == 'sqlite' else 'EXPLAIN'} {near}")
        assert "cs_audit_ip" in str(cursor.fetchall())


@database
def test_who_may_only_read_sees_no_button(admin: Client, operator_with: Callable[..., Client]) -> None:
    events(3, ip="203.0.113.7")
    buttons = r"Block user|Block address|Export as"
    assert set(re.findall(buttons, look(admin))) == {"Block address", "Export as"}
    assert not re.findall(buttons, look(operator_with("view_auditevent")))
