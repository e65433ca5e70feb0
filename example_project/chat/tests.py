# ruff: noqa: PT009 - the test runner is Django's own
"""How a project tests its rooms: the consumer, and the pages around it. `manage.py test`."""

from typing import Any

from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase
from django.urls import path

from channels_secure.rooms import membership, moderation
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role
from channels_secure.testing import SecureCommunicator, attacks, guarded, reset
from chat.consumers import ChatConsumer

application = guarded(URLRouter([path("ws/chat/<slug:room>/", ChatConsumer.as_asgi())]))


class ChatTests(TransactionTestCase):
    def setUp(self) -> None:
        self.addCleanup(reset)
        self.alice, self.bob = User.objects.create_user("alice"), User.objects.create_user("bob")
        self.lobby = Room.objects.create(
            slug="lobby", title="Lobby", owner=self.alice, visibility=Room.Visibility.PUBLIC
        )
        self.club = Room.objects.create(slug="club", title="Book club", owner=self.alice)

    async def test_everybody_in_the_room_hears_what_one_says(self) -> None:
        async with enter("lobby", self.alice) as alice, enter("lobby", self.bob) as bob:
            await alice.send_json_to({"type": "room.say", "text": "Hello"})
            for socket in (alice, bob):
                said = await heard(socket, "room.said")
                self.assertEqual((said["user"]["name"], said["text"]), ("alice", "Hello"))

    async def test_the_sixth_message_within_ten_seconds_is_refused(self) -> None:
        async with enter("lobby", self.bob) as bob:
            for _ in range(6):
                await bob.send_json_to({"type": "room.say", "text": "Hello"})
            self.assertEqual((await heard(bob, "error"))["code"], "rate_limited")

    async def test_a_room_for_members_is_for_those_who_have_joined(self) -> None:
        outcome = await enter("club", self.bob).shake_hands()
        self.assertEqual(outcome.error["code"], "permission_denied")
        await membership.ajoin(self.club, self.bob)
        async with enter("club", self.bob) as bob:
            self.assertEqual((await heard(bob, "room.entered"))["role"], Role.MEMBER)

    async def test_a_room_that_does_not_exist_is_refused_like_one_that_is_closed(self) -> None:
        outcome = await enter("attic", self.bob).shake_hands()
        self.assertEqual(outcome.error["code"], "permission_denied")

    async def test_nobody_enters_without_a_login(self) -> None:
        outcome = await enter("lobby", None).shake_hands()
        self.assertEqual(outcome.error["code"], "unauthenticated")

    async def test_who_is_banned_is_cut_off(self) -> None:
        async with enter("lobby", self.bob) as bob:
            await heard(bob, "room.entered")
            await moderation.aban("lobby", self.bob, by=self.alice)
            self.assertEqual((await heard(bob, "error"))["code"], "permission_denied")

    async def test_known_attacks_are_repelled(self) -> None:
        for attack in attacks:
            with self.subTest(attack=attack.id):
                said = {"type": "room.say", "text": "Hello"}
                await attack.run(application, "/ws/chat/lobby/", user=self.bob, message=said)


class PageTests(TestCase):
    def setUp(self) -> None:
        self.alice, self.bob = User.objects.create_user("alice"), User.objects.create_user("bob")
        rooms = [("lobby", Room.Visibility.PUBLIC), ("club", Room.Visibility.MEMBERS), ("den", Room.Visibility.PRIVATE)]
        for slug, visibility in rooms:
            Room.objects.create(slug=slug, title=slug.title(), owner=self.alice, visibility=visibility)
        self.lobby = Room.objects.get(slug="lobby")
        self.client.force_login(self.bob)

    def listed(self) -> dict[str, Any]:
        return {door.room.slug: door for door in self.client.get("/").context["doors"]}

    def test_a_private_room_of_others_is_neither_listed_nor_found_nor_joined(self) -> None:
        self.assertEqual(set(self.listed()), {"lobby", "club"})
        self.assertEqual(self.client.get("/rooms/den/").status_code, 404)
        self.assertEqual(self.client.post("/rooms/den/join/").status_code, 404)
        membership.add("den", self.bob)
        self.assertEqual(self.listed()["den"].role, Role.MEMBER)

    def test_who_joins_is_a_member_until_they_leave(self) -> None:
        self.assertTrue(self.listed()["club"].may_join)
        self.assertRedirects(self.client.post("/rooms/club/join/"), "/rooms/club/")
        self.assertTrue(self.listed()["club"].may_leave)
        self.client.post("/rooms/club/leave/")
        self.assertEqual(self.listed()["club"].role, Role.GUEST)

    def test_who_is_banned_reads_it_and_may_not_join(self) -> None:
        moderation.ban("club", self.bob)
        self.assertFalse(self.listed()["club"].may_join)
        self.assertContains(self.client.get("/rooms/club/"), "You are banned from this room.")
        self.assertEqual(self.client.post("/rooms/club/join/").status_code, 403)

    def test_only_those_who_keep_order_add_members_and_see_who_is_kept_out(self) -> None:
        carol = User.objects.create_user("carol")
        Membership.objects.create(room=self.lobby, user=carol, banned=True)
        self.assertEqual(self.client.post("/rooms/lobby/members/", {"username": "alice"}).status_code, 403)
        self.assertEqual([each["name"] for each in self.client.get("/rooms/lobby/").context["people"]], ["alice"])
        # Nor does anybody else learn from the form who exists.
        refused = self.client.post("/rooms/lobby/members/", {"username": "nobody"})
        self.assertContains(refused, "This is not permitted", status_code=403)
        self.client.force_login(self.alice)
        self.client.post("/rooms/lobby/members/", {"username": "bob"})
        self.assertEqual(Membership.objects.get(room__slug="lobby", user=self.bob).role, Role.MEMBER)
        names = [each["name"] for each in self.client.get("/rooms/lobby/").context["people"]]
        self.assertEqual(sorted(names), ["alice", "bob", "carol"])

    def test_a_page_says_for_how_long_somebody_is_muted(self) -> None:
        membership.join("lobby", self.bob)
        moderation.mute("lobby", self.bob, seconds=60)
        muted = {each["name"]: each["muted"] for each in self.client.get("/rooms/lobby/").context["people"]}
        self.assertEqual(muted["alice"], 0)
        self.assertTrue(50 < muted["bob"] <= 60)

    def test_nobody_learns_from_a_page_who_belongs_to_a_room_that_is_closed_to_them(self) -> None:
        self.assertEqual(self.client.get("/rooms/club/").context["people"], [])
        self.client.logout()
        self.assertEqual(self.client.get("/rooms/lobby/").context["people"], [])

    def test_whoever_opens_a_room_owns_it(self) -> None:
        asked = {"title": "Garden", "visibility": "private", "slow_mode": "0"}
        page = self.client.post("/", asked)
        room = Room.objects.get(title="Garden")
        self.assertRedirects(page, f"/rooms/{room.slug}/")
        self.assertEqual((room.owner, room.visibility), (self.bob, Room.Visibility.PRIVATE))
        self.client.logout()
        self.assertEqual(self.client.post("/", asked).status_code, 403)

    def test_everybody_reads_how_the_chat_talks(self) -> None:
        self.client.logout()
        self.assertContains(self.client.get("/wire/"), "room.say")


def enter(room: str, user: User | None) -> SecureCommunicator:
    return SecureCommunicator(application, f"/ws/chat/{room}/", user=user)


async def heard(socket: SecureCommunicator, kind: str) -> Any:
    """The next frame of a kind; others are passed over."""
    while (frame := await socket.receive_json_from())["type"] != kind:
        pass
    return frame
