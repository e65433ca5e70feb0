"""Who is here: over sockets that come and go, processes that die, a database that is away, and in a crowd."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_secure.groups import hub
from channels_secure.models import LiveConnection, LiveProcess
from channels_secure.rooms import attending, presence, roll
from channels_secure.rooms.attending import Present, Somebody
from channels_secure.rooms.models import Attendance, Membership, Room
from channels_secure.rooms.roles import Role
from channels_secure.rooms.roll import Roll
from channels_secure.rooms.rolls import GROUP, rolls
from tests.rooms.people import a_room, asked, heard, inside, person
from tests.sockets import logged, quiet, until

__all__ = ["quiet"]

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def process(name: str, *, lives: bool = True) -> LiveProcess:
    lease = timezone.now() + (HOUR if lives else -HOUR)
    return LiveProcess.objects.create(id=name, host="web-1", pid=1, lease_until=lease)


def attend(room: Room, key: str, user: Any, *, of: LiveProcess | None, is_old: bool = True) -> None:
    entered = timezone.now() - HOUR if is_old else timezone.now()
    name = "" if user is None else user.get_username()
    Attendance.objects.create(
        connection_id=key, room=room, user_id=getattr(user, "pk", None), username=name, entered_at=entered
    )
    if of is not None:
        LiveConnection.objects.create(connection_id=key, process=of, opened_at=entered)


@pytest.fixture
def room() -> Room:
    room = Room(slug="lobby", title="Lobby")
    room.save()
    return room


# Rows ----------------------------------------------------------------------------------------------------------------


def test_a_user_is_here_once_and_for_as_long_as_one_of_their_processes_lives(room: Room, make_user: Any) -> None:
    alice, bob, carol = make_user("alice"), make_user("bob"), make_user("carol")
    living, dead = process("living"), process("dead", lives=False)
    attend(room, "a1", alice, of=living)
    attend(room, "a2", alice, of=dead)
    attend(room, "b1", bob, of=dead)
    attend(room, "c1", carol, of=None)
    attend(room, "n1", None, of=living)
    attend(room, "n2", None, of=living)
    assert (presence.who(room), presence.count("lobby")) == ({alice.pk: "alice"}, 3)


def test_whoever_came_just_now_is_here_before_the_table_of_live_connections_says_so(room: Room, user: Any) -> None:
    attend(room, "a1", user, of=None, is_old=False)
    assert presence.who(room) == {user.pk: "alice"}


def test_what_dead_processes_left_behind_is_deleted_and_nothing_else(room: Room, user: Any) -> None:
    attend(room, "lives", user, of=process("living"))
    attend(room, "dead", user, of=process("dead", lives=False))
    attend(room, "gone", user, of=None)
    attend(room, "new", user, of=None, is_old=False)
    attending.forget_stale()
    assert set(Attendance.objects.values_list("pk", flat=True)) == {"lives", "new"}


def test_everybody_is_here_with_their_role_as_it_is_in_force(room: Room, make_user: Any) -> None:
    living = process("living")
    roles = {"owner": "owner", "moderator": "moderator", "member": "member", "banned": "guest", "stranger": "guest"}
    users = {name: make_user(name) for name in roles}
    room.owner = users["owner"]
    room.save()
    for name in ("moderator", "member"):
        Membership.objects.create(room=room, user=users[name], role=name)
    # By SQL, as are both roles that are none in force.
    Membership.objects.bulk_create([Membership(room=room, user=users["banned"], role="moderator", banned=True)])
    other = Room.objects.create(slug="attic", title="Attic", owner=users["stranger"])
    for name, user in users.items():
        attend(room, name, user, of=living)
    attend(other, "elsewhere", users["owner"], of=living)
    found = attending.read([room.pk, other.pk])
    assert {each.name: each.role for each in found[room.pk].users.values()} == roles
    assert [each.role for each in found[other.pk].users.values()] == [Role.GUEST]


def test_writing_twice_changes_nothing(room: Room, user: Any) -> None:
    row = Attendance(connection_id="a1", room_id=room.pk, user_id=user.pk, username="alice")
    attending.write([row], [])
    attending.write([row], ["never was"])
    assert presence.count(room) == 1
    attending.write([], ["a1"])
    assert presence.count(room) == 0


async def test_the_twins_from_the_event_loop_say_the_same() -> None:
    await a_room()
    assert (await presence.awho("lobby"), await presence.acount("lobby")) == ({}, 0)


def test_a_room_that_does_not_exist_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no room"):
        presence.count("attic")


def test_a_project_that_deletes_a_user_or_a_room_touches_no_row_that_a_process_may_hold(room: Room, user: Any) -> None:
    """Two who delete the same rows in another order could wait for each other; these end with their sockets."""
    attend(room, "a1", user, of=None)
    with CaptureQueriesContext(connection) as captured:
        user.delete()
        room.delete()
    assert not [query for query in captured.captured_queries if "attendance" in query["sql"]]
    attending.forget_stale()
    assert not Attendance.objects.exists()


# Telling -------------------------------------------------------------------------------------------------------------


class Listener:
    """A socket that keeps what it is told."""

    def __init__(self, user: Any) -> None:
        self.scope, self.heard = {"user": user}, list[Any]()
        self.connection: Any = self
        self.room: Any = None
        self.role = Role.MEMBER

    def post(self, text: str) -> None:
        self.heard.append(json.loads(text))

    def say_what_changed(self) -> None:
        self.heard.append("changed")

    def took(self) -> list[Any]:
        heard, self.heard = self.heard, []
        return [(frame["type"], frame.get("user", {}).get("name"), frame["count"]) for frame in heard]


def people(count: int, *, start: int = 1) -> dict[Any, Somebody]:
    return {number: Somebody(f"user{number}", Role.GUEST) for number in range(start, start + count)}


@pytest.fixture
def listener(make_user: Any) -> Listener:
    return Listener(make_user("alice", id=1000))


def test_who_came_and_who_went_are_named(listener: Listener) -> None:
    known = Roll()
    known.add(listener)
    known.meet(Present(people(2)), 0.0)
    assert listener.took() == []
    known.meet(Present(people(2, start=2)), 1.0)
    assert listener.took() == [("room.left", "user1", 3), ("room.joined", "user3", 3)]
    known.meet(Present(people(2, start=2)), 2.0)
    assert listener.took() == []
    known.meet(Present(people(2, start=2), 4), 3.0)
    assert listener.took() == [("room.here", None, 7)]


def test_whoever_has_a_socket_here_is_here_whatever_was_read(listener: Listener) -> None:
    known = Roll()
    known.add(listener)
    known.meet(Present(), 0.0)
    assert known.present.users == {1000: Somebody("alice", Role.MEMBER)}


def test_another_role_is_told_with_everybody_who_is_here(listener: Listener) -> None:
    known = Roll()
    known.add(listener)
    known.meet(Present(people(2)), 0.0)
    known.meet(Present({**people(2), 2: Somebody("user2", Role.MODERATOR)}), 1.0)
    (frame,) = listener.heard
    assert (frame["type"], frame["count"], [each["role"] for each in frame["members"]]) == (
        "room.here", 3, ["guest", "moderator", "member"]
    )  # fmt: skip
    known.meet(Present({**people(2), 2: Somebody("renamed", Role.MODERATOR)}, 1), 2.0)
    assert listener.took()[1:] == [("room.here", None, 4)]


def test_a_crowd_is_counted_and_a_small_room_named_again(listener: Listener) -> None:
    known = Roll()
    known.add(listener)
    known.meet(Present(people(5)), 0.0)
    known.meet(Present(people(roll.MOST_NAMED + 1)), 1.0)
    assert listener.took() == [("room.here", None, roll.MOST_NAMED + 2)]
    known.meet(Present(people(roll.MOST_NAMED + 5)), 2.0)
    assert listener.took() == [("room.here", None, roll.MOST_NAMED + 6)]
    assert len(known.named()) == roll.MOST_NAMED
    known.meet(Present(people(3)), 3.0)
    (frame,) = listener.heard
    assert (frame["count"], len(frame["members"])) == (4, 4)


# Trouble -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("trouble", [OperationalError, RuntimeError])
async def test_presence_that_cannot_be_written_keeps_nobody_out_and_is_written_later(
    trouble: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await person("alice"), await person("bob")
    await a_room(owner=alice)
    monkeypatch.setattr("channels_secure.rooms.rolls.RETRY", 0.01)
    monkeypatch.setattr("channels_secure.rooms.rolls.PATIENCE", 0.05)
    real, failures = attending.write, 0

    def fail(*_: Any) -> None:
        nonlocal failures
        failures += 1
        raise trouble("away")

    attending.write = fail  # type: ignore[assignment]
    try:
        first, second = await inside("lobby", alice), await inside("lobby", bob)
        assert (await asked(first, "room.say", text="hello"))["type"] == "room.done"
        await until(lambda: failures > 2)
    finally:
        attending.write = real
    # Let in before anything could be read, so told now.
    assert (await heard(first, "room.here"))["count"] == 2
    assert await presence.acount("lobby") == 2
    await second.disconnect()
    assert (await heard(first, "room.left"))["user"]["name"] == "bob"
    await first.disconnect()
    assert logged(caplog).count("attendance.unwritable") == 1


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "text", ["", ":", "x:", "x:1,,2", "x:-1", "x:" + "9" * 5000, "x:\u0663", "x:1e9", "x:" + "7," * 9999]
)
async def test_whatever_is_written_into_the_layer_only_makes_a_process_look(text: str) -> None:
    alice = await person("alice")
    await a_room(owner=alice)
    socket = await inside("lobby", alice)
    rolls().tell(10**6, "nobody")
    await hub().broadcast(GROUP, text)
    assert (await asked(socket, "room.who"))["count"] == 1
    await socket.disconnect()
