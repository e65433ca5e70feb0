"""Whatever changes in a room holds for the sockets that are open there, whoever changed it and however."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from channels_secure.connections import registry
from channels_secure.models import Revocation
from channels_secure.rooms import looking
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role
from channels_secure.supervisor import current
from channels_secure.supervisor.revalidation import revalidate
from tests.rooms.people import a_room, asked, enter, heard, in_thread, inside, membership, person
from tests.sockets import connect, quiet, until

__all__ = ["quiet"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


def set_on(row: Any, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


# Memberships ---------------------------------------------------------------------------------------------------------


async def test_a_saved_membership_holds_on_the_open_socket() -> None:
    bob = await person("bob")
    room = await a_room()
    row = await membership(room, bob)
    socket = await inside("lobby", bob)
    await in_thread(set_on, row, role=Role.MODERATOR)
    assert (await heard(socket, "room.changed"))["role"] == "moderator"
    await in_thread(set_on, row, muted_until=timezone.now() + timedelta(minutes=1))
    assert (await heard(socket, "room.changed"))["muted"] in (59, 60)
    await in_thread(set_on, row, banned=True)
    assert await socket.closing() == (4403, "permission_denied")


async def test_whoever_becomes_a_member_while_here_is_one_here() -> None:
    bob = await person("bob")
    room = await a_room()
    socket = await inside("lobby", bob)
    await membership(room, bob)
    assert (await heard(socket, "room.changed"))["role"] == "member"
    await socket.disconnect()


@pytest.mark.parametrize("how", ["row", "rows", "user"])
async def test_a_deleted_membership_ends_the_socket_where_it_was_needed(how: str) -> None:
    bob = await person("bob")
    row = await membership(await a_room(visibility="members"), bob)
    socket = await inside("lobby", bob)
    gone = {"row": row, "rows": Membership.objects.filter(user=bob), "user": bob}[how]
    await in_thread(gone.delete)
    assert (await socket.closing())[1] == ("session_ended" if how == "user" else "permission_denied")


async def test_what_sql_changes_is_found_by_revalidation() -> None:
    bob, carol = await person("bob"), await person("carol")
    room = await a_room()
    for each in (bob, carol):
        await membership(room, each)
    first, second = await inside("lobby", bob), await inside("lobby", carol)
    await Membership.objects.filter(user=bob).aupdate(banned=True)
    await Membership.objects.filter(user=carol).aupdate(role=Role.MODERATOR)
    await Room.objects.filter(pk=room.pk).aupdate(slow_mode=7)
    await revalidate(registry())
    assert (await first.closing())[1] == "permission_denied"
    changed = await heard(second, "room.changed")
    assert (changed["role"], changed["slow"]) == ("moderator", 7)
    await second.disconnect()


async def test_a_change_that_is_rolled_back_tells_nobody() -> None:
    room, bob = await a_room(), await person("bob")

    def fail() -> None:
        with transaction.atomic():
            Membership(room=room, user=bob, banned=True).save()
            raise RuntimeError

    before = await Revocation.objects.acount()
    with pytest.raises(RuntimeError):
        await in_thread(fail)
    assert await Revocation.objects.acount() == before


# Rooms ---------------------------------------------------------------------------------------------------------------


async def test_a_room_that_closes_keeps_its_members() -> None:
    alice, bob, carol = [await person(name) for name in ("alice", "bob", "carol")]
    room = await a_room(owner=alice)
    await membership(room, bob)
    sockets = {each.username: await inside("lobby", each) for each in (alice, bob, carol)}
    await in_thread(set_on, room, visibility="private", title="Back room")
    assert (await sockets["carol"].closing())[1] == "permission_denied"
    for name in ("alice", "bob"):
        assert (await heard(sockets[name], "room.changed"))["title"] == "Back room"
        await sockets[name].disconnect()


async def test_strangers_leave_a_room_that_closes() -> None:
    class Open(RoomConsumer):
        allow_anonymous = True

        def room_slug(self) -> str:
            return "lobby"

    room = await a_room()
    socket = connect(Open)
    (await socket.shake_hands()).assert_accepted()
    await in_thread(set_on, room, visibility="members")
    assert (await socket.closing())[1] == "permission_denied"


async def test_a_new_rate_holds_at_once() -> None:
    alice = await person("alice")
    room = await a_room(owner=alice)
    socket = await inside("lobby", alice)
    assert (await asked(socket, "room.say", text="hello"))["type"] == "room.done"
    await in_thread(set_on, room, message_rate="1/d", title="Quiet")
    await heard(socket, "room.changed")
    assert (await asked(socket, "room.say", text="hello"))["type"] == "room.done"
    assert (await asked(socket, "room.say", text="hello"))["code"] == "rate_limited"
    await socket.disconnect()


async def test_a_renamed_room_remains_the_room() -> None:
    alice = await person("alice")
    room = await a_room(owner=alice)
    socket = await inside("lobby", alice)
    await in_thread(set_on, room, slug="hall", title="Hall")
    assert (await heard(socket, "room.changed"))["title"] == "Hall"
    other = await inside("hall", alice)
    await asked(other, "room.say", text="hello")
    assert (await heard(socket, "room.said"))["text"] == "hello"
    (await enter("lobby", alice).shake_hands()).assert_refused("permission_denied")
    await socket.disconnect()
    await other.disconnect()


@pytest.mark.parametrize("by_queryset", [False, True])
async def test_a_deleted_room_ends_its_sockets_with_few_queries(
    by_queryset: bool, django_assert_max_num_queries: Any
) -> None:
    users = [await person(f"user{number}") for number in range(30)]
    room = await a_room()
    await Membership.objects.abulk_create([Membership(room=room, user=user) for user in users])
    socket = await inside("lobby", users[0])
    told = await Revocation.objects.acount()

    def delete() -> None:
        with django_assert_max_num_queries(20):
            _ = Room.objects.filter(pk=room.pk).delete() if by_queryset else room.delete()

    await in_thread(delete)
    assert await socket.closing() == (4404, "not_found")
    assert await Revocation.objects.acount() == told + 1


async def test_a_new_owner_holds_on_both_sockets() -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await a_room(owner=alice)
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    await in_thread(set_on, room, owner=bob)
    assert (await heard(first, "room.changed"))["role"] == "moderator"
    assert (await heard(second, "room.changed"))["role"] == "owner"
    await first.disconnect()
    await second.disconnect()


async def test_a_room_outlives_its_owner() -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await a_room(owner=alice)
    socket = await inside("lobby", bob)
    await in_thread(alice.delete)
    await room.arefresh_from_db()
    assert room.owner_id is None
    assert not await Membership.objects.filter(role=Role.OWNER).aexists()
    assert (await asked(socket, "room.say", text="hello"))["type"] == "room.done"
    await socket.disconnect()


async def test_a_room_that_nobody_may_enter_any_more_tells_those_on_the_way_out_nothing() -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await a_room(owner=alice)
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    await in_thread(set_on, room, visibility="private", title="What bob must not know")
    assert (await heard(first, "room.changed"))["title"] == "What bob must not know"
    frames = [await second.receive_json_from()]
    while frames[-1]["type"] != "error":
        frames.append(await second.receive_json_from())
    assert "must not know" not in str(frames)
    assert (await second.closing())[1] == "permission_denied"
    await first.disconnect()


async def test_those_who_are_here_learn_of_another_role_whoever_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels_secure.rooms.rolls.LOOK_INTERVAL", 0.1)
    alice, bob = await person("alice"), await person("bob")
    room = await a_room(owner=alice)
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    await membership(room, bob, Role.MODERATOR)
    here = await heard(first, "room.here")
    assert {each["name"]: each["role"] for each in here["members"]} == {"alice": "owner", "bob": "moderator"}
    await first.disconnect()
    await second.disconnect()


# Together ------------------------------------------------------------------------------------------------------------


async def test_a_room_of_many_is_looked_at_with_few_queries(settings: Any) -> None:
    settings.CHANNELS_SECURE = {
        "MAX_CONNECTIONS": {"user": None, "ip": None},
        "HANDSHAKE_RATES": {"ip": None, "user": None},
    }
    users = [await person(f"user{number}") for number in range(60)]
    room = await a_room()
    await Membership.objects.abulk_create([Membership(room=room, user=user) for user in users])
    sockets = [await inside("lobby", user) for user in users]
    looks: list[int] = []
    real = looking._look_up

    def counted(questions: Any) -> Any:
        looks.append(len(questions))
        return real(questions)

    looking._look_up = counted
    try:
        await in_thread(set_on, room, title="Great hall")
        for socket in sockets:
            await heard(socket, "room.changed")
        # Told with the first look, but each is looked at.
        await until(lambda: sum(looks) >= 60)
    finally:
        looking._look_up = real
    # Sixty sockets, and the room itself now and then.
    assert 60 <= sum(looks) < 75
    assert len(looks) <= 15
    current().wake()
    for socket in sockets:
        await socket.disconnect()


async def test_what_one_socket_learns_of_the_room_is_told_to_all_at_once() -> None:
    """The others are not looked at: whoever waits behind a thousand hears of the room's rules with the first."""
    alice, bob = await person("alice"), await person("bob")
    await a_room(owner=alice)
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    await Room.objects.aupdate(title="Great hall", slow_mode=9)
    await revalidate([each for each in registry() if each.user.pk == alice.pk])
    for socket in (first, second):
        changed = await heard(socket, "room.changed")
        assert (changed["title"], changed["slow"]) == ("Great hall", 9)
    await first.disconnect()
    await second.disconnect()


async def test_sockets_of_one_room_share_what_is_known_of_it() -> None:
    alice, bob = await person("alice"), await person("bob")
    await a_room(owner=alice)
    made: list[RoomConsumer] = []

    class Seen(RoomConsumer):
        async def connect(self) -> None:
            made.append(self)
            await super().connect()

        def room_slug(self) -> str:
            return "lobby"

    async with connect(Seen, user=alice), connect(Seen, user=bob):
        assert made[0].room is made[1].room
        await get_user_model().objects.filter(pk=bob.pk).aupdate(is_staff=True)
        await Room.objects.aupdate(slow_mode=9)
        await revalidate([made[0].connection])
        assert made[1].room.slow_mode == 9
