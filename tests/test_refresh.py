"""A newer access token on an open socket: who may go on, until when, and what a wrong token costs."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from channels_secure import blocklist, database, supervisor
from channels_secure.auth.base import Identity
from channels_secure.auth.jwt import JWTAuthenticator
from channels_secure.auth.tickets import aissue_ticket
from channels_secure.blocklist import ablock
from channels_secure.connections import Connection
from channels_secure.consumers import SecureJsonConsumer, handles, refreshing
from channels_secure.revocation import arevoke_token, arevoke_user_tokens, is_revoked
from channels_secure.testing import SecureCommunicator
from tests.auth.tokens import sign, token_for
from tests.live.app import Nothing
from tests.sockets import ask, connect, kinds, only_connection, quiet, rows, swept, told, until

__all__ = ["quiet"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


class Typed(SecureJsonConsumer):
    async def connect(self) -> None:
        await self.accept()

    @handles("who")
    async def who(self, message: Nothing) -> None:
        await self.send_json({"type": "you", "name": self.scope["user"].first_name})


class DropIn(SecureJsonConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"got": content})


class Controlled(DropIn):
    control_frames = True


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were handed to cryptography."""
    from channels_secure.auth import jwt

    seen: list[str] = []
    judge = jwt._judge

    def note(offers: Any) -> Any:
        seen.extend(offer.token for offer in offers)
        return judge(offers)

    monkeypatch.setattr(jwt, "_judge", note)
    return seen


async def alice() -> User:
    return await User.objects.acreate_user("alice", password="correct horse")


def refresh(token: str, **members: Any) -> dict[str, Any]:
    return {"type": "refresh_token", "token": token, **members}


def lasting(seconds: float, user: User, **claims: Any) -> str:
    """A token that ends in so many seconds."""
    return token_for(user, exp=int(time.time() + seconds), **claims)


def ends_in(connection: Connection) -> float:
    assert connection.expires_at is not None
    return connection.expires_at - time.monotonic()


async def assert_refused(socket: SecureCommunicator, token: str, code: str = "invalid_credentials") -> None:
    """The refusal is an answer, and everything stays as it was."""
    connection = only_connection()
    before = connection.identity, connection.expires_at
    frame = await ask(socket, refresh(token, id="r"))
    assert (frame["type"], frame["code"], frame["fatal"], frame["ref"]) == ("error", code, False, "r")
    assert (connection.identity, connection.expires_at) == before
    assert (await ask(socket, {"type": "who"}))["type"] == "you"


# A good token --------------------------------------------------------------------------------------------------------


async def test_a_newer_token_of_the_same_user_moves_the_end() -> None:
    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        connection = only_connection()
        connection.warned = True
        newer = lasting(1000, user, jti="newer", iat=int(time.time()) - 1)
        frame = await ask(socket, refresh(newer, id="r7"))
        assert (frame.pop("expires_in") in range(998, 1001), frame) == (True, {"type": "token_refreshed", "ref": "r7"})
        assert 995 < ends_in(connection) <= 1000
        assert connection.identity is not None
        assert (connection.identity.jti, connection.identity.kind) == ("newer", "jwt")
        assert connection.identity.issued_at is not None
        assert not connection.warned
        events = await rows(kind="credentials.refreshed")
    assert [(event.username, event.connection_id, event.detail) for event in events] == [
        ("alice", connection.id, {"credentials": "jwt"})
    ]
    assert newer not in repr([vars(event) for event in await rows()])


async def test_a_frame_without_an_id_is_answered_without_a_ref() -> None:
    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        assert set(await ask(socket, refresh(lasting(1000, user)))) == {"type", "expires_in"}


async def test_a_shorter_token_counts_too() -> None:
    user = await alice()
    async with connect(Typed, token=lasting(1000, user)) as socket:
        assert (await ask(socket, refresh(lasting(100, user))))["expires_in"] <= 100
        assert ends_in(only_connection()) <= 100


async def test_the_client_is_warned_before_each_end() -> None:
    user = await alice()
    async with connect(Typed, token=lasting(50, user)) as socket:
        assert (await socket.receive_json_from())["type"] == "token_expiring"
        assert (await ask(socket, refresh(lasting(1000, user))))["type"] == "token_refreshed"
        await swept()
        assert await socket.receive_nothing(timeout=0)
        assert (await ask(socket, refresh(lasting(50, user))))["type"] == "token_refreshed"
        supervisor.current().wake()
        assert (await socket.receive_json_from())["type"] == "token_expiring"


async def test_the_consumer_sees_the_user_as_he_is_now() -> None:
    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        await User.objects.aupdate(first_name="Alice")
        await ask(socket, refresh(lasting(1000, user)))
        assert await ask(socket, {"type": "who"}) == {"type": "you", "name": "Alice"}
        assert only_connection().user.first_name == "Alice"


async def test_a_drop_in_class_gets_the_frame_itself_unless_it_leaves_control_frames_to_the_package() -> None:
    user = await alice()
    async with connect(DropIn, token=lasting(100, user)) as socket:
        frame = refresh(lasting(1000, user))
        assert await ask(socket, frame) == {"got": frame}
        assert ends_in(only_connection()) <= 100
    async with connect(Controlled, token=lasting(100, user)) as socket:
        assert (await ask(socket, frame))["type"] == "token_refreshed"


async def test_the_socket_of_a_ticket_is_refreshed_by_a_token() -> None:
    user = await alice()
    ticket = await aissue_ticket(user, jti="old", expires_at=time.time() + 100)
    async with connect(Typed, f"/ws/?ticket={ticket}") as socket:
        await ask(socket, refresh(lasting(1000, user, jti="new")))
        connection = only_connection()
        assert connection.identity is not None
        assert (connection.identity.jti, connection.identity.kind) == ("new", "jwt")
        assert ends_in(connection) > 900


# Beside a session ----------------------------------------------------------------------------------------------------


async def in_session(user: User, seconds: int) -> dict[str, str]:
    """The cookie of a session that ends in so many seconds."""
    client = Client()
    await client.aforce_login(user)
    session = await client.asession()
    await session.aset_expiry(seconds)
    await session.asave()
    return {"sessionid": str(session.session_key)}


async def test_a_socket_never_outlives_the_session_that_speaks_for_it() -> None:
    user = await alice()
    cookies = await in_session(user, 500)
    async with connect(Typed, cookies=cookies, token=lasting(100, user)) as socket:
        connection = only_connection()
        digest = connection.session_digest
        assert (await ask(socket, refresh(lasting(300, user))))["expires_in"] in range(290, 301)
        assert (await ask(socket, refresh(lasting(1000, user))))["expires_in"] in range(490, 501)
        assert ends_in(connection) <= 500
        assert connection.session_digest == digest is not None
        assert connection.identity is not None
        assert (connection.identity.kind, connection.identity.ambient) == ("session+jwt", False)


async def test_a_token_beside_a_mere_session_can_only_bring_the_end_nearer() -> None:
    user = await alice()
    async with connect(Typed, cookies=await in_session(user, 500)) as socket:
        await User.objects.aupdate(first_name="Alice")
        assert (await ask(socket, refresh(lasting(1000, user))))["expires_in"] in range(490, 501)
        assert (await ask(socket, {"type": "who"}))["name"] == "Alice"
        assert (await ask(socket, refresh(lasting(100, user))))["expires_in"] in range(90, 101)
        assert only_connection().session_digest is not None


# A wrong token -------------------------------------------------------------------------------------------------------

WRONG: dict[str, Callable[[User], str]] = {
    "nonsense": lambda user: "nonsense",
    "empty": lambda user: "",
    "bearer": lambda user: f"Bearer {token_for(user)}",
    "another key": lambda user: sign({"exp": time.time() + 60}, "another key that is long enough for HMAC-SHA-256"),
    "refresh token": lambda user: str(RefreshToken.for_user(user)),
    "no such user": lambda user: token_for(user, user_id="123456"),
    "too long": lambda user: token_for(user, pad="x" * 9000),
    "not ASCII": lambda user: token_for(user) + "é",
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_token_changes_nothing_and_is_a_strike(wrong: str) -> None:
    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        token = await database.run(WRONG[wrong], user)
        await assert_refused(socket, token)
        assert only_connection().conduct.violations == 1
    (event,) = await rows(kind="credentials.failed")
    assert (event.reason, event.username, bool(event.detail["detail"])) == ("invalid_credentials", "alice", True)
    assert not await rows(kind="credentials.refreshed")


async def test_a_token_over_8_kb_costs_no_cryptography(verified: list[str]) -> None:
    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        verified.clear()
        await assert_refused(socket, token_for(user, pad="x" * 9000))
    assert verified == []


async def test_an_expired_token_is_told_so_and_the_old_end_stands() -> None:
    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        await assert_refused(socket, lasting(-5, user), "credentials_expired")


async def test_a_blacklisted_token_is_refused() -> None:
    user = await alice()
    token = AccessToken.for_user(user)
    row = await OutstandingToken.objects.acreate(jti=token["jti"], token="", expires_at=token.current_time)
    await BlacklistedToken.objects.acreate(token=row)
    async with connect(Typed, token=lasting(100, user)) as socket:
        await assert_refused(socket, str(token))


async def test_a_revoked_token_is_refused() -> None:
    user = await alice()
    newer = lasting(1000, user)
    await arevoke_token(newer)
    async with connect(Typed, token=lasting(100, user, iat=int(time.time()))) as socket:
        await assert_refused(socket, newer)


async def test_a_token_from_before_all_were_revoked_is_refused() -> None:
    user = await alice()
    await arevoke_user_tokens(user)
    older = lasting(1000, user, iat=int(time.time()) - 60)
    async with connect(Typed, user=user) as socket:
        await assert_refused(socket, older)


async def test_a_token_from_before_the_password_changed_is_refused_where_that_is_checked(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    user = await alice()
    older = str(AccessToken.for_user(user))
    user.set_password("another one")
    await User.objects.aupdate(password=user.password)
    async with connect(Typed, token=str(AccessToken.for_user(user))) as socket:
        await assert_refused(socket, older)


async def test_another_users_token_ends_the_socket() -> None:
    user, bob = await alice(), await User.objects.acreate_user("bob")
    socket = connect(Typed, token=lasting(100, user))
    assert (await socket.connect())[0]
    connection = only_connection()
    await socket.send_json_to(refresh(lasting(1000, bob), id="r"))
    frame = await socket.receive_json_from()
    assert (frame["code"], frame["fatal"], frame["ref"]) == ("invalid_credentials", True, "r")
    assert await socket.closing() == (4401, "invalid_credentials")
    assert connection.user == user
    (event,) = await rows(kind="credentials.failed")
    assert event.detail == {"detail": "token_of_another_user"}
    assert "credentials.refreshed" not in await kinds()


async def test_a_socket_of_nobody_does_not_become_somebodys() -> None:
    class Anybody(Typed):
        allow_anonymous = True

    socket = connect(Anybody)
    assert (await socket.connect())[0]
    await socket.send_json_to(refresh(lasting(1000, await alice())))
    assert await told(socket) == ("invalid_credentials", 4401)


async def test_a_blocked_user_cannot_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    user = await alice()
    socket = connect(Typed, token=lasting(100, user))
    assert (await socket.connect())[0]
    # The supervisor would be first.
    monkeypatch.setattr(supervisor.Supervisor, "_enforce", lambda self: None)
    await ablock(user=user)
    await blocklist.refresh()
    await socket.send_json_to(refresh(lasting(1000, user)))
    assert await told(socket) == ("blocked", 4423)
    assert "credentials.refreshed" not in await kinds()


async def test_a_token_that_is_revoked_after_it_was_looked_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    user = await alice()
    newer = lasting(1000, user)

    async def look_then_revoke(identity: Identity) -> bool:
        answer = await is_revoked(identity)
        await arevoke_token(newer)
        await blocklist.refresh()
        return answer

    monkeypatch.setattr(refreshing, "is_revoked", look_then_revoke)
    async with connect(Typed, token=lasting(100, user)) as socket:
        await assert_refused(socket, newer)


async def test_revoking_the_newer_token_ends_the_socket_and_revoking_the_older_does_not() -> None:
    user = await alice()
    older, newer = lasting(100, user), lasting(1000, user)
    socket = connect(Typed, token=older)
    assert (await socket.connect())[0]
    await ask(socket, refresh(newer))
    await arevoke_token(older)
    await blocklist.refresh()
    await swept()
    assert (await ask(socket, {"type": "who"}))["type"] == "you"
    await arevoke_token(newer)
    assert await told(socket) == ("credentials_revoked", 4401)


# Rates and trouble ---------------------------------------------------------------------------------------------------


async def test_the_rate_comes_before_any_cryptography(settings: Settings, verified: list[str]) -> None:
    settings.CHANNELS_SECURE = {"REFRESH_RATE": "2/h"}
    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        verified.clear()
        await ask(socket, refresh(lasting(1000, user)))
        await ask(socket, refresh("a.b.c"))
        frame = await ask(socket, refresh(lasting(1000, user), id=1))
        assert (frame["code"], frame["fatal"], frame["ref"]) == ("rate_limited", False, 1)
        assert 1700 < frame["retry_after"] <= 1800
        assert len(verified) == 2
        assert (await ask(socket, {"type": "who"}))["type"] == "you"
    # The rate is the connection's, not the user's.
    async with connect(Typed, token=lasting(100, user)) as socket:
        assert (await ask(socket, refresh(lasting(1000, user))))["type"] == "token_refreshed"


async def test_the_rate_can_be_switched_off_and_only_reported(settings: Settings) -> None:
    user = await alice()
    for options in ({"REFRESH_RATE": None}, {"REFRESH_RATE": "1/h", "MODE": "report"}):
        settings.CHANNELS_SECURE = options
        async with connect(Typed, token=lasting(100, user)) as socket:
            for _ in range(8):
                assert (await ask(socket, refresh(lasting(1000, user))))["type"] == "token_refreshed"
    assert [event.reason for event in await rows(kind="policy.would_deny")] == ["rate_limited"] * 7


async def test_wrong_tokens_spend_the_error_budget(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"ERROR_BUDGET": "2/h", "REFRESH_RATE": None}
    socket = connect(Typed, token=lasting(100, await alice()))
    assert (await socket.connect())[0]
    for _ in range(2):
        assert (await ask(socket, refresh("a.b.c")))["fatal"] is False
    await socket.send_json_to(refresh("a.b.c"))
    assert await told(socket) == ("too_many_errors", 4400)


async def test_where_tokens_are_not_accepted_none_is(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"AUTHENTICATORS": ["channels_secure.auth.session.SessionAuthenticator"]}
    user = await alice()
    async with connect(Typed, user=user) as socket:
        await assert_refused(socket, lasting(1000, user))
    (event,) = await rows(kind="credentials.failed")
    assert event.detail == {"detail": "tokens_not_accepted"}


async def test_a_database_that_is_away_is_no_strike(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: JWTAuthenticator, token: str) -> Any:
        raise OperationalError("away")

    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        with monkeypatch.context() as broken:
            broken.setattr(JWTAuthenticator, "verify_token", fail)
            await assert_refused(socket, lasting(1000, user), "unavailable")
        assert only_connection().conduct.violations == 0
        assert (await ask(socket, refresh(lasting(1000, user))))["type"] == "token_refreshed"


async def test_verifying_holds_up_nobody_else_and_has_the_handlers_deadline(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.CHANNELS_SECURE = {"HANDLER_TIMEOUT": 0.05, "POLICY_REFRESH_INTERVAL": 0.05}

    async def hang(self: JWTAuthenticator, token: str) -> Any:
        await asyncio.Event().wait()

    user = await alice()
    stuck, other = connect(Typed, token=lasting(100, user)), connect(Typed, token=lasting(100, user))
    assert (await stuck.connect())[0]
    first = only_connection()
    async with other:
        monkeypatch.setattr(JWTAuthenticator, "verify_token", hang)
        await stuck.send_json_to(refresh("a.b.c"))
        await until(lambda: first.handler_since is not None or first.ended)
        assert (await ask(other, {"type": "who"}))["type"] == "you"
        assert await told(stuck) == ("handler_timeout", 4500)


async def test_what_takes_longer_than_a_handshake_may_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    async def hang(self: JWTAuthenticator, token: str) -> Any:
        await asyncio.Event().wait()

    user = await alice()
    async with connect(Typed, token=lasting(100, user)) as socket:
        monkeypatch.setattr(JWTAuthenticator, "verify_token", hang)
        only_connection().settings = replace(only_connection().settings, handshake_timeout=0.01)
        await assert_refused(socket, "a.b.c", "unavailable")


async def test_an_authenticator_of_the_projects_own_may_verify_tokens(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {
        "AUTHENTICATORS": [f"{__name__}.{OwnTokens.__name__}", "channels_secure.auth.session.SessionAuthenticator"]
    }
    async with connect(Typed, user=await alice()) as socket:
        assert (await ask(socket, refresh("open sesame")))["type"] == "token_refreshed"


class OwnTokens:
    """An authenticator with words of its own."""

    async def authenticate(self, handshake: Any) -> None:
        return None

    async def verify_token(self, token: str) -> Any:
        from channels_secure.policy.decisions import Denial, Reason

        if token != "open sesame":
            return Denial(reason=Reason.INVALID_CREDENTIALS)
        return Identity(user=await User.objects.aget(username="alice"), kind="sesame")
