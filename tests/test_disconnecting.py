"""`disconnect()` and `recheck()`: whom they reach, whom they leave alone, and what they refuse to understand."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from channels_secure.auth.base import digest_of
from channels_secure.connections import adisconnect, arecheck, disconnect, recheck, registry
from channels_secure.models import AuditEvent, Block, Revocation
from channels_secure.testing import SecureCommunicator, guarded
from tests.conftest import MakeUser
from tests.sockets import Echo, ask, connect, only_connection, quiet, rows, told  # noqa: F401
from tests.test_revocation import in_thread, unannounced

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def brisk(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 0.02, "AUDIT_FLUSH_INTERVAL": 0.02}


async def opened(consumer: Any = Echo, **options: Any) -> SecureCommunicator:
    socket = connect(consumer, **options)
    assert (await socket.shake_hands()).accepted
    return socket


async def stays(*sockets: SecureCommunicator) -> None:
    """They still answer; and they are closed, for the next test."""
    for socket in sockets:
        assert await ask(socket, "here") == "here"
    for socket in sockets:
        await socket.disconnect()


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selectors",
    [
        {},
        {"user": None, "connection_id": None, "ip": None, "session_key": None},
        {"user": 1, "ip": "192.0.2.1"},
        {"connection_id": "x", "session_key": "y"},
        {"user": AnonymousUser()},
        {"user": User(username="not stored")},
        {"user": 10**9},
        {"user": ""},
        {"connection_id": ""},
        {"connection_id": 7},
        {"connection_id": "x" * 65},
        {"session_key": ""},
        {"session_key": 7},
        {"ip": ""},
        {"ip": "nonsense"},
        {"ip": "0.0.0.0/0"},
        {"ip": "::/0"},
        {"ip": "10.0.0.0/7"},
        {"connection_id": "x", "reason": "credentials_revoked"},
        {"connection_id": "x", "reason": "blocked"},
    ],
    ids=repr,
)
def test_nonsense_is_a_value_error_and_never_everybody(selectors: dict[str, Any], user: User) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        disconnect(**selectors)
    assert not Revocation.objects.exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("selectors", [{}, {"user": 1, "group": "lobby"}, {"user": 10**9}], ids=repr)
def test_rechecking_needs_exactly_one_selector(selectors: dict[str, Any], user: User) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        recheck(**selectors)
    assert not Revocation.objects.exists()


def test_a_session_s_key_is_stored_nowhere() -> None:
    disconnect(session_key="a-secret-session-key")
    row, event = Revocation.objects.get(), AuditEvent.objects.get()
    assert row.subject == event.detail["session"] == digest_of("a-secret-session-key")
    assert "a-secret" not in repr(vars(row)) + repr(vars(event))


def test_who_did_it_and_in_what_words_is_in_the_audit_trail(user: User, make_user: MakeUser) -> None:
    disconnect(user=user, by=make_user("bob"), reason="flooding the lobby")
    event, row = AuditEvent.objects.get(), Revocation.objects.get()
    assert (event.kind, event.reason, event.user, event.actor) == (
        "connection.disconnected", "flooding the lobby", user, "bob",
    )  # fmt: skip
    assert (row.reason, row.actor) == ("disconnected", "bob")
    disconnect(ip="2001:db8::1", by="script")
    assert AuditEvent.objects.latest("id").ip == "2001:db8::/64"


# Whom it reaches ------------------------------------------------------------------------------------------------------


async def key_of(socket: SecureCommunicator) -> str:
    (key,) = socket.cookies.values()
    return key


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("selector", ["user", "pk", "connection_id", "ip", "network", "session_key"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
async def test_it_ends_those_sockets_and_no_others(
    user: User, make_user: MakeUser, selector: str, elsewhere: bool, request: pytest.FixtureRequest
) -> None:
    if elsewhere:
        request.getfixturevalue("brisk")
    bob = await in_thread(lambda: make_user("bob"))
    doomed = await opened(user=user, client="192.0.2.77")
    selectors: dict[str, dict[str, Any]] = {
        "user": {"user": user},
        "pk": {"user": user.pk},
        "connection_id": {"connection_id": only_connection().id},
        "ip": {"ip": "192.0.2.77"},
        "network": {"ip": "192.0.2.64/26"},
        "session_key": {"session_key": await key_of(doomed)},
    }
    bystanders = [await opened(user=bob, client="198.51.100.7"), await opened(client="198.51.100.8")]
    if elsewhere:
        with unannounced():
            await adisconnect(**selectors[selector])
            assert await told(doomed) == ("disconnected", 4440)
    else:
        await adisconnect(**selectors[selector])
        assert await told(doomed) == ("disconnected", 4440)
    await stays(*bystanders)
    assert len(await rows(kind="connection.disconnected")) == 1


@pytest.mark.usefixtures("quiet")
async def test_another_session_of_the_same_user_stays(user: User) -> None:
    first, second = await opened(user=user), await opened(user=user)
    await adisconnect(session_key=await key_of(first))
    assert await told(first) == ("disconnected", 4440)
    await stays(second)


@pytest.mark.usefixtures("quiet")
async def test_clients_are_told_a_reason_that_they_know(user: User) -> None:
    socket = await opened(user=user)
    await adisconnect(user=user, reason="session_ended")
    assert await told(socket) == ("session_ended", 4401)


@pytest.mark.usefixtures("quiet")
async def test_an_address_behind_an_undeclared_proxy_is_nobody_s(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"ALLOWED_ORIGINS": ["https://testserver"]}
    socket = await opened(client="10.0.0.1", headers=[(b"x-forwarded-for", b"203.0.113.9")])
    await adisconnect(ip="10.0.0.1")
    await stays(socket)


@pytest.mark.usefixtures("quiet")
async def test_whoever_was_disconnected_may_come_back_once_that_is_known(user: User) -> None:
    socket = await opened(user=user)
    await adisconnect(user=user)
    assert await told(socket) == ("disconnected", 4440)
    await stays(await opened(user=user))


@pytest.mark.usefixtures("quiet")
async def test_nothing_happens_before_the_commit(user: User) -> None:
    socket = await opened(user=user)

    def begin_and_roll_back() -> None:
        with transaction.atomic():
            disconnect(user=user)
            transaction.set_rollback(True)

    await in_thread(begin_and_roll_back)
    await stays(socket)


def in_own_connection(act: Callable[[], None]) -> None:
    from django.db import connection

    try:
        act()
    finally:
        connection.close()


@pytest.mark.usefixtures("quiet")
async def test_it_works_from_any_thread(user: User) -> None:
    socket = await opened(user=user)
    thread = threading.Thread(target=in_own_connection, args=(lambda: disconnect(user=user),))
    thread.start()
    assert await told(socket) == ("disconnected", 4440)
    thread.join(10)


@pytest.mark.usefixtures("quiet")
async def test_a_consumer_of_somebody_else_s_is_reached_too(user: User, settings: Any) -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    socket = SecureCommunicator(guarded(plain), "/ws/", user=user)
    assert (await socket.shake_hands()).accepted
    await adisconnect(user=user)
    assert await told(socket) == ("disconnected", 4440)


# Rechecking -----------------------------------------------------------------------------------------------------------


class Members(Echo):
    """A room for those on its list."""

    allowed: set[str]

    async def authorize(self) -> bool:
        return self.scope["user"].get_username() in self.allowed

    async def connect(self) -> None:
        await self.join("the room!")
        await self.accept()


def room(*names: str) -> type[Members]:
    return type("Members", (Members,), {"allowed": set(names)})


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("by", ["user", "group"])
async def test_who_lost_the_membership_is_out_and_others_stay(
    user: User, make_user: MakeUser, by: str, elsewhere: bool, request: pytest.FixtureRequest
) -> None:
    if elsewhere:
        request.getfixturevalue("brisk")
    bob = await in_thread(lambda: make_user("bob"))
    members = room("alice", "bob")
    doomed, other = await opened(members, user=user), await opened(members, user=bob)
    outside = await opened(room("alice"), user=bob) if by == "nobody" else await opened()
    members.allowed.discard("alice")
    selector: dict[str, Any] = {"user": user} if by == "user" else {"group": "the room!"}
    if elsewhere:
        with unannounced():
            await arecheck(**selector)
            assert await told(doomed) == ("permission_denied", 4403)
    else:
        await arecheck(**selector)
        assert await told(doomed) == ("permission_denied", 4403)
    await stays(other, outside)


@pytest.mark.usefixtures("quiet")
async def test_who_was_deactivated_by_sql_is_found_by_a_recheck(user: User) -> None:
    socket, other = await opened(user=user), await opened()
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    await arecheck(user=user.pk)
    assert await told(socket) == ("session_ended", 4401)
    await stays(other)


@pytest.mark.usefixtures("quiet")
async def test_a_recheck_refreshes_the_user_whom_handlers_see(user: User) -> None:
    class Naming(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json(self.scope["user"].first_name)

    socket = await opened(Naming, user=user)
    await User.objects.filter(pk=user.pk).aupdate(first_name="Alicia")
    assert await ask(socket, 1) == ""
    await arecheck(user=user)
    async with asyncio.timeout(10):
        while await ask(socket, 1) != "Alicia":
            await asyncio.sleep(0.01)
    await socket.disconnect()
    assert not await Block.objects.aexists()
    assert len(registry()) <= 1
