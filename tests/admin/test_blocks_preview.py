"""What a block would do, counted before it is made."""

from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.admin import preview as module
from channels_secure.admin.preview import Preview, preview
from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import network_for
from tests.admin.conftest import OPERATOR, event
from tests.admin.live_rows import process, socket, sockets
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db


def request_of(user: User, address: str = OPERATOR) -> Any:
    request = RequestFactory().get("/", REMOTE_ADDR=address)
    request.user = user
    return request


def counted(found: Preview) -> tuple[int, int, int, int]:
    return found.connections, found.users, found.anonymous, found.events


def test_a_user_has_connections_and_events_of_the_last_day(user: User, make_user: MakeUser) -> None:
    other = make_user("bob")
    for number in range(3):
        socket(f"alice-{number}", user)
    socket("bob", other)
    socket("left-behind", user, process=process("dead", is_alive=False))
    event(user=user, count=40)
    event(user=user)
    event(user=other)
    event(user=user, created_at=timezone.now() - timedelta(hours=25))
    found = preview(user=user)
    assert counted(found) == (3, 1, 0, 41)
    assert found.share == 0.5
    assert str(found) == "closes 3 connections of 1 user now, would have matched 41 events in the last day"


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("203.0.113.7", (2, 1, 1, 1)),
        ("203.0.113.0/24", (3, 2, 1, 3)),
        ("203.0.0.0/16", (4, 2, 2, 15)),
        ("2001:db8::1", (1, 1, 0, 3)),
        ("2001:db8::1/128", (1, 1, 0, 1)),
        ("2001:db8::/32", (2, 1, 1, 7)),
        ("198.51.100.0/24", (0, 0, 0, 0)),
    ],
)
def test_a_network_is_matched_by_number_and_not_by_text(
    user: User, make_user: MakeUser, network: str, expected: tuple[int, ...]
) -> None:
    for number, (ip, somebody) in enumerate(
        [
            ("203.0.113.7", user),
            ("203.0.113.7", None),
            ("203.0.113.70", make_user("bob")),
            ("203.0.11.7", None),
            ("2001:db8::1", user),
            ("2001:db8:0:1::1", None),
            ("20.3.0.113", None),
            ("<script>", None),
            ("", None),
        ]
    ):
        socket(f"c{number}", somebody, ip=ip)
    event(ip="203.0.113.7")
    event(ip="203.0.113.255", count=2)
    event(ip="203.0.1.13", count=12)
    event(ip="2001:db8::1")
    # What sums up an IPv6 client's events has its network.
    event(ip="2001:db8::/64", count=2)
    event(ip="2001:db8:0:1::/64", count=4)
    for text in ("nonsense", "203.0.113.7/x", "<script>", "", "2001:db9::/16", "203.0.113.0/8"):
        event(ip=text, count=100)
    assert counted(preview(network=network)) == expected


addresses = st.builds(lambda number: str(ip_address(number)), st.integers(0x0A000000, 0x0A0003FF)) | st.builds(
    lambda number: str(ip_address(number)), st.integers(0x20010DB8 << 96, (0x20010DB8 << 96) + 2**70)
)


@given(addresses, addresses, st.integers(8, 128))
def test_the_matcher_agrees_with_arithmetic(one: str, other: str, length: int) -> None:
    network = ip_network((one, min(length, 32) if "." in one else max(length, 16)), strict=False)
    address = ip_address(other)
    matcher = module._Matcher(network)
    expected = address in network
    assert [matcher.holds(other), matcher.holds(other)] == [expected] * 2
    around = network_for(other, 64)
    if around.version == network.version:
        assert matcher.holds(str(around)) == around.subnet_of(network)  # type: ignore[arg-type]


def test_what_operators_did_about_somebody_is_not_what_they_did(user: User) -> None:
    for kind in ("block.created", "block.lifted", "connection.disconnected", "tokens.revoked"):
        event(kind=kind, user=user, ip="203.0.113.7")
    assert preview(user=user).events == preview(network="203.0.113.7").events == 0


@pytest.mark.parametrize("subject", ["user", "203.0.113.7", "203.0.0.0/16"])
def test_more_than_are_read_is_said_to_be_more(user: User, subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    for number in range(6):
        socket(f"c{number}", user)
        event(user=user, ip="203.0.113.7")
    found = preview(user=user) if subject == "user" else preview(network=subject)
    assert (found.connections, found.events, found.is_cut, found.is_bound) == (5, 5, True, True)
    assert found.closes.startswith("closes 5+ connections of 1")
    assert "5+ events" in found.would_have_matched


def test_exactly_as_many_as_are_read_is_no_lower_bound(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    for number in range(5):
        socket(f"c{number}", user)
        event(user=user, ip="203.0.113.7")
    for found in (preview(user=user), preview(network="203.0.113.7"), preview(network="203.0.0.0/16")):
        assert (found.connections, found.events, found.is_cut, found.is_bound) == (5, 5, False, False)


@pytest.mark.parametrize("network", ["203.0.113.7", "203.0.0.0/16", "10.0.0.0/8"])
def test_the_number_of_queries_does_not_grow(user: User, network: str, django_assert_max_num_queries: Any) -> None:
    AuditEvent.objects.bulk_create(AuditEvent(kind="handshake.denied", ip=f"10.0.0.{n % 250}") for n in range(300))
    sockets(300)
    with django_assert_max_num_queries(3):
        preview(network=network)
    with django_assert_max_num_queries(3):
        preview(user=user)


def test_it_knows_the_operators_own_account_and_address(root: User, user: User) -> None:
    request = request_of(root)
    assert preview(user=root, request=request).own
    assert preview(network="192.0.2.0/24", request=request).own
    assert not preview(user=user, request=request).own
    assert not preview(network="203.0.113.0/24", request=request).own
    assert not preview(network="192.0.2.0/24").own
    assert not preview(network="192.0.2.0/24", request=request_of(root, "")).own


def test_it_knows_staff_by_account_and_by_where_they_are_connected(make_user: MakeUser, user: User) -> None:
    carol, dave = make_user("carol", is_staff=True), make_user("dave", is_superuser=True)
    socket("carol", carol, ip="203.0.113.7")
    socket("dave", dave, ip="203.0.113.8")
    socket("alice", user, ip="203.0.113.9")
    assert preview(user=carol).staff == ("carol",)
    assert preview(user=dave).staff == ("dave",)
    assert preview(user=user).staff == ()
    assert preview(network="203.0.113.0/24").staff == ("carol", "dave")
    assert preview(network="203.0.113.8").staff == ("dave",)
    assert preview(network="203.0.113.9").staff == ()


def test_the_share_counts_people_and_every_anonymous_connection(user: User, make_user: MakeUser) -> None:
    for number in range(3):
        socket(f"alice-{number}", user, ip="203.0.113.7")
    socket("nobody-1", ip="203.0.113.7")
    socket("nobody-2", ip="198.51.100.1")
    socket("bob", make_user("bob"), ip="198.51.100.1")
    assert preview(network="203.0.113.7").share == preview(network="203.0.0.0/16").share == 0.5
    assert preview(network="203.0.113.7").people == 2
    assert preview(user=user).share == 0.25


def test_nobody_is_connected_and_nothing_happened(user: User) -> None:
    for found in (preview(user=user), preview(network="203.0.113.0/24")):
        assert found.share == 0.0
        assert str(found) == "closes no connection now, would have matched 0 events in the last day"


@pytest.mark.parametrize(
    ("connections", "users", "anonymous", "said"),
    [
        (1, 1, 0, "closes 1 connection of 1 user now"),
        (12345, 67, 0, "closes 12,345 connections of 67 users now"),
        (3, 2, 1, "closes 3 connections of 2 users now, 1 of them anonymous"),
        (3, 0, 3, "closes 3 connections now, all of them anonymous"),
    ],
)
def test_it_is_said_in_words(connections: int, users: int, anonymous: int, said: str) -> None:
    found = Preview(
        connections=connections,
        users=users,
        anonymous=anonymous,
        events=0,
        is_bound=False,
        is_cut=False,
        own=False,
        staff=(),
        share=0.0,
    )
    assert found.closes == said


@pytest.mark.parametrize(("user_given", "network"), [(False, None), (True, "203.0.113.7")])
def test_it_is_about_one_subject(user: User, user_given: bool, network: str | None) -> None:
    with pytest.raises(ValueError, match="either a user or a network"):
        preview(user=user if user_given else None, network=network)


@pytest.mark.parametrize("network", ["0.0.0.0/0", "127.0.0.1", "nonsense"])
def test_what_may_not_be_blocked_has_no_preview(network: str) -> None:
    with pytest.raises(ValueError, match=r"wide|loopback|not an IP"):
        preview(network=network)
