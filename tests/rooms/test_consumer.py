"""A room over its socket: entering, speaking, and who else is here."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from channels_secure.consumers import handles
from channels_secure.consumers.misdeclared import BadDeclaration
from channels_secure.rooms import messages
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.looking import desk
from channels_secure.rooms.models import Room
from tests.rooms.people import a_room, asked, enter, heard, inside, membership, person
from tests.sockets import connect, quiet, rows

__all__ = ["quiet"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


# Entering ------------------------------------------------------------------------------------------------------------


async def test_the_first_message_tells_the_rules_and_who_is_here() -> None:
    alice, bob = await person("alice"), await person("bob")
    await a_room("lobby", owner=alice, slow_mode=5)
    first = await inside("lobby", alice)
    socket = enter("lobby", bob)
    async with socket:
        assert await heard(socket, "room.entered") == {
            "type": "room.entered", "room": "lobby", "title": "Lobby", "role": "guest", "slow": 5, "encrypted": False,
            "muted": 0, "count": 2, "members": [
                {"id": alice.pk, "name": "alice", "role": "owner"}, {"id": bob.pk, "name": "bob", "role": "guest"}
            ],
        }  # fmt: skip
        joined = await heard(first, "room.joined")
        assert joined == {"type": "room.joined", "user": {"id": bob.pk, "name": "bob", "role": "guest"}, "count": 2}
    left = await heard(first, "room.left")
    assert left == {"type": "room.left", "user": {"id": bob.pk, "name": "bob"}, "count": 1}
    await first.disconnect()


@pytest.mark.parametrize("visibility", Room.Visibility)
async def test_a_room_lets_in_whom_its_visibility_says(visibility: str) -> None:
    owner, member, banned, stranger = [await person(name) for name in ("owner", "member", "banned", "stranger")]
    room = await a_room("club", owner=owner, visibility=visibility)
    await membership(room, member)
    await membership(room, banned, "guest", banned=True)
    outcomes = {each.username: await enter("club", each).shake_hands() for each in (owner, member, banned, stranger)}
    is_in = {name: outcome.accepted for name, outcome in outcomes.items()}
    assert is_in == {"owner": True, "member": True, "banned": False, "stranger": visibility == "public"}


async def test_nobody_learns_which_private_rooms_there_are() -> None:
    alice = await person("alice")
    await a_room("secret", visibility="private")
    refused, unknown = [await enter(room, alice).shake_hands() for room in ("secret", "nothing")]
    assert refused == unknown
    refused.assert_refused("permission_denied", code=4403)


@pytest.mark.parametrize("name", ["%00", "a%00b", "x" * 5000, "%ED%A0%80", "%20", "\u202egnp"])
async def test_a_name_that_no_database_can_be_asked_for_is_no_room(name: str) -> None:
    outcome = await connect(RoomConsumer, "/ws/", user=await person("alice")).shake_hands()
    outcome.assert_refused("internal_error")
    (await enter(name, await person("bob")).shake_hands()).assert_refused("permission_denied")


@pytest.mark.parametrize("name", ["", "\x00", "a\x00b", "x" * 81, "\ud800", "\u202egnp", "a\nb"])
async def test_no_database_is_asked_for_it(name: str) -> None:
    """SQLite would answer; PostgreSQL refuses NUL and lone surrogates with an error."""
    assert await desk().ask(name, None) is None
    assert desk()._task is None


@pytest.mark.parametrize("slug", ["cafe\u0301", "caf\u00e9", "日本語", "ελληνικά", "комната"])
async def test_a_room_is_found_by_its_name_in_whatever_form_it_is_written(slug: str) -> None:
    alice = await person("alice")
    await a_room(slug)
    async with enter(slug, alice):
        pass


async def test_strangers_listen_where_the_consumer_lets_them_in_and_say_nothing() -> None:
    class Open(RoomConsumer):
        allow_anonymous = True

        def room_slug(self) -> str:
            return "lobby"

    await a_room("lobby")
    async with connect(Open) as socket:
        entered = await heard(socket, "room.entered")
        assert (entered["role"], entered["members"], entered["count"]) == ("guest", [], 1)
        answer = await asked(socket, "room.say", text="hello")
        assert (answer["code"], answer["message"]) == ("permission_denied", "Log in to speak.")
        assert (await asked(socket, "room.kick", user=1))["code"] == "permission_denied"
        assert (await asked(socket, "room.delete", message="x."))["code"] == "permission_denied"


def test_a_consumer_on_another_channel_layer_cannot_be_declared() -> None:
    """Nobody in its rooms would hear of moderation and presence; so the server does not start."""

    class Elsewhere:
        channel_layer_alias = "elsewhere"

    with pytest.raises(BadDeclaration, match="channel_layer_alias"):
        type("GardenConsumer", (Elsewhere, RoomConsumer), {})
    with pytest.raises(BadDeclaration, match="channel_layer_alias"):

        class AtticConsumer(RoomConsumer):
            channel_layer_alias = "attic"


async def test_a_consumer_of_ones_own_keeps_what_was_said_and_forgets_what_was_deleted() -> None:
    kept: dict[str, str | None] = {}

    class Keeping(RoomConsumer):
        def room_slug(self) -> str:
            return "lobby"

        @handles("room.say")
        async def say(self, message: messages.Say) -> None:
            said = await super().say(message)
            if said is not None:
                kept[said.id] = said.text

        @handles("room.delete")
        async def delete(self, message: messages.Delete) -> None:
            await super().delete(message)
            del kept[message.message]

    alice, bob = await person("alice"), await person("bob")
    await a_room("lobby", owner=alice, slow_mode=60)
    async with connect(Keeping, user=bob) as socket:
        name = (await asked(socket, "room.say", text="kept"))["message"]
        assert (await asked(socket, "room.say", text="too soon"))["code"] == "rate_limited"
        assert kept == {name: "kept"}
        for wrong in (name.replace(".", ".9", 1), f"0123456789abcdef.{name.split('.')[1]}.{alice.pk}"):
            assert (await asked(socket, "room.delete", message=wrong))["type"] == "error"
        assert (await asked(socket, "room.delete", message=name))["type"] == "room.done"
    assert kept == {}


# Speaking ------------------------------------------------------------------------------------------------------------


async def test_everybody_hears_what_one_says_with_a_name_and_a_time() -> None:
    alice, bob = await person("alice"), await person("bob \U0001f600\u202e")
    await a_room("lobby", owner=alice)
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    done = await asked(second, "room.say", text="hello")
    said = await heard(first, "room.said")
    assert said["text"] == "hello"
    assert said["user"] == {"id": bob.pk, "name": "bob \U0001f600\u202e"}
    assert (done["type"], done["message"]) == ("room.done", said["id"])
    assert said["id"].endswith(f".{bob.pk}")
    assert said["at"].endswith("Z")
    await first.disconnect()
    await second.disconnect()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_room_takes_what_it_is_for(encrypted: bool) -> None:
    alice = await person("alice")
    await a_room("lobby", owner=alice, encrypted=encrypted)
    socket = await inside("lobby", alice)
    both: list[dict[str, Any]] = [{"text": "hello"}, {"text": "hello", "sealed": {}}, {}]
    answers = [(await asked(socket, "room.say", **each)).get("code") for each in both]
    assert answers == [None if not encrypted else "invalid_message", "invalid_message", "invalid_message"]
    await socket.disconnect()


async def test_a_muted_member_is_told_for_how_long() -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await a_room("lobby", owner=alice)
    await membership(room, bob, muted_until=timezone.now() + timedelta(seconds=60))
    socket = enter("lobby", bob)
    async with socket:
        assert (await heard(socket, "room.entered"))["muted"] in (59, 60)
        answer = await asked(socket, "room.say", text="hello")
        assert (answer["code"], answer["message"]) == ("permission_denied", "You are muted.")
        assert 50 < answer["retry_after"] <= 60
    assert [(row.kind, row.detail) for row in await rows(kind="message.denied")] == [
        ("message.denied", {"detail": "muted"})
    ]


async def test_a_mute_that_is_over_is_none() -> None:
    bob = await person("bob")
    await membership(await a_room("lobby"), bob, muted_until=timezone.now() - timedelta(seconds=1))
    socket = await inside("lobby", bob)
    assert (await asked(socket, "room.say", text="hello"))["type"] == "room.done"
    await socket.disconnect()


# Rates ---------------------------------------------------------------------------------------------------------------


async def test_slow_mode_makes_members_wait_and_moderators_not() -> None:
    alice, bob = await person("alice"), await person("bob")
    await a_room("lobby", owner=alice, slow_mode=60)
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    assert [(await asked(first, "room.say", text="hello"))["type"] for _ in range(3)] == ["room.done"] * 3
    assert (await asked(second, "room.say", text="hello"))["type"] == "room.done"
    answer = await asked(second, "room.say", text="hello")
    assert (answer["code"], answer["message"], answer["fatal"]) == ("rate_limited", "Slow mode is on.", False)
    assert 50 < answer["retry_after"] <= 60
    # Another socket of the same user waits as well.
    third = await inside("lobby", bob)
    assert (await asked(third, "room.say", text="hello"))["code"] == "rate_limited"
    for socket in (first, second, third):
        await socket.disconnect()


async def test_whom_a_busy_room_refuses_learns_when_slow_mode_lets_them_try_again() -> None:
    alice, bob = await person("alice"), await person("bob")
    await a_room("lobby", owner=alice, slow_mode=300, message_rate="1/m")
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    await asked(first, "room.say", text="the one message of this minute")
    refused = await asked(second, "room.say", text="hello")
    assert (refused["code"], refused["message"]) == ("rate_limited", "The room is busy.")
    again = await asked(second, "room.say", text="hello")
    assert again["message"] == "Slow mode is on."
    assert 290 < again["retry_after"] <= refused["retry_after"] == 300
    await first.disconnect()
    await second.disconnect()


async def test_a_busy_room_is_nobodys_fault() -> None:
    alice, bob = await person("alice"), await person("bob")
    await a_room("lobby", owner=alice, message_rate="2/m")
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    for _ in range(2):
        assert (await asked(first, "room.say", text="hello"))["type"] == "room.done"
    answers = [await asked(second, "room.say", text="hello") for _ in range(15)]
    assert {(answer["code"], answer["message"]) for answer in answers} == {("rate_limited", "The room is busy.")}
    await first.disconnect()
    await second.disconnect()
    assert await rows(kind="message.denied") == []


# Presence ------------------------------------------------------------------------------------------------------------


async def test_somebody_with_three_sockets_is_here_once_and_until_the_last() -> None:
    alice, bob = await person("alice"), await person("bob")
    await a_room("lobby", owner=alice)
    watcher = await inside("lobby", alice)
    sockets = [await inside("lobby", bob) for _ in range(3)]
    here = await asked(watcher, "room.who")
    assert here == {
        "type": "room.here",
        "ref": "q",
        "count": 2,
        "members": [
            {"id": alice.pk, "name": "alice", "role": "owner"},
            {"id": bob.pk, "name": "bob", "role": "guest"},
        ],
    }
    for socket in sockets[:2]:
        await socket.disconnect()
    assert (await asked(watcher, "room.who"))["count"] == 2
    await sockets[2].disconnect()
    assert (await heard(watcher, "room.left"))["user"]["id"] == bob.pk
    assert (await asked(watcher, "room.who"))["count"] == 1
    await watcher.disconnect()
