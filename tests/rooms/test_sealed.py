"""Encrypted rooms on the server: who gets keys, when the room key is out of date, and what is told and recorded."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from channels_secure import database
from channels_secure.audit import Source
from channels_secure.conf import get_settings
from channels_secure.groups import encode
from channels_secure.rooms import keyring, moderation
from channels_secure.rooms import membership as belonging
from channels_secure.rooms.key_messages import MAX_HOLDERS
from channels_secure.rooms.keyring import KEPT_EPOCHS, standing_of
from channels_secure.rooms.models import Epoch, Membership, PublicKey, Room, WrappedKey
from channels_secure.testing import SecureCommunicator
from tests.client_js.python_member import PythonMember, to_text
from tests.rooms.people import a_room, asked, heard, inside, membership, person
from tests.sockets import quiet, rows

__all__ = ["quiet"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

SECRET = bytes(32)
STREAM = bytes(16)


class Seat:
    """A member with a socket and a key of its own."""

    def __init__(self, user: Any, socket: SecureCommunicator) -> None:
        self.user, self.socket = user, socket
        self.keys = PythonMember("vault")

    @classmethod
    async def take(cls, user: Any) -> "Seat":
        seat = cls(user, await inside("vault", user))
        assert (await seat.publish())["key"] == seat.keys.key
        return seat

    async def ask(self, kind: str, **facts: Any) -> dict[str, Any]:
        return await asked(self.socket, kind, **facts)

    async def publish(self, **facts: Any) -> dict[str, Any]:
        return await self.ask("keys.publish", key=self.keys.key, **facts)

    async def rotate(self, epoch: int, others: "Sequence[Seat]", secret: bytes = SECRET) -> dict[str, Any]:
        holders = [seat.keys for seat in (self, *others)]
        boxes = [{"to": each.fingerprint, "box": self.keys.wrap(secret, epoch, each.key)} for each in holders]
        return await self.ask("keys.rotate", epoch=epoch, boxes=boxes)

    async def say(self, text: str, epoch: int, n: int = 1) -> dict[str, Any]:
        sealed = self.keys.seal(SECRET, text, epoch=epoch, stream=STREAM, n=n)
        return await self.ask("room.say", sealed=sealed)

    async def leave(self) -> None:
        await self.socket.disconnect()


async def vault(*names: str) -> list[Any]:
    """The members of an encrypted room; the first owns it."""
    people = [await person(name) for name in names]
    room = await a_room("vault", owner=people[0], visibility="private", encrypted=True)
    for one in people[1:]:
        await membership(room, one)
    return people


async def test_a_sealed_message_reaches_the_members_unchanged_and_opens() -> None:
    ann, ben = await vault("ann", "ben")
    first, second = await Seat.take(ann), await Seat.take(ben)
    assert (await first.rotate(1, [second]))["type"] == "keys.rotated"
    begun = await heard(second.socket, "keys.epoch")
    assert begun["maker"] == {"user": {"id": ann.pk, "name": "ann"}, "key": first.keys.key}
    box = next(each["box"] for each in begun["boxes"] if each["to"] == second.keys.fingerprint)
    assert second.keys.unwrap(box, 1, first.keys.key) == SECRET
    assert (await first.say("hush", 1))["type"] == "room.done"
    said = await heard(second.socket, "room.said")
    assert "text" not in said
    assert second.keys.open(SECRET, said["sealed"], first.keys.key) == "hush"
    for seat in (first, second):
        await seat.leave()


async def test_what_is_stored_opens_nothing() -> None:
    (ann,) = await vault("ann")
    seat = await Seat.take(ann)
    secret = bytes(range(32))
    await seat.rotate(1, [], secret)
    stored = [row async for row in WrappedKey.objects.values()] + [row async for row in Epoch.objects.values()]
    assert to_text(secret)[:40] not in str(stored)
    assert await WrappedKey.objects.acount() == 1
    await seat.leave()


async def test_the_state_says_whose_keys_there_are_and_which_room_key_is_ones_own() -> None:
    ann, ben, cleo = await vault("ann", "ben", "cleo")
    first, second = await Seat.take(ann), await Seat.take(ben)
    await first.rotate(1, [second])
    members = [
        {"user": {"id": seat.user.pk, "name": seat.user.username}, "key": seat.keys.key} for seat in (first, second)
    ]
    state = await second.ask("keys.fetch")
    assert second.keys.unwrap(state.pop("box"), 1, first.keys.key) == SECRET
    assert state == {
        "type": "keys.state", "epoch": 1, "members": members, "in_line": True, "maker": members[0], "ref": "q",
    }  # fmt: skip
    third = Seat(cleo, await inside("vault", cleo))
    assert "box" not in await third.ask("keys.fetch")
    for seat in (first, second, third):
        await seat.leave()


@pytest.mark.parametrize("act", ["leave", "remove", "ban", "delete"])
async def test_when_a_member_leaves_nothing_is_passed_on_before_there_is_a_new_room_key(act: str) -> None:
    ann, ben = await vault("ann", "ben")
    first, second = await Seat.take(ann), await Seat.take(ben)
    await first.rotate(1, [second])
    assert (await first.say("both", 1))["type"] == "room.done"
    if act == "leave":
        await belonging.aleave("vault", ben)
    elif act == "remove":
        await belonging.aremove("vault", ben, by=ann)
    elif act == "ban":
        await moderation.aban("vault", ben, by=ann)
    else:
        await database.write(ben.delete)
    assert await until_stale(first) == {"type": "keys.stale", "epoch": 1, "ref": "q"}
    assert (await first.rotate(2, [second]))["type"] == "keys.stale", "not for somebody who has left"
    assert (await first.rotate(2, []))["type"] == "keys.rotated"
    assert (await first.say("alone", 2))["type"] == "room.done"
    assert (await first.say("late", 1, 3))["type"] == "keys.stale"
    await first.leave()
    await second.leave()


async def test_what_sql_has_changed_is_noticed_after_the_time_of_a_re_validation(settings: Any) -> None:
    settings.CHANNELS_SECURE = {**settings.CHANNELS_SECURE, "REVALIDATE_INTERVAL": 1}
    ann, ben = await vault("ann", "ben")
    first, second = await Seat.take(ann), await Seat.take(ben)
    await first.rotate(1, [second])
    assert (await first.say("both", 1))["type"] == "room.done"
    await Membership.objects.filter(user=ben).aupdate(banned=True)
    assert (await until_stale(first))["type"] == "keys.stale"
    await first.leave()
    await second.leave()


async def until_stale(seat: Seat) -> dict[str, Any]:
    """Speak until it is noticed that members have changed: within a second, as every change of policy."""
    async with asyncio.timeout(5):
        n = 1
        while (answer := await seat.say("again", 1, n := n + 1))["type"] == "room.done":
            await asyncio.sleep(0.05)  # asks again, until the deadline
        return answer


async def test_a_member_who_joins_makes_the_room_key_out_of_date_with_the_key() -> None:
    ann, ben = await vault("ann", "ben")
    first = await Seat.take(ann)
    await first.rotate(1, [])
    second = await Seat.take(ben)
    assert (await until_stale(first))["type"] == "keys.stale"
    assert (await second.say("me", 1))["type"] == "keys.stale"
    assert (await second.rotate(2, [first]))["type"] == "keys.rotated"
    assert (await second.say("me", 2))["type"] == "room.done"
    await first.leave()
    await second.leave()


async def test_a_key_that_is_there_is_replaced_only_on_purpose_and_the_room_is_told() -> None:
    ann, ben = await vault("ann", "ben")
    first, second = await Seat.take(ann), await Seat.take(ben)
    other = Seat(ben, second.socket)
    assert (await other.publish())["key"] == second.keys.key
    assert (await PublicKey.objects.aget(user=ben)).fingerprint == second.keys.fingerprint
    assert (await other.publish(replace=True))["key"] == other.keys.key
    told = await heard(first.socket, "keys.changed", lambda frame: frame["key"] == other.keys.key)
    assert told["user"] == {"id": ben.pk, "name": "ben"}
    assert (await PublicKey.objects.aget(user=ben)).fingerprint == other.keys.fingerprint
    await first.leave()
    await second.leave()


def test_of_two_browsers_that_publish_the_first_key_at_once_the_first_wins(
    monkeypatch: pytest.MonkeyPatch, django_user_model: Any
) -> None:
    ann = django_user_model.objects.create_user("ann")
    lock = keyring.policy_change

    def after_another_process() -> Any:
        PublicKey.objects.create(user=ann, key="theirs", fingerprint="f" * 64)
        return lock()

    monkeypatch.setattr(keyring, "policy_change", after_another_process)
    assert keyring.publish(ann, GOOD, False, Source()) == ("theirs", False)
    assert PublicKey.objects.get().key == "theirs"


async def test_a_changed_key_is_told_to_every_encrypted_room_of_the_user() -> None:
    ann, ben = await vault("ann", "ben")
    blue = await a_room("blue", owner=ann, visibility="private", encrypted=True)
    await membership(blue, ben)
    plain = await a_room("plain", owner=ann, visibility="private")
    await membership(plain, ben)
    sockets = [await inside(slug, ann) for slug in ("vault", "blue", "plain")]
    seat = await Seat.take(ben)
    for socket in sockets[:2]:
        assert (await heard(socket, "keys.changed"))["key"] == seat.keys.key
    await sockets[2].send_json_to({"type": "room.say", "text": "nothing before this", "id": "z"})
    kinds = [await sockets[2].receive_json_from() for _ in range(2)]
    assert {frame["type"] for frame in kinds} == {"room.said", "room.done"}
    for socket in (*sockets, seat.socket):
        await socket.disconnect()


@pytest.mark.parametrize("kind", ["keys.publish", "keys.fetch", "keys.rotate", "room.say"])
async def test_keys_are_for_members_only(kind: str) -> None:
    ann, guest = await person("ann"), await person("guest")
    await a_room("vault", owner=ann, visibility="public", encrypted=True)
    seat = Seat(guest, await inside("vault", guest))
    facts: dict[str, Any] = {
        "keys.publish": {"key": seat.keys.key},
        "keys.fetch": {},
        "keys.rotate": {"epoch": 1, "boxes": [{"to": seat.keys.fingerprint, "box": "A" * 123}]},
        "room.say": {"sealed": seat.keys.seal(SECRET, "x", epoch=1, stream=STREAM, n=1)},
    }[kind]
    answer = await seat.ask(kind, **facts)
    assert (answer["type"], answer["code"]) == ("error", "permission_denied")
    assert await PublicKey.objects.acount() == 0
    await seat.leave()


@pytest.mark.parametrize("kind", ["keys.publish", "keys.fetch"])
async def test_a_room_that_is_not_encrypted_has_no_keys(kind: str) -> None:
    ann = await person("ann")
    await a_room("vault", owner=ann)
    seat = Seat(ann, await inside("vault", ann))
    facts = {"key": seat.keys.key} if kind == "keys.publish" else {}
    assert (await seat.ask(kind, **facts))["code"] == "permission_denied"
    await seat.leave()


async def test_words_are_refused_where_only_sealed_messages_pass() -> None:
    (ann,) = await vault("ann")
    seat = await Seat.take(ann)
    assert (await seat.ask("room.say", text="in the clear"))["code"] == "invalid_message"
    await seat.leave()


async def test_a_room_key_is_taken_only_for_exactly_the_members_and_the_next_epoch() -> None:
    ann, ben, cleo = await vault("ann", "ben", "cleo")
    first, second = await Seat.take(ann), await Seat.take(ben)
    stranger = Seat(cleo, first.socket)
    for epoch, others in ((2, [second]), (1, []), (1, [second, stranger])):
        assert (await first.rotate(epoch, others))["type"] == "keys.stale", (epoch, others)
    keyless = Seat(cleo, await inside("vault", cleo))
    keyless.keys = first.keys
    assert (await keyless.rotate(1, [second]))["type"] == "keys.stale", "whoever has no key makes none"
    assert (await first.rotate(1, [second]))["type"] == "keys.rotated"
    assert (await second.rotate(1, [first]))["type"] == "keys.stale", "the first of two wins"
    for seat in (first, second, keyless):
        await seat.leave()


async def test_of_two_boxes_for_one_member_the_one_that_is_stored_is_told() -> None:
    ann, ben = await vault("ann", "ben")
    first, second = await Seat.take(ann), await Seat.take(ben)
    marks = [(first, "A"), (second, "A"), (second, "B")]
    boxes = [{"to": seat.keys.fingerprint, "box": mark * 123} for seat, mark in marks]
    assert (await first.ask("keys.rotate", epoch=1, boxes=boxes))["type"] == "keys.rotated"
    begun = await heard(second.socket, "keys.epoch")
    told = [each["box"] for each in begun["boxes"] if each["to"] == second.keys.fingerprint]
    assert told == [(await second.ask("keys.fetch"))["box"]]
    await first.leave()
    await second.leave()


async def test_of_two_that_begin_the_same_epoch_at_once_one_wins() -> None:
    ann, ben = await vault("ann", "ben")
    first, second = await Seat.take(ann), await Seat.take(ben)
    answers = await asyncio.gather(first.rotate(1, [second]), second.rotate(1, [first]))
    assert sorted(answer["type"] for answer in answers) == ["keys.rotated", "keys.stale"]
    assert await Epoch.objects.acount() == 1
    await first.leave()
    await second.leave()


def test_the_database_itself_holds_one_epoch_of_a_number() -> None:
    room = Room(slug="vault", title="Vault")
    room.save()
    Epoch.objects.create(room=room, number=1, maker_name="ann", maker_key="B")
    with pytest.raises(IntegrityError), transaction.atomic():
        Epoch.objects.create(room=room, number=1, maker_name="ben", maker_key="B")


@pytest.mark.parametrize("replace", [False, True])
async def test_nobody_publishes_the_key_of_another_and_so_makes_their_browser_stop(replace: bool) -> None:
    ann, ben = await vault("ann", "ben")
    first = await Seat.take(ann)
    thief = await Seat.take(ben)
    if not replace:
        await PublicKey.objects.filter(user=ben).adelete()
    thief.keys = first.keys
    assert (await thief.publish(replace=replace))["code"] == "permission_denied"
    assert await PublicKey.objects.filter(fingerprint=first.keys.fingerprint).acount() == 1
    await first.leave()
    await thief.leave()


GOOD = PythonMember("vault").key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "A" * 87,
        GOOD[:-1],
        GOOD + "A",
        GOOD + "\n",
        GOOD[:-1] + "B",
        "C" + GOOD[1:],
        GOOD[:-4] + "AAAA",
        "é" * 87,
        5,
    ],
    ids=[
        "empty",
        "no point",
        "short",
        "long",
        "newline",
        "odd bits",
        "compressed",
        "off the curve",
        "letters",
        "number",
    ],
)
async def test_what_is_no_public_key_is_refused(key: Any) -> None:
    (ann,) = await vault("ann")
    socket = await inside("vault", ann)
    assert (await asked(socket, "keys.publish", key=key))["code"] == "invalid_message"
    assert await PublicKey.objects.acount() == 0
    await socket.disconnect()


SEALED = {"epoch": 1, "stream": "A" * 22, "n": 1, "box": "A" * 30}


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 0}, {"epoch": 2**31}, {"epoch": True}, {"stream": "A" * 21}, {"stream": "A" * 21 + "="}, {"n": 0},
        {"n": 2**53}, {"box": ""}, {"box": "A" * 16_001}, {"box": "<script>" * 4}, {"more": 1},
    ],
    ids=str,
)  # fmt: skip
async def test_what_has_not_the_shape_of_a_sealed_message_is_refused(wrong: dict[str, Any]) -> None:
    (ann,) = await vault("ann")
    socket = await inside("vault", ann)
    assert (await asked(socket, "room.say", sealed=SEALED | wrong))["code"] == "invalid_message"
    await socket.disconnect()


@pytest.mark.parametrize("count", [0, 201])
async def test_the_number_of_boxes_is_bounded(count: int) -> None:
    (ann,) = await vault("ann")
    socket = await inside("vault", ann)
    boxes = [{"to": "0" * 64, "box": "A" * 123}] * count
    assert (await asked(socket, "keys.rotate", epoch=1, boxes=boxes))["code"] == "invalid_message"
    await socket.disconnect()


async def test_a_room_has_so_many_members_with_keys_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("keyring", "sealed"):
        monkeypatch.setattr(f"channels_secure.rooms.{module}.MAX_HOLDERS", 1)
    ann, ben = await vault("ann", "ben")
    first, second = await Seat.take(ann), await Seat.take(ben)
    answer = await first.rotate(1, [])
    assert (answer["code"], answer["message"]) == ("permission_denied", "An encrypted room has 1 members at most.")
    await first.leave()
    await second.leave()


def test_the_largest_rotation_fits_into_one_frame() -> None:
    boxes = [{"to": "0" * 64, "box": "A" * 123}] * MAX_HOLDERS
    frame = {"type": "keys.rotate", "id": "x" * 64, "epoch": 2**31 - 1, "boxes": boxes}
    assert len(encode(frame)) < get_settings().max_message_size


async def test_old_room_keys_are_kept_for_a_while_and_then_thrown_away() -> None:
    (ann,) = await vault("ann")
    seat, room = await Seat.take(ann), await Room.objects.aget()
    await database.write(
        Epoch.objects.bulk_create,
        [Epoch(room=room, number=n, maker_name="ann", maker_key=seat.keys.key) for n in range(1, KEPT_EPOCHS + 1)],
    )
    await seat.rotate(KEPT_EPOCHS + 1, [])
    numbers = [number async for number in Epoch.objects.order_by("number").values_list("number", flat=True)]
    assert numbers == list(range(2, KEPT_EPOCHS + 2))
    older = await seat.ask("keys.fetch", epoch=3)
    assert (older["epoch"], "box" in older) == (3, False)
    assert (await seat.ask("keys.fetch", epoch=1))["epoch"] == KEPT_EPOCHS + 1
    await seat.leave()


async def test_what_is_done_with_keys_is_in_the_trail_and_no_key_is() -> None:
    (ann,) = await vault("ann")
    first = await Seat.take(ann)
    await first.rotate(1, [])
    for _ in range(3):
        await first.ask("keys.fetch")
    other = Seat(ann, first.socket)
    await other.publish(replace=True)
    events = await rows(kind="room.moderated")
    assert {event.reason: event.detail for event in events} == {
        "key_published": {"fingerprint": first.keys.fingerprint},
        "keys_rotated": {"room": "vault", "epoch": 1, "members": 1},
        "keys_fetched": {"room": "vault", "epoch": 1},
        "key_replaced": {"fingerprint": other.keys.fingerprint},
    }
    assert [(event.username, event.ip) for event in events] == [("ann", "192.0.2.1")] * 4
    await first.leave()


async def test_the_database_is_not_asked_again_while_nothing_has_changed() -> None:
    asked_for: list[int] = []
    (ann,) = await vault("ann")
    seat = await Seat.take(ann)
    await seat.rotate(1, [])
    await seat.say("first", 1)
    plain = keyring.standing_of
    try:
        keyring.standing_of = lambda pk: asked_for.append(pk) or plain(pk)  # type: ignore[func-returns-value]
        for n in range(2, 8):
            assert (await seat.say("more", 1, n))["type"] == "room.done"
    finally:
        keyring.standing_of = plain
    assert len(asked_for) <= 1
    await seat.leave()


async def test_without_the_extra_publishing_ends_the_socket_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (ann,) = await vault("ann")
    socket = await inside("vault", ann)
    monkeypatch.setitem(sys.modules, "channels_secure.codecs.points", None)
    await socket.send_json_to({"type": "keys.publish", "key": GOOD})
    assert (await heard(socket, "error"))["code"] == "internal_error"
    assert (await socket.closing())[0] == 4500
    assert "Encrypted rooms need channels-secure[encryption]." in caplog.text


def test_a_deleted_user_leaves_a_mark_by_which_the_room_key_is_out_of_date(django_user_model: Any) -> None:
    ann, ben = (django_user_model.objects.create_user(name) for name in ("ann", "ben"))
    room = Room(slug="vault", title="Vault", owner=ann, encrypted=True)
    room.save()
    Membership(room=room, user=ben).save()
    for user, mark in ((ann, "a"), (ben, "b")):
        PublicKey.objects.create(user=user, key="B", fingerprint=mark * 64)
    epoch = Epoch.objects.create(room=room, number=1, maker=ben, maker_name="ben", maker_key="B")
    for mark in "ab":
        WrappedKey.objects.create(epoch=epoch, fingerprint=mark * 64, box="")
    assert standing_of(room.pk).in_line
    ben.delete()
    assert not standing_of(room.pk).in_line
    assert Epoch.objects.get().maker is None
