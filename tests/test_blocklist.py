"""Who is blocked: made, lifted, known to every process, and looked up in memory."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from channels_secure import blocklist, database, signals
from channels_secure.blocklist.snapshot import Entry, build
from channels_secure.models import AuditEvent, Block, PolicyVersion
from channels_secure.policy.decisions import Reason
from tests.conftest import MakeUser

HOUR = 3600.0


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    blocklist.reset()
    yield
    blocklist.reset()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What the signals of blocks said, in order."""
    said: list[tuple[str, dict[str, Any]]] = []

    def listener(name: str) -> Any:
        return lambda **facts: said.append((name, facts))

    watched = {"created": signals.block_created, "lifted": signals.block_lifted, "changed": signals.policy_changed}
    listeners = {name: listener(name) for name in watched}
    for name, signal in watched.items():
        signal.connect(listeners[name], weak=False)
    yield said
    for name, signal in watched.items():
        signal.disconnect(listeners[name])


def version() -> int:
    return PolicyVersion.current(DEFAULT_DB_ALIAS)


def left(block: Block) -> float:
    assert block.expires_at is not None
    return (block.expires_at - timezone.now()).total_seconds()


# Making --------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_user_is_blocked_by_instance_or_key(user: User, make_user: MakeUser) -> None:
    bob = make_user("bob")
    assert blocklist.block(user=user, reason="spam", by=bob).user_id == user.pk
    block = blocklist.block(user=bob.pk)
    assert (block.user_id, block.network, block.automatic, block.expires_at) == (bob.pk, None, False, None)
    assert Block.objects.active().count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("network", "stored"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        (IPv4Network("203.0.113.0/24"), "203.0.113.0/24"),
        (ip_address("2001:db8::1"), "2001:db8::/64"),
        (ip_network("2001:db8::1/128"), "2001:db8::1/128"),
    ],
)
def test_a_network_is_blocked_in_any_form(network: Any, stored: str) -> None:
    assert blocklist.block(network=network).network == stored


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"user": None, "network": None},
        {"user": 1, "network": "203.0.113.7"},
        {"user": AnonymousUser()},
        {"user": User(username="not stored")},
        {"user": 10**9},
        {"user": 10**30},
        {"user": "alice"},
        {"user": [1]},
        {"network": ""},
        {"network": "nonsense"},
        {"network": "0.0.0.0/0"},
        {"network": "127.0.0.1"},
        {"network": "::/0"},
        {"network": "203.0.113.7", "duration": 0},
        {"network": "203.0.113.7", "duration": -1},
        {"network": "203.0.113.7", "duration": float("nan")},
        {"network": "203.0.113.7", "duration": float("inf")},
        {"network": "203.0.113.7", "duration": 1e300},
        {"network": "203.0.113.7", "duration": True},
        {"network": "203.0.113.7", "duration": "1h"},
        {"network": "203.0.113.7", "duration": timedelta(0)},
    ],
    ids=repr,
)
def test_nonsense_is_a_value_error_and_changes_nothing(arguments: dict[str, Any]) -> None:
    before = version()
    with pytest.raises(ValueError, match=r"\w"):
        blocklist.block(**arguments)
    assert not Block.objects.exists()
    assert not AuditEvent.objects.exists()
    assert version() == before


@pytest.mark.django_db
def test_a_trusted_proxy_is_never_blocked(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.3"]}
    for network in ("198.51.100.3", "198.51.100.0/24"):
        with pytest.raises(ValueError, match="trusted proxy"):
            blocklist.block(network=network)


@pytest.mark.django_db
@pytest.mark.parametrize("duration", [HOUR, timedelta(hours=1), 3600])
def test_a_duration_is_seconds_or_a_timedelta(duration: Any) -> None:
    assert left(blocklist.block(network="203.0.113.7", duration=duration)) == pytest.approx(HOUR, abs=30)


@pytest.mark.django_db
def test_a_block_leaves_one_audit_event_that_says_everything(user: User, make_user: MakeUser) -> None:
    root = make_user("root")
    block = blocklist.block(user=user, reason="spam\x00", by=root, duration=HOUR)
    event = AuditEvent.objects.get()
    assert (event.kind, event.reason, event.actor) == ("block.created", "spam\\x00", "root")
    assert (event.user, event.username, event.ip) == (user, "alice", "")
    assert block.expires_at is not None
    assert event.detail == {"block": block.pk, "automatic": False, "expires_at": block.expires_at.isoformat()}
    assert (block.reason, block.created_by) == ("spam\\x00", root)
    blocklist.unblock(user=user, by="a script", reason="sorry")
    lifted = AuditEvent.objects.first()
    assert lifted is not None
    assert (lifted.kind, lifted.reason, lifted.actor, lifted.user) == ("block.lifted", "sorry", "a script", user)


@pytest.mark.django_db
def test_a_block_that_lasts_as_long_is_returned_and_a_longer_one_is_added() -> None:
    first = blocklist.block(network="203.0.113.7", duration=HOUR)
    assert blocklist.block(network="203.0.113.7", duration=HOUR / 2) == first
    longer = blocklist.block(network="203.0.113.7", duration=2 * HOUR)
    for_ever = blocklist.block(network="203.0.113.7")
    assert blocklist.block(network="203.0.113.7/32") == for_ever
    assert blocklist.block(network="203.0.113.7", duration=9 * HOUR) == for_ever
    assert list(Block.objects.order_by("pk")) == [first, longer, for_ever]
    assert AuditEvent.objects.count() == 3


@pytest.mark.django_db
def test_an_operators_block_does_not_hide_behind_an_automatic_one(user: User) -> None:
    automatic = blocklist.block(user=user, automatic=True)
    made = blocklist.block(user=user, duration=HOUR)
    assert made != automatic
    assert blocklist.block(user=user, duration=HOUR, automatic=True) == automatic


# Lifting -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_unblocking_lifts_every_active_block_of_the_subject_and_keeps_history(user: User, make_user: MakeUser) -> None:
    root, bob = make_user("root"), make_user("bob")
    expired = Block.objects.create(user=user, expires_at=timezone.now() - timedelta(hours=1))
    blocklist.block(user=user, duration=HOUR)
    blocklist.block(user=user)
    other = blocklist.block(user=bob)
    assert blocklist.unblock(user=user.pk, by=root) == 2
    assert blocklist.unblock(user=user) == 0
    assert list(Block.objects.active()) == [other]
    assert Block.objects.filter(lifted_by=root).count() == 2
    expired.refresh_from_db()
    assert expired.lifted_at is None
    assert AuditEvent.objects.filter(kind="block.lifted").count() == 2


@pytest.mark.django_db
def test_unblocking_a_network_lifts_exactly_that_one() -> None:
    wide = blocklist.block(network="203.0.113.0/24")
    blocklist.block(network="203.0.113.7")
    assert blocklist.unblock(network="203.0.113.7") == 1
    assert list(Block.objects.active()) == [wide]


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [{}, {"user": 1, "network": "203.0.113.7"}, {"network": "x"}, {"user": 10**9}])
def test_unblocking_needs_one_subject_and_never_means_all(arguments: dict[str, Any]) -> None:
    block = blocklist.block(network="203.0.113.7")
    with pytest.raises(ValueError, match=r"\w"):
        blocklist.unblock(**arguments)
    assert list(Block.objects.active()) == [block]


@pytest.mark.django_db
def test_a_row_that_should_never_have_been_made_can_be_lifted() -> None:
    Block.objects.bulk_create([Block(network="0.0.0.0/0")])
    assert blocklist.unblock(network="0.0.0.0/0") == 1


# Transactions and signals --------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_signals_come_after_the_commit_with_all_their_facts(
    user: User, heard: list[tuple[str, dict[str, Any]]]
) -> None:
    with transaction.atomic():
        block = blocklist.block(user=user, reason="spam")
        assert heard == []
    assert [name for name, _ in heard] == ["changed", "created"]
    facts = heard[-1][1]
    assert {name: facts[name] for name in ("connection_id", "user", "ip", "path", "reason", "block")} == {
        "connection_id": "",
        "user": user,
        "ip": None,
        "path": "",
        "reason": "spam",
        "block": block,
    }
    heard.clear()
    blocklist.block(network="203.0.113.7")
    assert heard[-1][1]["ip"] == "203.0.113.7/32"
    heard.clear()
    blocklist.unblock(user=user, reason="sorry")
    assert [name for name, _ in heard] == ["changed", "lifted"]
    assert (heard[-1][1]["user"], heard[-1][1]["reason"]) == (user, "sorry")


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_rolls_back_leaves_nothing(user: User, heard: list[tuple[str, dict[str, Any]]]) -> None:
    standing = blocklist.block(network="203.0.113.7")
    before = version()
    heard.clear()
    with transaction.atomic():
        blocklist.block(user=user)
        blocklist.unblock(network="203.0.113.7")
        transaction.set_rollback(True)
    assert heard == []
    assert version() == before
    assert list(Block.objects.active()) == [standing]
    assert [event.kind for event in AuditEvent.objects.all()] == ["block.created"]


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_raises_harms_nobody(user: User) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("a receiver")

    for signal in (signals.block_created, signals.policy_changed):
        signal.connect(fail)
    try:
        assert blocklist.block(user=user).is_active
    finally:
        for signal in (signals.block_created, signals.policy_changed):
            signal.disconnect(fail)


def in_threads(count: int, work: Any) -> list[Any]:
    """Run `work(number)` at the same moment in several threads, each with its own database connection."""
    ready, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        ready.wait()
        try:
            results[number] = work(number)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_attempt", range(5))
def test_of_racing_blocks_one_row_is_made(_attempt: int, user: User) -> None:
    blocks = in_threads(4, lambda _number: blocklist.block(user=user).pk)
    assert len(set(blocks)) == 1
    assert Block.objects.count() == 1
    assert AuditEvent.objects.filter(kind="block.created").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_attempt", range(5))
def test_of_racing_unblocks_one_lifts(_attempt: int, user: User) -> None:
    blocklist.block(user=user)
    assert sorted(in_threads(4, lambda _number: blocklist.unblock(user=user))) == [0, 0, 0, 1]
    assert AuditEvent.objects.filter(kind="block.lifted").count() == 1


@pytest.mark.django_db(transaction=True)
def test_changes_of_many_subjects_in_any_order_do_not_wait_in_a_circle(make_user: MakeUser) -> None:
    users = [make_user(f"user{number}") for number in range(4)]

    def work(number: int) -> None:
        order = users if number % 2 else users[::-1]
        with transaction.atomic():
            for each in order:
                blocklist.block(user=each)
        with transaction.atomic():
            for each in order:
                blocklist.unblock(user=each)

    before = version()
    in_threads(4, work)
    assert not Block.objects.active().exists()
    assert version() > before


# Looking up ----------------------------------------------------------------------------------------------------------


def moment(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)


def snapshot_of(*entries: tuple[Any, ...]) -> blocklist.Snapshot:
    """A snapshot of blocks whose primary keys count from 1."""
    return build(1, [(key, *entry) for key, entry in enumerate(entries, 1)], 0.0)


def test_of_several_blocks_of_a_user_the_longest_counts() -> None:
    snapshot = snapshot_of(
        (7, None, moment(100)), (7, None, moment(300)), (7, None, moment(200)), (8, None, moment(50))
    )
    hit = snapshot.for_user(7, 250.0)
    assert hit is not None
    assert (hit.expires_at, hit.block) == (300.0, 2)
    assert snapshot.for_user("7", 250.0) == hit
    assert snapshot.for_user(8, 50.0) is None
    assert snapshot.for_user(9, 0.0) is None
    assert snapshot.for_user(7, 300.0) is None


def test_for_ever_is_longer_than_anything() -> None:
    for entries in ([moment(100), None], [None, moment(100)], [None, None]):
        hit = snapshot_of(*((7, None, ends) for ends in entries)).for_user(7, 1e12)
        assert hit is not None
        assert hit.expires_at is None


def test_an_address_is_found_in_the_network_that_lasts_longest() -> None:
    snapshot = snapshot_of(
        (None, "203.0.113.0/24", moment(500)), (None, "203.0.113.7/32", moment(100)), (None, "2001:db8::/64", None)
    )
    inside, beside, six = map(ip_address, ("203.0.113.7", "203.0.114.7", "2001:db8::99"))
    hit = snapshot.for_address(inside, 200.0)
    assert hit is not None
    assert (hit.expires_at, hit.block) == (500.0, 1)
    assert snapshot.for_address(inside, 500.0) is None
    assert snapshot.for_address(beside, 0.0) is None
    for_ever = snapshot.for_address(six, 1e12)
    assert for_ever is not None
    assert for_ever.expires_at is None


def test_the_refusal_says_how_long_to_wait() -> None:
    denied = blocklist.denial(blocklist.Hit(subject="user", expires_at=160.0), 100.0)
    assert (denied.reason, denied.retry_after, denied.reconnect) == (Reason.BLOCKED, 60.0, True)
    for_ever = blocklist.denial(blocklist.Hit(subject="user", expires_at=None), 100.0)
    assert (for_ever.retry_after, for_ever.reconnect) == (None, False)


ends = st.none() | st.integers(1, 100).map(lambda number: moment(number * 10.0))
keys = st.integers(1)
users = st.tuples(keys, st.integers(1, 5), st.none(), ends)
networks = st.tuples(
    keys,
    st.none(),
    st.builds(
        lambda number, length: str(ip_network((0xC6336400 + number, length), strict=False)),
        st.integers(0, 1023),
        st.integers(20, 32),
    ),
    ends,
)


def longest(found: list[datetime | None], now: float) -> tuple[bool, float | None]:
    """The oracle: whether any applies, and when the last of them ends."""
    if None in found:
        return True, None
    last = max((end.timestamp() for end in found if end is not None), default=0.0)
    return last > now, last if last > now else None


@given(st.lists(users | networks, max_size=30), st.integers(1, 5), st.integers(0, 1023), st.floats(0, 1100))
def test_the_snapshot_agrees_with_looking_at_every_row(entries: list[Entry], pk: int, host: int, now: float) -> None:
    snapshot = build(1, entries, 0.0)
    address = ip_address(0xC6336400 + host)
    by_user = longest([end for _, user_id, _, end in entries if user_id == pk], now)
    by_network = longest([end for _, _, text, end in entries if text is not None and address in ip_network(text)], now)
    for hit, (applies, until) in (
        (snapshot.for_user(pk, now), by_user),
        (snapshot.for_address(address, now), by_network),
    ):
        assert (hit is not None) == applies
        assert hit is None or hit.expires_at == until


def test_rows_that_must_not_be_enforced_are_named_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    snapshot = snapshot_of((None, "0.0.0.0/0", None), (None, "nonsense", None), (None, "203.0.113.7/32", None))
    assert snapshot.for_address(ip_address("192.0.2.1"), 0.0) is None
    assert snapshot.for_address(ip_address("203.0.113.7"), 0.0) is not None
    assert [record.getMessage() for record in caplog.records] == ["block.not_enforced"] * 2


# Refreshing ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_a_snapshot_follows_every_change(user: User) -> None:
    assert blocklist.current() is None
    assert blocklist.age(time.monotonic()) == float("inf")
    assert await blocklist.refresh()
    assert 0 <= blocklist.age(time.monotonic()) < 30
    for change, is_blocked in ((blocklist.ablock, True), (blocklist.aunblock, False)):
        await change(user=user)
        assert await blocklist.refresh()
        snapshot = blocklist.current()
        assert snapshot is not None
        assert (snapshot.for_user(user.pk, time.time()) is not None) == is_blocked


@pytest.mark.django_db(transaction=True)
async def test_an_unchanged_version_is_looked_at_and_not_read_again() -> None:
    await blocklist.refresh()
    snapshot, looked = blocklist.current(), time.monotonic()
    assert not await blocklist.refresh()
    assert blocklist.current() is snapshot
    assert blocklist.age(time.monotonic()) <= time.monotonic() - looked


@pytest.mark.django_db(transaction=True)
async def test_a_full_refresh_finds_what_sql_did(user: User) -> None:
    await blocklist.refresh()
    await Block.objects.abulk_create([Block(user=user)])
    assert not await blocklist.refresh()
    assert await blocklist.refresh(full=True)
    snapshot = blocklist.current()
    assert snapshot is not None
    assert snapshot.for_user(user.pk, time.time()) is not None


@pytest.mark.django_db(transaction=True)
async def test_blocks_that_ended_are_not_in_the_snapshot(user: User) -> None:
    past = timezone.now() - timedelta(seconds=1)
    await Block.objects.acreate(user=user, expires_at=past)
    await Block.objects.acreate(user=user, lifted_at=past)
    await blocklist.refresh()
    snapshot = blocklist.current()
    assert snapshot is not None
    assert not snapshot.users


@pytest.mark.django_db(transaction=True)
async def test_a_refresh_sees_what_was_committed_before_it_however_many_are_under_way(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from channels_secure.blocklist import in_force as module

    has_read, may_return, real, looks = threading.Event(), threading.Event(), module._read, []

    def slow_at_first(*arguments: Any) -> Any:
        looks.append(arguments)
        result = real(*arguments)
        if len(looks) == 1:
            has_read.set()
            may_return.wait(30)
        return result

    monkeypatch.setattr(module, "_read", slow_at_first)
    early = asyncio.ensure_future(blocklist.refresh())
    await asyncio.to_thread(has_read.wait, 30)
    await blocklist.ablock(user=user)
    late = [asyncio.ensure_future(blocklist.refresh()) for _ in range(100)]
    await asyncio.sleep(0)
    may_return.set()
    assert await early
    assert set(await asyncio.gather(*late)) == {True}
    assert len(looks) == 2
    snapshot = blocklist.current()
    assert snapshot is not None
    assert snapshot.for_user(user.pk, time.time()) is not None


@pytest.mark.django_db(transaction=True)
async def test_a_caller_that_is_cancelled_does_not_take_the_look_away_from_others(user: User) -> None:
    await blocklist.ablock(user=user)
    impatient, patient = asyncio.ensure_future(blocklist.refresh()), asyncio.ensure_future(blocklist.refresh())
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient
    assert impatient.cancelled()


@pytest.mark.django_db(transaction=True)
async def test_a_look_that_was_cancelled_is_not_what_later_callers_get(user: User) -> None:
    looks = asyncio.ensure_future(blocklist.refresh())
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == "channels_secure.refresh":
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looks
    await blocklist.ablock(user=user)
    assert await blocklist.refresh()
    snapshot = blocklist.current()
    assert snapshot is not None
    assert snapshot.for_user(user.pk, time.time())


@pytest.fixture
def table_away(transactional_db: None) -> Iterator[None]:
    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")

    rename("channels_secure_policyversion", "elsewhere")
    yield
    rename("elsewhere", "channels_secure_policyversion")


async def test_with_the_database_away_every_caller_is_told_and_the_old_snapshot_stays(table_away: None) -> None:
    results = await asyncio.gather(*(blocklist.refresh() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, DatabaseError) for result in results)
    assert blocklist.current() is None
    assert blocklist.age(time.monotonic()) == float("inf")


def test_what_was_read_later_is_not_replaced_by_what_was_read_before() -> None:
    from channels_secure.blocklist import in_force

    newer, older = build(2, [], 20.0), build(1, [], 10.0)
    assert in_force._in_force.put(newer, 20.0)
    assert not in_force._in_force.put(older, 10.0)
    assert blocklist.current() is newer
    assert blocklist.age(25.0) == 5.0


# Automatic blocks ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_automatic_blocks_get_longer_and_forget_what_an_operator_took_back(user: User) -> None:
    lengths = []
    for _ in range(4):
        block = await blocklist.ablock_automatically(user=user, reason="too many violations")
        assert block is not None
        assert block.automatic
        lengths.append(round(left(block) / HOUR))
        await Block.objects.filter(pk=block.pk).aupdate(expires_at=timezone.now())
    assert lengths == [1, 4, 24, 24]
    await Block.objects.aupdate(lifted_at=timezone.now())
    again = await blocklist.ablock_automatically(user=user)
    assert again is not None
    assert round(left(again) / HOUR) == 1


@pytest.mark.django_db(transaction=True)
async def test_an_automatic_block_of_long_ago_is_forgotten(user: User) -> None:
    old = timezone.now() - timedelta(days=31)
    await Block.objects.acreate(user=user, automatic=True, created_at=old, expires_at=old + timedelta(hours=1))
    block = await blocklist.ablock_automatically(user=user)
    assert block is not None
    assert round(left(block) / HOUR) == 1


@pytest.mark.django_db(transaction=True)
async def test_an_address_is_blocked_with_its_network(settings: Settings) -> None:
    four = await blocklist.ablock_automatically(address="203.0.113.7", reason="x")
    six = await blocklist.ablock_automatically(address=ip_address("2001:db8::7"), reason="x")
    assert four is not None
    assert six is not None
    assert (four.network, six.network) == ("203.0.113.7/32", "2001:db8::/64")
    events = [event async for event in AuditEvent.objects.order_by("pk")]
    assert [event.detail["automatic"] for event in events] == [True, True]


@pytest.mark.django_db(transaction=True)
async def test_who_is_blocked_is_not_blocked_again(user: User) -> None:
    await blocklist.ablock(user=user, duration=HOUR)
    before = await database.run(version)
    assert await blocklist.ablock_automatically(user=user) is None
    assert await database.run(version) == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("flag", ["is_staff", "is_superuser"])
async def test_staff_is_never_blocked_automatically(flag: str, make_user: MakeUser, user: User) -> None:
    # Promoted after the handshake: the socket's own user object does not know yet.
    await User.objects.filter(pk=user.pk).aupdate(**{flag: True})
    assert await blocklist.ablock_automatically(user=user) is None
    assert not await Block.objects.aexists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "fe80::1", "198.51.100.3", "2001:db8::9"]
)
async def test_local_and_trusted_addresses_are_never_blocked_automatically(address: str, settings: Settings) -> None:
    # 2001:db8::9 is no proxy, but its /64 holds one.
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.3", "2001:db8::1"]}
    assert await blocklist.ablock_automatically(address=address) is None
    assert not await Block.objects.aexists()


@pytest.mark.django_db(transaction=True)
async def test_strikes_at_the_same_moment_make_one_block(user: User) -> None:
    results = await asyncio.gather(*(blocklist.ablock_automatically(user=user) for _ in range(10)))
    assert sum(result is not None for result in results) == 1
    assert await Block.objects.acount() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_attempt", range(3))
def test_strikes_in_several_processes_make_one_block(_attempt: int, user: User) -> None:
    # Threads that share nothing but the database stand for processes: they skip what is known in one process.
    from channels_secure.blocklist import automatic

    results = in_threads(4, lambda _number: automatic._block(user.pk, None, "x"))
    assert sum(result is not None for result in results) == 1
    assert Block.objects.count() == 1


@pytest.mark.parametrize("arguments", [{}, {"user": User(pk=1), "address": "203.0.113.7"}])
async def test_an_automatic_block_needs_one_subject(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either"):
        await blocklist.ablock_automatically(**arguments)


@pytest.mark.django_db(transaction=True)
async def test_a_strike_that_waits_for_its_turn_does_not_order_a_second_block(user: User) -> None:
    gate = threading.Event()
    writing = asyncio.ensure_future(database.write(gate.wait))
    first = asyncio.ensure_future(blocklist.ablock_automatically(user=user))
    await asyncio.sleep(0)
    assert await blocklist.ablock_automatically(user=user) is None
    gate.set()
    assert await writing
    assert await first is not None


@pytest.mark.django_db(transaction=True)
async def test_a_million_addresses_order_few_blocks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "channels_secure")
    made = [await blocklist.ablock_automatically(address=f"203.0.113.{number}") for number in range(150)]
    # The allowance refills while the test runs, one a second.
    assert 60 <= sum(block is not None for block in made) < 150
    assert any(record.getMessage() == "block.automatic_limit" for record in caplog.records)
