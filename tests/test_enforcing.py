"""Blocks and revocations are applied with pauses, and what happens in a pause gets nobody past them.

`go` is driven by hand, from pause to pause, so that every race happens where the test wants it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.auth.base import Identity, digest_of
from channels_secure.blocklist import Hit, Snapshot, revoked, snapshot
from channels_secure.blocklist.revoked import NOTHING, Look, Revoked
from channels_secure.connections import Connection, Registry
from channels_secure.models import RECHECK
from channels_secure.supervisor import enforcing, finding, sweeping
from channels_secure.supervisor.enforcing import Enforcement
from tests.standins import scope_of, stand_in

NET = "198.51.100.0/24"


class World:
    """The sockets of an event loop, and the snapshots that come into force there."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.enforcement = Enforcement(self.registry)
        self.version = 0
        self.rows: dict[int, revoked.Row] = {}
        self.revoked = NOTHING
        self.tasks: list[asyncio.Task[Any]] = []

    def join(self, address: str = "192.0.2.1", user: int | None = None, **facts: Any) -> Connection:
        """Somebody whose handshake is over."""

        async def send(event: Any) -> None:
            pass

        task = asyncio.create_task(asyncio.Event().wait())
        self.tasks.append(task)
        identity = None if user is None else Identity(user=User(pk=user), kind="session", **facts)
        connection = stand_in(scope_of(address), send, identity, task=task)
        self.registry.add(connection)
        return connection

    def join_all(self, count: int, **facts: Any) -> list[Connection]:
        return [self.join(f"198.51.100.{number}", **facts) for number in range(count)]

    def revoke(self, kind: str, subject: str, reason: str = "disconnected") -> None:
        """Another row, which the next snapshot will have."""
        key = len(self.rows) + 1
        self.rows[key] = (key, kind, subject, reason, datetime.now(UTC))

    def snapshot(self, *blocked: str | int) -> Snapshot:
        """What is in force from now on: users by their keys, and networks, are blocked."""
        self.version += 1
        now = time.monotonic()
        look = Look(ended=now, known_at=now, offset=time.time() - now)
        self.revoked = revoked.build(self.rows.values(), self.revoked, look)
        entries = [(1, each, None, None) if isinstance(each, int) else (1, None, each, None) for each in blocked]
        return snapshot.build(self.version, entries, now, self.revoked)

    def meet(self, *blocked: str | int) -> None:
        self.enforcement.meet(self.snapshot(*blocked))

    def walk(self) -> "Walk":
        return Walk(self.enforcement)


class Walk:
    """`go`, driven by hand."""

    def __init__(self, enforcement: Enforcement) -> None:
        self._going = enforcement.go()
        self.pauses = 0

    def step(self) -> bool:
        """Go on to the next pause; whether there was one."""
        try:
            self._going.send(None)
        except StopIteration:
            return False
        self.pauses += 1
        return True

    def until(self, condition: Callable[[], bool]) -> "Walk":
        while not condition():
            assert self.step()
        return self

    def finish(self) -> None:
        while self.step():
            pass

    def cancel(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            self._going.throw(asyncio.CancelledError())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause after each."""
    for name in ("STRETCH", "AT_ONCE", "TOGETHER"):
        monkeypatch.setattr(enforcing, name, 1)


def ended(connections: list[Connection]) -> list[bool]:
    return [connection.ended for connection in connections]


def reasons(connections: list[Connection]) -> list[str | None]:
    return [None if each.denial is None else each.denial.reason.value for each in connections]


# Pauses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sought", ["block", "revocation"])
async def test_others_run_after_each_stretch_of_a_search(
    world: World, monkeypatch: pytest.MonkeyPatch, sought: str
) -> None:
    monkeypatch.setattr(enforcing, "STRETCH", 3)
    sizes = []

    def measured(connections: list[Connection], networks: Any) -> Any:
        sizes.append(len(connections))
        return real(connections, networks)

    real = finding.in_networks
    monkeypatch.setattr(finding, "in_networks", measured)
    world.join_all(10)
    if sought == "revocation":
        world.revoke("address", "203.0.113.0/24")
        world.meet()
    else:
        world.meet("203.0.113.0/24")
    walk = world.walk()
    walk.finish()
    assert max(sizes) == 3
    assert walk.pauses >= 4
    assert not world.enforcement.is_due


async def test_a_crowd_is_ended_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcing, "AT_ONCE", 2)
    crowd = world.join_all(4, user=1) + world.join_all(3, user=2)
    world.meet(1, NET)
    counts = [sum(ended(crowd))]
    walk = world.walk()
    while walk.step():
        counts.append(sum(ended(crowd)))
    assert counts[0] == 2
    assert counts[-1] == 7
    assert max(after - before for before, after in pairwise(counts)) == 2


@pytest.mark.parametrize("kind", ["session", "users blocked"])
async def test_thousands_of_changes_are_looked_into_some_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(enforcing, "TOGETHER", 2)
    crowd = [world.join(user=number, session_key=str(number)) for number in range(7)]
    for number in range(7) if kind == "session" else ():
        world.revoke("session", digest_of(str(number)))
    world.meet(*(range(7) if kind != "session" else ()))
    assert sum(ended(crowd)) == 2
    world.walk().finish()
    assert all(ended(crowd))


async def test_addresses_are_sought_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcing, "TOGETHER", 2)
    sizes = []

    def measured(changes: Any) -> Any:
        sizes.append(len(changes))
        return real(changes)

    real = enforcing.by_network
    monkeypatch.setattr(enforcing, "by_network", measured)
    crowd = world.join_all(5)
    for number in range(5):
        world.revoke("address", f"198.51.100.{number}")
    world.meet()
    world.walk().finish()
    assert all(ended(crowd))
    assert max(sizes) == 2


# What is new does not wait --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("change", ["block", "user", "session", "connection", "jti"])
async def test_who_is_found_by_an_index_waits_for_no_search(world: World, change: str) -> None:
    crowd = world.join_all(5)
    victim = world.join(user=7, session_key="key", jti="token")
    world.meet(NET)
    world.walk().until(lambda: crowd[0].ended)
    subjects = {"user": "7", "session": digest_of("key"), "connection": victim.id, "jti": "token"}
    if change in subjects:
        world.revoke(change, subjects[change])
    assert not victim.ended
    world.meet(NET, *((7,) if change == "block" else ()))
    assert victim.ended
    assert sum(ended(crowd)) == 1


@pytest.mark.parametrize("change", ["block", "user"])
async def test_who_is_blocked_now_waits_for_no_crowd(
    world: World, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(enforcing, "AT_ONCE", 1)
    monkeypatch.setattr(enforcing, "TOGETHER", 1)
    crowd = [world.join(user=number % 3) for number in range(9)]
    victim = world.join(user=7)
    world.meet(0, 1, 2)
    if change == "user":
        world.revoke("user", "7")
    world.meet(0, 1, 2, *((7,) if change == "block" else ()))
    assert victim.ended
    assert sum(ended(crowd)) == 1
    world.walk().finish()
    assert all(ended(crowd))


async def test_who_is_blocked_is_told_so_whatever_else_was_decided(world: World) -> None:
    both = [world.join("203.0.113.9", user=1), world.join("203.0.113.10", user=2)]
    world.revoke("user", "1")
    world.revoke("address", "203.0.113.10")
    world.meet(1, "203.0.113.10")
    world.walk().finish()
    assert reasons(both) == ["blocked", "blocked"]


async def test_a_token_that_is_refreshed_in_a_pause_has_been_judged_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so has who leaves a group: only addresses, which stay what they are, are looked for with pauses."""
    monkeypatch.setattr(enforcing, "AT_ONCE", 1)
    crowd = [world.join(user=9) for _ in range(3)]
    holder, member = world.join(user=1, jti="old"), world.join(user=2)
    member.groups = {"room": None}
    world.revoke("user", "9")
    world.revoke("jti", "old", "credentials_revoked")
    world.revoke("group", "room", RECHECK)
    world.meet()
    assert not holder.ended
    holder.identify(Identity(user=User(pk=1), kind="jwt", jti="new"))
    member.groups = {}
    world.walk().finish()
    assert all(ended([*crowd, holder]))
    assert list(world.enforcement.rechecks._doubtful) == [member]


# Snapshots that come in a pause ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("change", ["block", "revocation"])
async def test_what_is_decided_in_a_pause_reaches_those_who_were_looked_at_already(world: World, change: str) -> None:
    early = world.join("203.0.113.9")
    crowd = world.join_all(3)
    world.meet(NET)
    walk = world.walk().until(lambda: crowd[0].ended)
    if change == "revocation":
        world.revoke("address", "203.0.113.9")
    world.meet(NET, *(("203.0.113.9",) if change == "block" else ()))
    assert ended([early, *crowd]) == [False, True, False, False]
    walk.finish()
    assert all(ended([early, *crowd]))


@pytest.mark.usefixtures("one_by_one")
async def test_what_a_newer_snapshot_has_no_more_was_decided_all_the_same(world: World) -> None:
    """A revocation's row may go at any moment: it has been applied to nobody yet, or to some."""
    crowd = world.join_all(5)
    world.revoke("address", NET)
    world.meet()
    walk = world.walk().until(lambda: crowd[0].ended)
    world.rows.clear()
    world.meet()
    walk.finish()
    assert all(ended(crowd))


@pytest.mark.usefixtures("one_by_one")
async def test_what_is_lifted_in_a_pause_spares_those_who_are_left(world: World) -> None:
    crowd = world.join_all(3)
    world.meet(NET)
    walk = world.walk().until(lambda: crowd[0].ended)
    world.meet("203.0.113.0/24")
    walk.finish()
    assert ended(crowd) == [True, False, False]


@pytest.mark.parametrize("began", [False, True], ids=["before the search", "in the search"])
@pytest.mark.usefixtures("one_by_one")
async def test_a_block_that_is_lifted_and_made_again_is_a_new_one(world: World, began: bool) -> None:
    """Who came between them was let in rightly, and the same blocks were applied before."""
    crowd = world.join_all(3)
    world.meet(NET)
    walk = world.walk()
    if began:
        walk.until(lambda: crowd[0].ended)
    else:
        walk.finish()
    world.meet()
    between = world.join("198.51.100.200")
    world.meet(NET)
    (walk if began else world.walk()).finish()
    assert all(ended([*crowd, between]))


@pytest.mark.usefixtures("one_by_one")
async def test_a_change_of_before_does_not_concern_who_comes_in_a_pause(world: World) -> None:
    crowd = world.join_all(3)
    world.revoke("address", NET)
    world.meet()
    walk = world.walk()
    assert walk.step()
    late = world.join("198.51.100.200")
    walk.until(lambda: crowd[0].ended)
    # Who leaves in a pause is no trouble.
    world.registry.discard(crowd[1])
    walk.finish()
    assert all(ended(crowd))
    assert not late.ended


async def test_a_block_that_lasts_longer_is_a_new_one(world: World) -> None:
    """Who came back when the last one had expired is out again."""
    over = replace(world.snapshot(), users={"7": Hit(subject="user", expires_at=time.time() - 1)}, blocks="over")
    world.enforcement.meet(over)
    victim = world.join(user=7)
    world.enforcement.meet(
        replace(over, users={"7": Hit(subject="user", expires_at=time.time() + 60)}, blocks="longer")
    )
    assert victim.ended


# What is interrupted --------------------------------------------------------------------------------------------------


class Interruption(Exception):
    pass


@contextmanager
def interrupted(place: Any, name: str, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> Iterator[None]:
    """A function fails at one of its calls."""
    real, calls = getattr(place, name), []

    def fail_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == after + 1:
            raise Interruption
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail_once)
        yield


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("sought", ["block", "revocation"])
@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_a_search_that_is_interrupted_is_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch, sought: str, how: str
) -> None:
    crowd = world.join_all(3)
    if sought == "revocation":
        world.revoke("address", NET)
        world.meet()
    else:
        world.meet(NET)
    walk = world.walk().until(lambda: crowd[0].ended)
    if how == "cancelled":
        walk.cancel()
    else:
        with interrupted(finding, "in_networks", monkeypatch), pytest.raises(Interruption):
            walk.finish()
    assert ended(crowd) == [True, False, False]
    assert world.enforcement.is_due
    world.walk().finish()
    assert all(ended(crowd))


@pytest.mark.usefixtures("one_by_one")
async def test_an_interrupted_search_takes_nothing_from_what_came_meanwhile(world: World) -> None:
    crowd, other = world.join_all(3), world.join("203.0.113.9")
    world.revoke("address", NET)
    world.meet()
    walk = world.walk().until(lambda: crowd[0].ended)
    world.revoke("address", "203.0.113.9")
    world.meet()
    walk.cancel()
    world.walk().finish()
    assert all(ended([*crowd, other]))


@pytest.mark.parametrize(
    ("place", "name"), [(Revoked, "since"), (finding, "about"), (Registry, "of_session"), (sweeping, "enforce_blocks")]
)
async def test_a_snapshot_that_cannot_be_taken_up_is_taken_up_again(
    world: World, monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    crowd = [world.join(user=1), world.join(user=2, session_key="key"), world.join("198.51.100.1")]
    world.revoke("session", digest_of("key"))
    snapshot = world.snapshot(1, NET)
    with interrupted(place, name, monkeypatch), pytest.raises(Interruption):
        world.enforcement.meet(snapshot)
    world.enforcement.meet(snapshot)
    world.walk().finish()
    assert reasons(crowd) == ["blocked", "disconnected", "blocked"]


async def test_changes_whose_turn_was_interrupted_have_it_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcing, "TOGETHER", 2)
    crowd = [world.join(user=number, session_key=str(number)) for number in range(7)]
    for number in range(7):
        world.revoke("session", digest_of(str(number)))
    world.meet()
    with interrupted(finding, "about", monkeypatch), pytest.raises(Interruption):
        world.walk().finish()
    world.walk().finish()
    assert all(ended(crowd))


async def test_whom_an_error_has_spared_is_ended_next_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = [world.join(user=1) for _ in range(5)]
    world.revoke("user", "1")
    with interrupted(Connection, "sever", monkeypatch, after=2), pytest.raises(Interruption):
        world.meet()
    assert sum(ended(crowd)) == 2
    world.walk().finish()
    assert all(ended(crowd))


@pytest.mark.usefixtures("one_by_one")
async def test_two_at_work_at_once_lose_nothing(world: World) -> None:
    """The supervisor may have ended and begun again while the first still goes."""
    crowd, other = world.join_all(4), world.join("203.0.113.9")
    world.meet(NET)
    first = world.walk().until(lambda: crowd[0].ended)
    world.revoke("address", "203.0.113.9")
    world.meet(NET)
    second = world.walk().until(lambda: other.ended)
    first.finish()
    second.finish()
    assert all(ended([*crowd, other]))
    assert not world.enforcement.is_due


# Addresses ------------------------------------------------------------------------------------------------------------


async def test_who_shares_an_address_shares_its_fate_and_an_ipv6_neighbour_does_not(world: World) -> None:
    same = [world.join("2001:db8:5::1", user=number) for number in range(3)]
    neighbour = world.join("2001:db8:5::2")
    world.revoke("address", "2001:db8:5::1/128")
    world.meet()
    world.walk().finish()
    assert all(ended(same))
    assert not neighbour.ended
    world.meet("2001:db8:5::2/128")
    world.walk().finish()
    assert neighbour.ended


async def test_an_address_that_is_a_proxy_s_ends_nobody_behind_it(world: World) -> None:
    behind = world.join("203.0.113.9")
    world.registry.discard(behind)
    behind.address_key = None
    world.registry.add(behind)
    world.revoke("address", "203.0.113.9")
    world.meet("203.0.113.9")
    world.walk().finish()
    assert not behind.ended


async def test_without_anything_new_nobody_is_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.join_all(3)
    world.meet("203.0.113.0/24")
    world.walk().finish()
    looked: list[Any] = []
    monkeypatch.setattr(finding, "by_address", looked.append)
    world.meet("203.0.113.0/24")
    world.revoke("user", "1")
    world.meet("203.0.113.0/24")
    assert not world.enforcement.is_due
    world.walk().finish()
    assert looked == []
