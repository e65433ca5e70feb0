"""Decisions that meet an entrance, a word or each other half-way."""

import asyncio
from typing import Any

import pytest

from channels_secure import database
from channels_secure.connections import registry
from channels_secure.rooms import looking, moderation
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.messages import Say
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role
from tests.rooms.people import a_room, asked, enter, heard, in_thread, inside, membership, person
from tests.sockets import PATIENCE, connect, quiet, until

__all__ = ["quiet"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


class Door:
    """Holds a socket up at one place, until somebody opens it."""

    def __init__(self) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()

    async def is_reached(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.reached.wait()


def held(door: Door, where: str) -> type[RoomConsumer]:
    """A consumer whose first passage at one place waits at a door."""

    class Held(RoomConsumer):
        def room_slug(self) -> str:
            return "lobby"

        async def authorize(self) -> bool:
            may = await super().authorize()
            if where == "authorize":
                await door.pass_through()
            return may

        async def connect(self) -> None:
            await super().connect()
            if where == "connect":
                await door.pass_through()

        async def say(self, message: Say) -> None:
            await super().say(message)
            if where == "say":
                await door.pass_through()

    return Held


@pytest.mark.parametrize("where", ["authorize", "connect"])
@pytest.mark.parametrize("visibility", ["public", "members"])
async def test_a_ban_that_meets_an_entrance_wins(where: str, visibility: str) -> None:
    bob = await person("bob")
    room = await a_room(visibility=visibility)
    await membership(room, bob)
    door = Door()
    socket = connect(held(door, where), user=bob)
    shaking = asyncio.ensure_future(socket.shake_hands())
    await door.is_reached()
    await moderation.aban(room, bob)
    door.opened.set()
    outcome = await shaking
    assert (await socket.closing())[1] == "permission_denied" if outcome.accepted else outcome.refusal
    await until(lambda: not registry())


async def test_a_removal_that_meets_an_entrance_wins() -> None:
    """No mark finds this socket: it is asked once more because its user's rights have changed."""
    bob = await person("bob")
    room = await a_room(visibility="members")
    row = await membership(room, bob)
    door = Door()
    socket = connect(held(door, "authorize"), user=bob)
    shaking = asyncio.ensure_future(socket.shake_hands())
    await door.is_reached()
    await in_thread(row.delete)
    door.opened.set()
    await shaking
    assert (await socket.closing())[1] == "permission_denied"


async def test_a_ban_is_not_delayed_by_a_handler_that_hangs() -> None:
    bob = await person("bob")
    room, door = await a_room(), Door()
    socket = connect(held(door, "say"), user=bob)
    (await socket.shake_hands()).assert_accepted()
    await socket.send_json_to({"type": "room.say", "text": "hello"})
    await door.is_reached()
    await moderation.aban(room, bob)
    # The door stays shut.
    assert (await socket.closing())[1] == "permission_denied"


async def test_a_word_that_comes_after_a_mute_was_told_is_not_heard() -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await a_room(owner=alice)
    first, second = await inside("lobby", alice), await inside("lobby", bob)
    for _ in range(5):
        await moderation.amute(room, bob, 60)
        await heard(second, "room.changed")
        assert (await asked(second, "room.say", text="muted"))["code"] == "permission_denied"
        await moderation.aunmute(room, bob)
        await heard(second, "room.changed")
    await first.disconnect()
    await second.disconnect()
    said = []
    while not first.output_queue.empty():
        said.append(first.output_queue.get_nowait())
    assert not [frame for frame in said if "muted" in frame.get("text", "") and "room.said" in frame["text"]]


async def test_words_and_a_mute_at_the_same_moment_are_in_one_order_for_the_speaker() -> None:
    """Of many words said while a mute comes, those before it are heard and all after it refused."""
    alice, bob = await person("alice"), await person("bob")
    room = await a_room(owner=alice)
    socket = await inside("lobby", bob)
    muting = asyncio.ensure_future(moderation.amute(room, bob, 60, alice))
    answers = []
    for number in range(15):
        answers.append((await asked(socket, "room.say", text=str(number)))["type"])
        if muting.done():
            break
    await muting
    await heard(socket, "room.changed")
    assert (await asked(socket, "room.say", text="after"))["type"] == "error"
    assert "room.done" not in answers[answers.index("error") :] if "error" in answers else True
    await socket.disconnect()


async def test_a_look_that_began_before_a_change_is_no_answer_to_a_question_asked_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bob = await person("bob")
    room = await a_room()
    row = await membership(room, bob)
    reached, opened = asyncio.Event(), asyncio.Event()
    loop, real = asyncio.get_running_loop(), database.run

    async def slow(function: Any, *args: Any) -> Any:
        found = await real(function, *args)
        reached.set()
        await opened.wait()
        return found

    monkeypatch.setattr(looking.database, "run", slow)
    early = asyncio.ensure_future(looking.desk().ask("lobby", bob.pk))
    await reached.wait()
    await Membership.objects.filter(pk=row.pk).aupdate(role=Role.MODERATOR)
    late = asyncio.ensure_future(looking.desk().ask("lobby", bob.pk))
    opened.set()
    before, after = await early, await late
    assert before is not None
    assert after is not None
    assert before[1] is not None
    assert after[1] is not None
    assert (before[1].role, after[1].role) == ("member", "moderator")
    assert loop is asyncio.get_running_loop()


async def test_a_question_that_nobody_waits_for_any_more_harms_no_other() -> None:
    bob = await person("bob")
    await a_room()
    first = asyncio.ensure_future(looking.desk().ask("lobby", bob.pk))
    await asyncio.sleep(0)
    first.cancel()
    found = await looking.desk().ask("lobby", None)
    assert found is not None
    assert found[0].slug == "lobby"


async def test_two_moderators_who_ban_each_other_keep_the_room_ruled() -> None:
    """Equals cannot; the owner decides, and whoever is demoted first is the one who loses."""
    alice, bob, carol = [await person(name) for name in ("alice", "bob", "carol")]
    room = await a_room(owner=alice)
    for each in (bob, carol):
        await membership(room, each, Role.MODERATOR)
    first, second = await inside("lobby", bob), await inside("lobby", carol)
    answers = await asyncio.gather(asked(first, "room.ban", user=carol.pk), asked(second, "room.ban", user=bob.pk))
    assert [answer["code"] for answer in answers] == ["permission_denied", "permission_denied"]
    await first.disconnect()
    await second.disconnect()


async def test_handing_over_twice_at_once_leaves_one_owner() -> None:
    alice, bob, carol = [await person(name) for name in ("alice", "bob", "carol")]
    room = await a_room(owner=alice)
    done = await asyncio.gather(
        *(in_thread(moderation.promote, room, each, "owner", alice) for each in (bob, carol)),
        return_exceptions=True,
    )
    assert sum(result is None for result in done) == 1
    owner = (await Room.objects.aget(pk=room.pk)).owner_id
    assert owner in (bob.pk, carol.pk)
    assert [row.user_id async for row in Membership.objects.filter(role=Role.OWNER)] == [owner]


async def test_many_sockets_that_come_and_go_at_once_leave_nobody_behind(settings: Any) -> None:
    settings.CHANNELS_SECURE = {
        "MAX_CONNECTIONS": {"user": None, "ip": None}, "HANDSHAKE_RATES": {"ip": None, "user": None}
    }  # fmt: skip
    alice, users = await person("alice"), [await person(f"user{number}") for number in range(12)]
    await a_room(owner=alice)
    watcher = await inside("lobby", alice)

    async def visit(user: Any) -> None:
        for _ in range(3):
            async with enter("lobby", user):
                pass

    await asyncio.gather(*(visit(user) for user in users))
    here: set[int] = set()
    answer = {"count": 0}
    async with asyncio.timeout(10):
        while answer["count"] != 1:
            await watcher.send_json_to({"type": "room.who", "id": "q"})
            while (answer := await watcher.receive_json_from()).get("ref") != "q":
                if answer["type"] == "room.joined":
                    here.add(answer["user"]["id"])
                elif answer["type"] == "room.left":
                    here.discard(answer["user"]["id"])
            await asyncio.sleep(0.1)  # asks again, until the deadline
    # Whoever has followed what was told knows the same.
    assert here <= {alice.pk}
    await watcher.disconnect()
