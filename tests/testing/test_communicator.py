"""What the communicator can come with, and the fixtures around it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure import database
from channels_secure.auth.tickets import aissue_ticket
from channels_secure.conf import get_settings
from channels_secure.testing import SecureCommunicator, guarded, log_in, unlimited
from tests.sockets import quiet  # noqa: F401
from tests.testing.targets import Chat, OpenChat

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]
Open = Callable[..., SecureCommunicator]


class WhoAmI(Chat):
    async def connect(self) -> None:
        await self.accept()
        identity = self.connection.identity
        await self.send_json([self.scope["user"].get_username(), identity.kind if identity else ""])


async def who(**options: Any) -> Any:
    async with SecureCommunicator(guarded(WhoAmI.as_asgi()), "/ws/?a=1", **options) as socket:
        return await socket.receive_json_from()


async def test_it_comes_with_the_session_of_a_test_client(user: User, client: Client) -> None:
    await database.ask_project(client.force_login, user)
    assert await who(session=client.cookies["sessionid"].value) == ["alice", "session"]
    assert await who(session=client.session) == ["alice", "session"]


async def test_it_comes_with_a_session_made_before(user: User) -> None:
    assert await who(session=await database.ask_project(log_in, user)) == ["alice", "session"]


async def test_it_comes_with_a_ticket(user: User) -> None:
    assert await who(ticket=await aissue_ticket(user)) == ["alice", "ticket"]
    assert await who(ticket=await aissue_ticket(user, path="/ws/"), server="browser") == ["alice", "ticket"]


@pytest.mark.parametrize("server", ["daphne", "uvicorn", "browser"])
async def test_it_comes_with_a_token_as_its_kind_of_client_can(server: Any, user: User) -> None:
    assert await who(token=str(AccessToken.for_user(user)), server=server) == ["alice", "jwt"]


@pytest.mark.parametrize(
    ("server", "code", "status", "refusal"),
    [("daphne", 4401, None, "unauthenticated"), ("uvicorn", 4401, None, "unauthenticated")],
)
async def test_a_page_of_ours_is_told_by_every_server(
    server: Any, code: int, status: Any, refusal: str, user: User
) -> None:
    outcome = await SecureCommunicator(guarded(Chat.as_asgi()), server=server).shake_hands()
    outcome.assert_refused(refusal, code=code)
    # Daphne sends no reasons; the error frame has it.
    assert outcome.reason == ("" if server == "daphne" else "unauthenticated")


@pytest.mark.parametrize(("server", "status", "refusal"), [("daphne", 403, ""), ("uvicorn", 401, "unauthenticated")])
async def test_a_program_is_told_as_the_server_can(server: Any, status: int, refusal: str) -> None:
    outcome = await SecureCommunicator(guarded(Chat.as_asgi()), server=server, origin=None).shake_hands()
    outcome.assert_refused(refusal, status=status)


async def test_a_page_of_others_sees_only_that_it_failed() -> None:
    stranger = SecureCommunicator(guarded(Chat.as_asgi()), server="browser", origin="https://evil.example")
    (await stranger.shake_hands()).assert_refused(code=1006)


async def test_frames_of_both_kinds_can_be_empty() -> None:
    async with SecureCommunicator(guarded(OpenChat.as_asgi())) as socket:
        await socket.send_text("")
        assert (await socket.receive_json_from())["code"] == "invalid_message"
        await socket.send_bytes(b"")
        assert (await socket.receive_json_from())["code"] == "unsupported_data"
        assert (await socket.closing())[0] == 4415


async def test_a_frame_is_text_or_bytes_and_nothing_else() -> None:
    async with SecureCommunicator(guarded(OpenChat.as_asgi())) as socket:
        with pytest.raises(ValueError, match="either text or bytes"):
            await socket.send_to()
        with pytest.raises(ValueError, match="either text or bytes"):
            await socket.send_to("", b"")
        await socket.send_to(bytes_data=b"")
        assert (await socket.receive_json_from())["code"] == "unsupported_data"
        with pytest.raises(AssertionError, match=r"expected a frame, and got .*websocket\.close.*4415"):
            await socket.receive_from()


async def test_a_binary_frame_is_no_json() -> None:
    class Binary(OpenChat):
        async def connect(self) -> None:
            await self.accept()
            await self.send(bytes_data=b"\x00")

    async with SecureCommunicator(guarded(Binary.as_asgi())) as socket:
        with pytest.raises(AssertionError, match=r"got the binary frame b'\\x00'"):
            await socket.receive_json_from()


async def test_a_user_who_is_not_stored_cannot_log_in() -> None:
    for nobody in (User(username="nobody"), User(pk=4711, username="nobody"), AnonymousUser()):
        with pytest.raises(ValueError, match=r"not stored, or in a transaction .* TransactionTestCase"):
            await SecureCommunicator(guarded(Chat.as_asgi()), user=nobody).shake_hands()


# Settings without limits ---------------------------------------------------------------------------------------------


def test_limits_are_switched_off_for_a_while(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"MAX_MESSAGE_SIZE": 1000, "MAX_CONNECTIONS": {"user": 1}}
    with unlimited(ALLOW_ANONYMOUS=True):
        current = get_settings()
        limits = (current.handshake_rates, current.message_rates, current.max_connections)
        assert limits == ({}, {}, {})
        assert (current.error_budget, current.auto_block_after, current.ticket_rate) == (None, None, None)
        assert (current.max_message_size, current.allow_anonymous) == (1000, True)
    assert get_settings().max_connections == {"user": 1, "ip": 50}
    with unlimited("MESSAGE_RATES"):
        assert get_settings().message_rates == {}
        assert get_settings().max_connections["user"] == 1


# Fixtures ------------------------------------------------------------------------------------------------------------


async def test_the_fixture_opens_sockets_of_the_project(secure_communicator: Open, settings: Any) -> None:
    settings.ASGI_APPLICATION = "tests.live.app.application"
    async with secure_communicator("/echo/") as socket:
        await socket.send_json_to([1])
        assert await socket.receive_json_from() == [1]
    (await secure_communicator("/typed/", origin=None).shake_hands()).assert_refused("unauthenticated")


async def test_the_fixture_opens_sockets_of_another_application(secure_communicator: Open) -> None:
    (await secure_communicator(application=guarded(Chat.as_asgi())).shake_hands()).assert_refused("unauthenticated")


async def test_the_fixture_opens_sockets_as_somebody(as_user: Callable[..., Open], user: User) -> None:
    bob = await User.objects.acreate(username="bob")
    app = guarded(WhoAmI.as_asgi())
    alice, other = as_user(user, application=app), as_user(bob, application=app)
    async with alice("/ws/") as one, other("/ws/", client="198.51.100.9") as two:
        assert await one.receive_json_from() == ["alice", "session"]
        assert await two.receive_json_from() == ["bob", "session"]


@pytest.mark.usefixtures("unlimited")
def test_the_fixture_switches_limits_off() -> None:
    assert get_settings().handshake_rates == {}
