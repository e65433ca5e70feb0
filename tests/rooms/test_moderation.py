"""Keeping order by Python and over the socket: what is done, who may, what is recorded and what everybody is told."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connections
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from channels_secure import audit
from channels_secure.exceptions import Denied
from channels_secure.models import AuditEvent, Revocation
from channels_secure.rooms import membership as members
from channels_secure.rooms import moderation
from channels_secure.rooms.message_ids import new_message_id
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role
from tests.rooms.people import a_room, asked, enter, heard, in_thread, inside, membership, person
from tests.sockets import quiet

__all__ = ["quiet"]


class Cast:
    """A room with somebody of every role in it."""

    def __init__(self, **fields: Any) -> None:
        names = ("owner", "moderator", "other", "member", "guest")
        self.owner, self.moderator, self.other, self.member, self.guest = (
            User.objects.create_user(name) for name in names
        )
        self.room = Room(slug="lobby", title="Lobby", owner=self.owner, **{"visibility": "public", **fields})
        self.room.save()
        for user, role in ((self.moderator, "moderator"), (self.other, "moderator"), (self.member, "member")):
            Membership.objects.create(room=self.room, user=user, role=role)

    def of(self, user: User) -> Membership:
        return Membership.objects.get(room=self.room, user=user)

    def trail(self) -> list[tuple[str, str, str, Any]]:
        events = AuditEvent.objects.filter(kind="room.moderated").order_by("id")
        return [(event.reason, event.username, event.actor, event.detail) for event in events]


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    return Cast()


# What is done --------------------------------------------------------------------------------------------------------


def test_a_mute_lasts_as_long_as_it_was_given_and_can_be_lifted(cast: Cast) -> None:
    before = timezone.now()
    moderation.mute(cast.room, cast.member, 60, by=cast.moderator)
    until = cast.of(cast.member).muted_until
    assert until is not None
    assert timedelta(seconds=60) <= until - before < timedelta(seconds=90)
    moderation.unmute("lobby", cast.member.pk, by=cast.moderator)
    assert cast.of(cast.member).muted_until is None
    assert cast.trail() == [
        ("mute", "member", "moderator", {"room": "lobby", "seconds": 60}),
        ("unmute", "member", "moderator", {"room": "lobby"}),
    ]


def test_a_ban_takes_the_role_which_does_not_come_back(cast: Cast) -> None:
    moderation.ban(cast.room, cast.other, by=cast.owner)
    assert (cast.of(cast.other).banned, cast.of(cast.other).role) == (True, Role.GUEST)
    moderation.unban(cast.room, cast.other, by=cast.moderator)
    assert (cast.of(cast.other).banned, cast.of(cast.other).role) == (False, Role.GUEST)
    assert [act for act, *_ in cast.trail()] == ["ban", "unban"]


def test_a_guest_is_remembered_only_once_there_is_something_to_remember(cast: Cast) -> None:
    moderation.mute(cast.room, cast.guest, 60, by=cast.moderator)
    assert cast.of(cast.guest).role == Role.GUEST
    members.leave(cast.room, cast.guest)
    assert cast.of(cast.guest).is_muted


def test_a_role_is_given_and_taken(cast: Cast) -> None:
    moderation.promote(cast.room, cast.guest, "moderator", by=cast.owner)
    moderation.promote(cast.room, cast.guest, "member", by=cast.owner)
    members.remove(cast.room, cast.member, by=cast.moderator)
    assert (members.role(cast.room, cast.guest), members.role(cast.room, cast.member)) == (Role.MEMBER, Role.GUEST)
    assert [detail["role"] for *_, detail in cast.trail()] == ["moderator", "member", "guest"]


def test_a_room_is_handed_over_and_its_former_owner_moderates_on(cast: Cast) -> None:
    members.hand_over(cast.room, cast.member, by=cast.owner)
    cast.room.refresh_from_db()
    assert cast.room.owner_id == cast.member.pk
    assert (cast.of(cast.member).role, cast.of(cast.owner).role) == (Role.OWNER, Role.MODERATOR)
    assert cast.trail() == [("hand_over", "member", "owner", {"room": "lobby", "role": "owner"})]
    with pytest.raises(Denied):
        moderation.set_slow_mode(cast.room, 5, by=User.objects.create_user("nobody"))
    moderation.ban(cast.room, cast.owner, by=cast.member)


def test_slow_mode_is_the_rooms(cast: Cast) -> None:
    moderation.set_slow_mode(cast.room, 30, by=cast.moderator)
    cast.room.refresh_from_db()
    assert cast.room.slow_mode == 30
    assert cast.trail() == [("slow", "", "moderator", {"room": "lobby", "seconds": 30})]


@pytest.mark.parametrize("act", ["unmute", "unban"])
def test_what_changes_nothing_leaves_no_trace(cast: Cast, act: str) -> None:
    getattr(moderation, act)(cast.room, cast.member, by=cast.moderator)
    moderation.promote(cast.room, cast.guest, "guest", by=cast.moderator)
    moderation.set_slow_mode(cast.room, 0, by=cast.moderator)
    assert cast.trail() == []
    assert not Membership.objects.filter(user=cast.guest).exists()


# Who may -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor", ["moderator", "member", "guest"])
@pytest.mark.parametrize("target", ["owner", "moderator", "other"])
def test_nobody_acts_on_an_equal_or_a_higher_role(cast: Cast, actor: str, target: str) -> None:
    by, whom = getattr(cast, actor), getattr(cast, target)
    before = list(Membership.objects.order_by("id").values())
    acts: list[Any] = [
        lambda: moderation.mute(cast.room, whom, 60, by=by),
        lambda: moderation.unmute(cast.room, whom, by=by),
        lambda: moderation.kick(cast.room, whom, by=by),
        lambda: moderation.ban(cast.room, whom, by=by),
        lambda: moderation.promote(cast.room, whom, "guest", by=by),
        lambda: moderation.promote(cast.room, whom, "moderator", by=by),
        lambda: moderation.promote(cast.room, whom, "owner", by=by),
    ]
    told = Revocation.objects.count()
    for act in acts:
        with pytest.raises(Denied, match="permission_denied"):
            act()
    if by != whom:
        with pytest.raises(Denied, match="permission_denied"):
            moderation.delete_message(cast.room, new_message_id(cast.room.pk, whom.pk), by=by)
    assert list(Membership.objects.order_by("id").values()) == before
    assert (Revocation.objects.count(), cast.trail()) == (told, [])


@pytest.mark.parametrize("actor", ["member", "guest"])
def test_members_keep_no_order(cast: Cast, actor: str) -> None:
    by = getattr(cast, actor)
    for act in (lambda: moderation.mute(cast.room, cast.guest, 60, by=by),
                lambda: moderation.set_slow_mode(cast.room, 5, by=by)):  # fmt: skip
        with pytest.raises(Denied):
            act()


@pytest.mark.parametrize(
    "by", [AnonymousUser(), User(username="unsaved"), SimpleLazyObject(AnonymousUser), 0, object()]
)
def test_whoever_is_not_logged_in_keeps_no_order(cast: Cast, by: Any) -> None:
    """A view that forgets to ask for a login hands over `request.user`, which is nobody and no text either."""
    for act in (
        lambda: moderation.ban(cast.room, cast.guest, by=by),
        lambda: moderation.set_slow_mode(cast.room, 5, by=by),
        lambda: moderation.delete_message(cast.room, new_message_id(cast.room.pk, cast.guest.pk), by=by),
        lambda: members.add(cast.room, cast.guest, by=by),
        lambda: members.hand_over(cast.room, cast.guest, by=by),
    ):
        with pytest.raises(Denied, match="permission_denied"):
            act()
    assert cast.trail() == []


def test_whoever_may_not_act_learns_nothing_of_whom_there_is(cast: Cast) -> None:
    for whom in (10**12, cast.owner, cast.guest.pk):
        with pytest.raises(Denied):
            moderation.kick(cast.room, whom, by=cast.member)


@pytest.mark.parametrize("by", [None, "a night watchman"])
def test_not_even_code_removes_the_owner(cast: Cast, by: Any) -> None:
    for act in (
        lambda: moderation.mute(cast.room, cast.owner, 60, by=by),
        lambda: moderation.kick(cast.room, cast.owner, by=by),
        lambda: moderation.ban(cast.room, cast.owner, by=by),
        lambda: moderation.promote(cast.room, cast.owner, "member", by=by),
        lambda: members.remove(cast.room, cast.owner, by=by),
        lambda: members.leave(cast.room, cast.owner),
    ):
        with pytest.raises(Denied):
            act()
    moderation.ban(cast.room, cast.moderator, by=by)
    assert cast.trail() == [("ban", "moderator", by or "", {"room": "lobby"})]


def test_whoever_is_banned_gets_no_role_before_that_is_lifted(cast: Cast) -> None:
    moderation.ban(cast.room, cast.member, by=cast.owner)
    with pytest.raises(Denied):
        members.add(cast.room, cast.member, by=cast.owner)
    with pytest.raises(Denied):
        members.hand_over(cast.room, cast.member, by=cast.owner)
    with pytest.raises(Denied):
        members.join(cast.room, cast.member)


def test_a_moderator_who_was_banned_does_nothing_any_more(cast: Cast) -> None:
    # By SQL, which takes no role.
    Membership.objects.filter(user=cast.moderator).update(banned=True)
    with pytest.raises(Denied):
        moderation.kick(cast.room, cast.member, by=cast.moderator)


@pytest.mark.parametrize("seconds", [0, -1, 366 * 86400, float("nan"), float("inf"), True, "60"])
def test_a_mute_is_for_a_time(cast: Cast, seconds: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        moderation.mute(cast.room, cast.member, seconds)


@pytest.mark.parametrize("seconds", [-1, 21601, 1.5, True, "60"])
def test_slow_mode_is_in_whole_seconds(cast: Cast, seconds: Any) -> None:
    with pytest.raises(ValueError, match="is no slow mode"):
        moderation.set_slow_mode(cast.room, seconds)


def test_rooms_users_and_roles_that_do_not_exist_are_errors_of_the_caller(cast: Cast) -> None:
    with pytest.raises(ValueError, match="no room"):
        moderation.kick("attic", cast.member)
    with pytest.raises(ValueError, match="no user"):
        moderation.kick(cast.room, 10**12)
    with pytest.raises(ValueError, match="emperor"):
        moderation.promote(cast.room, cast.member, "emperor")


# By one's own will ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", Room.Visibility)
def test_whoever_sees_a_room_may_join_it(transactional_db: None, visibility: str) -> None:
    cast = Cast(visibility=visibility)
    if visibility == Room.Visibility.PRIVATE:
        with pytest.raises(Denied):
            members.join(cast.room, cast.guest)
    else:
        members.join(cast.room, cast.guest)
        members.join(cast.room, cast.moderator)
        assert members.role(cast.room, cast.moderator) == Role.MODERATOR
    expected = Role.GUEST if visibility == Room.Visibility.PRIVATE else Role.MEMBER
    assert members.role(cast.room, cast.guest) == expected
    members.leave(cast.room, cast.guest)
    assert not Membership.objects.filter(user=cast.guest).exists()


def test_leaving_and_joining_again_lifts_no_mute_and_no_ban(cast: Cast) -> None:
    moderation.mute(cast.room, cast.member, 60, by=cast.moderator)
    members.leave(cast.room, cast.member)
    members.join(cast.room, cast.member)
    assert (cast.of(cast.member).is_muted, cast.of(cast.member).role) == (True, Role.MEMBER)
    moderation.ban(cast.room, cast.member, by=cast.moderator)
    members.leave(cast.room, cast.member)
    with pytest.raises(Denied):
        members.join(cast.room, cast.member)


# Messages ------------------------------------------------------------------------------------------------------------


def test_one_takes_back_ones_own_words_without_a_trace_and_a_moderator_those_of_others_with_one(cast: Cast) -> None:
    own, others = [new_message_id(cast.room.pk, each.pk) for each in (cast.guest, cast.member)]
    moderation.delete_message(cast.room, own, by=cast.guest)
    assert cast.trail() == []
    with pytest.raises(Denied):
        moderation.delete_message(cast.room, others, by=cast.guest)
    moderation.delete_message(cast.room, others, by=cast.moderator)
    assert cast.trail() == [("delete", "member", "moderator", {"room": "lobby", "message": others})]


def test_the_words_of_those_who_have_gone_can_be_taken_back(cast: Cast) -> None:
    for author in ("999999999", "\U0001f600", "99999999999999999999999", "nobody@example.com"):
        moderation.delete_message(cast.room, new_message_id(cast.room.pk, author), by=cast.moderator)
    assert len(cast.trail()) == 4


@pytest.mark.parametrize(
    "text", ["", "buy.{room}.{user}", "0123.{room}.{user}", "{name}\n", "ABCDEF0123456789.{room}.{user}", "{user}"]
)
def test_what_is_no_name_of_a_message_is_passed_on_to_nobody(cast: Cast, text: str) -> None:
    """Or somebody who is muted could speak by what they delete."""
    name = new_message_id(cast.room.pk, cast.guest.pk)
    message = text.format(room=cast.room.pk, user=cast.guest.pk, name=name)
    for by in (cast.guest, cast.moderator, None):
        with pytest.raises(ValueError, match="no message"):
            moderation.delete_message(cast.room, message, by=by)


@pytest.mark.parametrize("whose", ["member", "guest", "owner"])
def test_no_room_deletes_the_messages_of_another(cast: Cast, whose: str) -> None:
    """Whoever moderates one room, and somebody who has been banned from another, are nobody in that other."""
    other = Room(slug="attic", title="Attic", owner=cast.other)
    other.save()
    message = new_message_id(other.pk, getattr(cast, whose).pk)
    for by in (cast.owner, getattr(cast, whose), None):
        with pytest.raises(ValueError, match="no message"):
            moderation.delete_message(cast.room, message, by=by)
    assert cast.trail() == []


# Demoted meanwhile ---------------------------------------------------------------------------------------------------


def test_no_act_of_a_moderator_comes_after_their_demotion(cast: Cast) -> None:
    """Two threads that decide at the same moment: the trail has them in an order in which both were right."""
    targets = [User.objects.create_user(f"target{number}") for number in range(8)]
    for number, target in enumerate(targets):
        Membership.objects.filter(user=cast.moderator).update(role=Role.MODERATOR)
        ready, refused = threading.Barrier(2), []

        def demote(ready: threading.Barrier = ready) -> None:
            ready.wait(10)
            moderation.promote(cast.room, cast.moderator, "member", by=cast.owner)
            connections.close_all()

        def kick(target: User = target, ready: threading.Barrier = ready, refused: list[Any] = refused) -> None:
            ready.wait(10)
            try:
                moderation.kick(cast.room, target, by=cast.moderator)
            except Denied as denied:
                refused.append(denied)
            connections.close_all()

        threads = [threading.Thread(target=work) for work in (demote, kick)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        order = [act for act, *_ in cast.trail()[-2:]] if not refused else [cast.trail()[-1][0]]
        assert order == (["promote"] if refused else ["kick", "promote"]), (number, cast.trail())


# Over the socket -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.django_db(transaction=True)
class TestOverTheSocket:
    async def test_everybody_is_told_what_a_moderator_did_and_the_trail_from_where(self) -> None:
        alice, bob = await person("alice"), await person("bob")
        await a_room(owner=alice)
        first, second = await inside("lobby", alice), await inside("lobby", bob)
        assert (await asked(first, "room.mute", user=bob.pk, seconds=60))["type"] == "room.done"
        assert await heard(second, "room.moderated") == {
            "type": "room.moderated", "act": "mute", "seconds": 60,
            "user": {"id": bob.pk, "name": "bob"}, "by": {"id": alice.pk, "name": "alice"},
        }  # fmt: skip
        changed = await heard(second, "room.changed")
        assert changed["muted"] in (59, 60)
        assert (await asked(second, "room.say", text="hello"))["message"] == "You are muted."
        await asked(first, "room.unmute", user=bob.pk)
        assert (await heard(second, "room.changed"))["muted"] == 0
        assert (await asked(second, "room.say", text="hello"))["type"] == "room.done"
        await first.disconnect()
        await second.disconnect()
        events = [event async for event in AuditEvent.objects.filter(kind="room.moderated").order_by("id")]
        assert [(event.reason, event.actor, event.actor_from) for event in events] == [
            ("mute", "alice", "192.0.2.1"), ("unmute", "alice", "192.0.2.1")
        ]  # fmt: skip

    @pytest.mark.parametrize("act", ["kick", "ban"])
    async def test_whoever_is_sent_out_is_out_and_a_ban_lasts(self, act: str) -> None:
        alice, bob = await person("alice"), await person("bob")
        await a_room(owner=alice)
        await a_room("elsewhere")
        first, second = await inside("lobby", alice), await inside("lobby", bob)
        elsewhere = await inside("elsewhere", bob)
        await asked(first, f"room.{act}", user=bob.pk)
        code, reason = await second.closing()
        assert (code, reason) == ((4440, "disconnected") if act == "kick" else (4403, "permission_denied"))
        assert (await asked(elsewhere, "room.who"))["count"] == 1
        assert (await heard(first, "room.left"))["user"]["name"] == "bob"
        if act == "kick":
            again = await inside("lobby", bob)
            await again.disconnect()
        else:
            (await enter("lobby", bob).shake_hands()).assert_refused("permission_denied")
            await asked(first, "room.unban", user=bob.pk)
            again = await inside("lobby", bob)
            await again.disconnect()
        await first.disconnect()
        await elsewhere.disconnect()

    async def test_a_new_role_holds_on_the_open_socket(self) -> None:
        alice, bob, carol = [await person(name) for name in ("alice", "bob", "carol")]
        await a_room(owner=alice)
        first, second, third = [await inside("lobby", each) for each in (alice, bob, carol)]
        assert (await asked(second, "room.kick", user=carol.pk))["code"] == "permission_denied"
        await asked(first, "room.promote", user=bob.pk, role="moderator")
        assert (await heard(second, "room.changed"))["role"] == "moderator"
        await asked(second, "room.kick", user=carol.pk)
        assert (await third.closing())[1] == "disconnected"
        await asked(first, "room.promote", user=bob.pk, role="owner")
        assert (await heard(second, "room.changed"))["role"] == "owner"
        assert (await heard(first, "room.changed"))["role"] == "moderator"
        assert (await asked(first, "room.promote", user=bob.pk, role="member"))["code"] == "permission_denied"
        await first.disconnect()
        await second.disconnect()

    async def test_slow_mode_holds_for_everybody_at_once(self) -> None:
        alice, bob = await person("alice"), await person("bob")
        await a_room(owner=alice)
        first, second = await inside("lobby", alice), await inside("lobby", bob)
        await asked(first, "room.slow", seconds=60)
        assert (await heard(second, "room.changed"))["slow"] == 60
        await asked(second, "room.say", text="one")
        assert (await asked(second, "room.say", text="two"))["code"] == "rate_limited"
        await asked(first, "room.slow", seconds=0)
        assert (await heard(second, "room.changed"))["slow"] == 0
        assert (await asked(second, "room.say", text="three"))["type"] == "room.done"
        await first.disconnect()
        await second.disconnect()

    async def test_a_message_is_taken_off_every_page(self) -> None:
        alice, bob, carol = [await person(name) for name in ("alice", "bob", "carol")]
        await a_room(owner=alice)
        first, second, third = [await inside("lobby", each) for each in (alice, bob, carol)]
        said = await asked(second, "room.say", text="hello")
        assert (await asked(third, "room.delete", message=said["message"]))["code"] == "permission_denied"
        await asked(first, "room.delete", message=said["message"])
        deleted = {"type": "room.deleted", "id": said["message"], "by": {"id": alice.pk, "name": "alice"}}
        assert await heard(third, "room.deleted") == deleted
        own = (await asked(first, "room.say", text="mine"))["message"]
        assert (await asked(second, "room.delete", message=own))["code"] == "permission_denied"
        for socket in (first, second, third):
            await socket.disconnect()

    @pytest.mark.parametrize("user", [10**12, "nobody", "\U0001f600\u202e", "1 OR 1=1", 9007199254740991])
    async def test_somebody_who_does_not_exist_is_not_found(self, user: Any) -> None:
        alice = await person("alice")
        await a_room(owner=alice)
        socket = await inside("lobby", alice)
        assert (await asked(socket, "room.kick", user=user))["code"] == "not_found"
        await socket.disconnect()

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "room.mute", "user": 1},
            {"type": "room.mute", "user": 1, "seconds": 0},
            {"type": "room.mute", "user": 1, "seconds": 10**9},
            {"type": "room.mute", "user": True, "seconds": 5},
            {"type": "room.mute", "user": None, "seconds": 5},
            {"type": "room.kick", "user": -1},
            {"type": "room.kick", "user": {"id": 1}},
            {"type": "room.promote", "user": 1, "role": "emperor"},
            {"type": "room.slow", "seconds": -1},
            {"type": "room.slow", "seconds": 10**6},
            {"type": "room.delete", "message": "x" * 301},
            {"type": "room.say", "text": ""},
            {"type": "room.say", "text": "x" * 2001},
            {"type": "room.say", "text": "x", "user": 1},
        ],
    )
    async def test_a_message_that_is_not_as_it_should_be_is_refused(self, message: dict[str, Any]) -> None:
        alice = await person("alice")
        await a_room(owner=alice)
        socket = await inside("lobby", alice)
        await socket.send_json_to(message)
        assert (await heard(socket, "error"))["code"] == "invalid_message"
        await socket.disconnect()

    async def test_nobody_speaks_by_what_they_delete_and_no_other_room_is_reached(self) -> None:
        alice, bob = await person("alice"), await person("bob")
        await a_room(owner=alice)
        await a_room("attic", owner=bob)
        first, second, attic = await inside("lobby", alice), await inside("lobby", bob), await inside("attic", bob)
        said = (await asked(first, "room.say", text="hello"))["message"]
        await asked(first, "room.mute", user=bob.pk, seconds=60)
        for socket, name in ((second, f"hello all.{bob.pk}"), (attic, said)):
            assert (await asked(socket, "room.delete", message=name))["code"] == "not_found"
        for socket in (first, second, attic):
            await socket.disconnect()
        assert first.output_queue.empty() or "room.deleted" not in str(list(first.output_queue._queue))

    async def test_an_act_queued_by_a_moderator_who_was_demoted_is_refused(self) -> None:
        """By SQL, of which nobody is told: the socket still takes itself for a moderator's."""
        alice, bob, carol = [await person(name) for name in ("alice", "bob", "carol")]
        room = await a_room(owner=alice)
        await membership(room, bob, Role.MODERATOR)
        second, third = await inside("lobby", bob), await inside("lobby", carol)
        await Membership.objects.filter(user=bob).aupdate(role=Role.MEMBER)
        assert (await asked(second, "room.ban", user=carol.pk))["code"] == "permission_denied"
        assert not await Membership.objects.filter(user=carol).aexists()
        assert (await asked(third, "room.say", text="still here"))["type"] == "room.done"
        await second.disconnect()
        await third.disconnect()

    async def test_the_twins_from_the_event_loop_do_the_same(self) -> None:
        alice, bob, carol = [await person(name) for name in ("alice", "bob", "carol")]
        room = await a_room(owner=alice, visibility="members")
        socket = await inside("lobby", alice)
        await members.ajoin(room, bob)
        await moderation.amute(room, bob, 60, by=alice)
        assert (await heard(socket, "room.moderated"))["act"] == "mute"
        await moderation.aunmute(room, bob, by=alice)
        assert (await heard(socket, "room.moderated"))["act"] == "unmute"
        await moderation.akick(room, bob, by="the night watch")
        assert (await heard(socket, "room.moderated"))["by"] == {"id": None, "name": "the night watch"}
        await moderation.aban(room, bob)
        await moderation.aunban(room, bob)
        await members.aadd(room, carol, by=alice)
        assert await members.arole(room, carol) == Role.MEMBER
        await members.aremove(room, carol, by=alice)
        await moderation.aset_slow_mode(room, 5, by=alice)
        await moderation.adelete_message(room, new_message_id(room.pk, bob.pk), by=alice)
        await heard(socket, "room.deleted")
        await members.ahand_over(room, carol, by=alice)
        await members.aleave(room, alice)
        assert (await socket.closing())[1] == "permission_denied"
        with audit.acting_from("here"), pytest.raises(Denied):
            await moderation.apromote(room, carol, "guest", by=alice)

    async def test_a_view_that_is_not_asynchronous_has_the_room_told_after_its_commit(self) -> None:
        alice, bob = await person("alice"), await person("bob")
        room = await a_room(owner=alice)
        socket = await inside("lobby", bob)
        await in_thread(moderation.mute, room, bob, 60, alice)
        frames = [await socket.receive_json_from() for _ in range(2)]
        assert {frame["type"] for frame in frames} == {"room.moderated", "room.changed"}
        await in_thread(moderation.delete_message, room, new_message_id(room.pk, bob.pk), alice)
        await heard(socket, "room.deleted")
        await socket.disconnect()
