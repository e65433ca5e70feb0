# ruff: noqa: PT009 - the test runner is Django's own
"""How a project tests its guarded consumer: `manage.py test`."""

from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.test import TransactionTestCase
from django.urls import path

from channels_secure.testing import SecureCommunicator, guarded, reset
from chat.consumers import ChatConsumer
from chat.models import Room

application = guarded(URLRouter([path("ws/chat/<slug:room>/", ChatConsumer.as_asgi())]))


class ChatTests(TransactionTestCase):
    def setUp(self) -> None:
        self.addCleanup(reset)
        self.alice = User.objects.create_user("alice")
        self.root = User.objects.create_user("root", is_staff=True)
        Room.objects.create(slug="lobby", title="Lobby")
        Room.objects.create(slug="staff", title="Staff", staff_only=True)

    async def test_everybody_in_the_room_hears_what_one_says(self) -> None:
        async with enter("lobby", self.alice) as alice, enter("lobby", self.root) as root:
            self.assertEqual((await alice.receive_json_from())["type"], "hello")
            self.assertEqual((await root.receive_json_from())["type"], "hello")
            await alice.send_json_to({"type": "chat.say", "text": "Hello"})
            said = {"type": "chat.said", "user": "alice", "text": "Hello"}
            self.assertEqual(await root.receive_json_from(), said)
            self.assertEqual(await alice.receive_json_from(), said)

    async def test_the_sixth_message_within_ten_seconds_is_refused(self) -> None:
        async with enter("lobby", self.alice) as alice:
            for _ in range(6):
                await alice.send_json_to({"type": "chat.say", "text": "Hello"})
            answers = [await alice.receive_json_from() for _ in range(7)]
            self.assertEqual(answers[-1]["code"], "rate_limited")

    async def test_the_staff_room_is_for_staff(self) -> None:
        outcome = await enter("staff", self.alice).shake_hands()
        self.assertEqual(outcome.error["code"], "permission_denied")
        async with enter("staff", self.root) as root:
            self.assertEqual((await root.receive_json_from())["type"], "hello")

    async def test_a_room_that_does_not_exist_is_refused_like_one_that_is_closed(self) -> None:
        outcome = await enter("attic", self.alice).shake_hands()
        self.assertEqual(outcome.error["code"], "permission_denied")

    async def test_nobody_enters_without_a_login(self) -> None:
        outcome = await enter("lobby", None).shake_hands()
        self.assertEqual(outcome.error["code"], "unauthenticated")


def enter(room: str, user: User | None) -> SecureCommunicator:
    return SecureCommunicator(application, f"/ws/chat/{room}/", user=user)
