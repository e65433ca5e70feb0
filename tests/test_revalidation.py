"""Re-validation: what the store says now decides, whoever changed it and however."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken
from rest_framework_simplejwt.utils import get_md5_hash_password

from channels_secure.auth import standing
from channels_secure.auth.tickets import aissue_ticket
from channels_secure.connections import Connection, registry
from channels_secure.exceptions import Denied
from channels_secure.supervisor import revalidation
from channels_secure.supervisor.revalidation import revalidate
from channels_secure.testing import SecureCommunicator
from tests.conftest import MakeUser
from tests.sockets import Echo, ask, connect, kinds, logged, only_connection, quiet, rows, told, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


async def opened(consumer: Any = Echo, path: str = "/ws/", **options: Any) -> SecureCommunicator:
    socket = connect(consumer, path, **options)
    outcome = await socket.shake_hands()
    assert outcome.accepted, outcome
    return socket


async def review() -> None:
    await revalidate(registry())


async def leave(*sockets: SecureCommunicator) -> None:
    for socket in sockets:
        await socket.disconnect()


@database_sync_to_async
def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def key_of(socket: SecureCommunicator) -> str:
    return socket.cookies["sessionid"]


def end_in(seconds: float) -> Any:
    return timezone.now() + timedelta(seconds=seconds)


# What ends a socket ---------------------------------------------------------------------------------------------------


async def deactivate(user: User, key: str) -> None:
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)


async def change_password(user: User, key: str) -> None:
    await User.objects.filter(pk=user.pk).aupdate(password="md5$other$hash")


async def delete_user(user: User, key: str) -> None:
    await sql("DELETE FROM auth_user WHERE id = %s", user.pk)


async def delete_session(user: User, key: str) -> None:
    await sql("DELETE FROM django_session WHERE session_key = %s", key)


async def expire_session(user: User, key: str) -> None:
    await Session.objects.filter(pk=key).aupdate(expire_date=end_in(-1))


async def empty_session(user: User, key: str) -> None:
    await Session.objects.filter(pk=key).aupdate(session_data=Session.objects.encode({}))


async def give_session_away(user: User, key: str) -> None:
    other = await User.objects.acreate_user("mallory")
    data = Session.objects.encode({"_auth_user_id": str(other.pk), "_auth_user_backend": "none", "_auth_user_hash": ""})
    await Session.objects.filter(pk=key).aupdate(session_data=data)


ENDINGS = {
    deactivate: "user unknown or inactive",
    change_password: "password changed",
    delete_user: "user unknown or inactive",
    delete_session: "session gone",
    expire_session: "session expired",
    empty_session: "session logged out",
    give_session_away: "session logged out",
}


@pytest.mark.parametrize("change", ENDINGS, ids=lambda change: change.__name__)
async def test_a_change_that_sends_no_signal_is_found(change: Callable[..., Any], user: User) -> None:
    socket = await opened(user=user)
    await review()
    assert await ask(socket, "still here") == "still here"
    await change(user, key_of(socket))
    await review()
    assert await told(socket) == ("session_ended", 4401)
    (closed,) = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["by"], closed.detail["detail"]) == ("session_ended", "policy", ENDINGS[change])


async def test_the_users_other_devices_stay(user: User) -> None:
    phone, laptop = await opened(user=user), await opened(user=user)
    await delete_session(user, key_of(phone))
    await review()
    assert await told(phone) == ("session_ended", 4401)
    assert await ask(laptop, 1) == 1
    await leave(laptop)


async def test_channels_own_look_up_does_not_notice_a_deleted_session(user: User) -> None:
    """The control: this is what an application that trusts its scope goes by."""
    found: list[Any] = []

    class Looking(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            found.append(await get_user(self.scope))
            await self.send_json(content)

    socket = await opened(Looking, user=user)
    await delete_session(user, key_of(socket))
    assert await ask(socket, 1) == 1
    assert found == [user]
    await review()
    assert await told(socket) == ("session_ended", 4401)


async def test_a_look_writes_deletes_and_rotates_nothing(user: User, settings: Any) -> None:
    here, gone = await opened(user=user), await opened(user=user)
    await expire_session(user, key_of(gone))
    before = [row async for row in Session.objects.order_by("pk").values()]
    users = [row async for row in User.objects.values()]
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "the next key of this project, long"
    await review()
    assert await told(gone) == ("session_ended", 4401)
    assert await ask(here, 1) == 1
    assert [row async for row in Session.objects.order_by("pk").values()] == before
    assert [row async for row in User.objects.values()] == users
    await leave(here)


@pytest.mark.parametrize("backend", ["Finding", "Choosy"])
async def test_a_backend_of_the_projects_own_is_asked_as_by_a_handshake(
    backend: str, user: User, settings: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_revalidation.{backend}"]
    socket = await opened(user=user)
    await review()
    assert await ask(socket, 1) == 1
    await User.objects.filter(pk=user.pk).aupdate(last_name="suspended")
    await review()
    assert await told(socket) == ("session_ended", 4401)
    assert (await connect(Echo, user=user).shake_hands()).error["code"] == "invalid_credentials"


class Choosy(ModelBackend):
    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.last_name != "suspended")


class Finding(ModelBackend):
    def get_user(self, user_id: Any) -> Any:
        return User.objects.exclude(last_name="suspended").filter(pk=user_id).first()


# Tokens ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [deactivate, delete_user], ids=lambda change: change.__name__)
async def test_a_socket_of_a_token_ends_with_its_user(change: Callable[..., Any], user: User) -> None:
    socket = await opened(token=str(AccessToken.for_user(user)), origin=None)
    await review()
    assert await ask(socket, 1) == 1
    await change(user, "")
    await review()
    assert await told(socket) == ("session_ended", 4401)


async def test_a_token_outlives_a_new_password_unless_the_project_says_otherwise(user: User, settings: Any) -> None:
    plain = await opened(token=str(AccessToken.for_user(user)), origin=None)
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    token = AccessToken.for_user(user)
    token["hash_password"] = get_md5_hash_password(user.password)
    bound = await opened(token=str(token), origin=None)
    await review()
    assert await ask(bound, 1) == 1
    await change_password(user, "")
    await review()
    assert await told(bound) == ("session_ended", 4401)
    assert await ask(plain, 1) == 1
    await leave(plain)


async def test_a_token_on_the_blacklist_is_revoked(user: User) -> None:
    socket, other = [await opened(token=str(AccessToken.for_user(user)), origin=None) for _ in range(2)]
    here, _ = registry()
    assert here.identity is not None
    outstanding = await OutstandingToken.objects.acreate(
        user=user, jti=here.identity.jti, token="", expires_at=end_in(300)
    )
    await BlacklistedToken.objects.abulk_create([BlacklistedToken(token=outstanding)])
    await review()
    assert await told(socket) == ("credentials_revoked", 4401)
    assert await ask(other, 1) == 1
    await leave(other)


async def test_a_ticket_ends_with_the_password_it_was_issued_under(user: User) -> None:
    ticket = await aissue_ticket(user)
    socket = await opened(path=f"/ws/?ticket={ticket}", origin=None)
    await review()
    assert await ask(socket, 1) == 1
    await change_password(user, "")
    await review()
    assert await told(socket) == ("session_ended", 4401)


async def test_of_several_credentials_the_first_to_end_wins(user: User) -> None:
    socket = await opened(user=user, token=str(AccessToken.for_user(user)))
    await delete_session(user, key_of(socket))
    await review()
    assert await told(socket) == ("session_ended", 4401)


# What is renewed ------------------------------------------------------------------------------------------------------


class Permitted(Echo):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        user = self.scope["user"]
        await self.send_json([await database_sync_to_async(user.has_perm)("auth.add_user"), user.last_name])


async def grant(user: User) -> None:
    """Without the signal of a changed relation, which would have the supervisor look at a time of its own."""
    permission = await Permission.objects.aget(codename="add_user")
    await User.user_permissions.through.objects.acreate(user_id=user.pk, permission_id=permission.pk)


async def test_the_scope_has_a_fresh_user_afterwards(user: User) -> None:
    socket = await opened(Permitted, user=user)
    assert await ask(socket, 1) == [False, ""]
    await grant(user)
    await User.objects.filter(pk=user.pk).aupdate(last_name="Liddell")
    assert await ask(socket, 1) == [False, ""]
    before = only_connection().user
    await review()
    assert await ask(socket, 1) == [True, "Liddell"]
    assert only_connection().user.last_name == "Liddell"
    # A handler that is under way keeps what it has begun with.
    assert only_connection().user is not before
    assert before.last_name == ""
    await leave(socket)


async def test_a_consumer_that_is_not_ours_has_a_fresh_user_too(user: User, settings: Any) -> None:
    class Foreign(AsyncJsonWebsocketConsumer):
        receive_json = Permitted.receive_json  # type: ignore[assignment]

    socket = await opened(Foreign, user=user)
    assert await ask(socket, 1) == [False, ""]
    await grant(user)
    await User.objects.filter(pk=user.pk).aupdate(last_name="Liddell")
    await review()
    assert await ask(socket, 1) == [True, "Liddell"]
    await leave(socket)


async def test_two_sockets_of_one_user_do_not_share_an_object(user: User) -> None:
    one, two = await opened(user=user), await opened(user=user)
    await review()
    first, second = registry()
    assert first.user == second.user
    assert first.user is not second.user
    first.user.last_name = "mine"
    assert second.user.last_name == ""
    await leave(one, two)


async def test_the_end_of_a_session_moves_with_its_use(user: User) -> None:
    socket = await opened(user=user)
    ends = end_in(5000)
    await Session.objects.filter(pk=key_of(socket)).aupdate(expire_date=ends)
    await review()
    here = only_connection()
    assert here.expires_at is not None
    assert abs(here.expires_at - time.monotonic() - 5000) < 5
    assert here.identity is not None
    assert here.identity.expires_at == here.identity.session_expires_at == ends.timestamp()
    await leave(socket)


async def test_the_end_of_a_token_does_not_move_with_the_session(user: User) -> None:
    token = AccessToken.for_user(user)
    socket = await opened(user=user, token=str(token))
    await Session.objects.filter(pk=key_of(socket)).aupdate(expire_date=end_in(5000))
    await review()
    identity = only_connection().identity
    assert identity is not None
    assert identity.expires_at == identity.token_expires_at == token["exp"]
    await leave(socket)


async def test_who_was_warned_of_an_end_that_moved_on_is_warned_again(user: User) -> None:
    socket = await opened(user=user)
    only_connection().warned = True
    await review()
    assert only_connection().warned
    await Session.objects.filter(pk=key_of(socket)).aupdate(expire_date=end_in(5_000_000))
    await review()
    assert not only_connection().warned
    await leave(socket)


# What is judged by itself ---------------------------------------------------------------------------------------------


async def test_what_was_refreshed_during_the_look_is_judged_anew(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = await opened(user=user)
    here, look_up = only_connection(), standing.look_up

    def slow(claims: Any) -> Any:
        answers = look_up(claims)
        assert here.identity is not None
        here.identity = replace(here.identity, jti="another")
        return answers

    monkeypatch.setattr(standing, "look_up", slow)
    await delete_session(user, key_of(socket))
    await review()
    assert await ask(socket, 1) == 1
    monkeypatch.undo()
    await review()
    assert await told(socket) == ("session_ended", 4401)


async def test_looks_that_overlap_do_not_undo_each_other(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reads after the change and must not be taken for one about something else."""
    socket = await opened(Permitted, user=user)
    begun, gate, look_up = threading.Event(), threading.Event(), standing.look_up

    def slow(claims: Any) -> Any:
        answers = look_up(claims)
        begun.set()
        gate.wait(30)
        return answers

    monkeypatch.setattr(standing, "look_up", slow)
    first = asyncio.create_task(review())
    await asyncio.to_thread(begun.wait, 30)
    await delete_session(user, key_of(socket))
    second = asyncio.create_task(review())
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, second)
    assert await told(socket) == ("session_ended", 4401)


async def test_what_an_earlier_look_found_does_not_replace_what_a_later_one_did(user: User) -> None:
    socket = await opened(user=user)
    here = only_connection()
    await review()
    assert here.identity is not None
    later = here.identity
    revalidation._apply(here, later, standing.Standing(user=User(username="stale")), here.validity.read_at - 1)
    assert here.identity is later
    await leave(socket)


async def test_a_user_who_breaks_the_projects_code_harms_nobody_else(
    make_user: MakeUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd, even = await database_sync_to_async(make_user)("odd"), await database_sync_to_async(make_user)("even")
    sockets = {name: await opened(user=user) for name, user in (("odd", odd), ("even", even))}
    real = User.get_session_auth_hash

    def fail(self: User) -> str:
        if self.username == "odd":
            raise RuntimeError("told to")
        return real(self)

    monkeypatch.setattr(User, "get_session_auth_hash", fail)
    await delete_session(even, key_of(sockets["even"]))
    await review()
    assert await told(sockets["even"]) == ("session_ended", 4401)
    assert await ask(sockets["odd"], 1) == 1
    assert logged(caplog, 40) == ["revalidation.failed"]
    await leave(sockets["odd"])


# authorize() ----------------------------------------------------------------------------------------------------------


class Members(Echo):
    """For the members of a group that the path names."""

    async def authorize(self) -> bool:
        user = self.scope["user"]
        return bool(await user.groups.filter(name="staff").aexists())


async def join_staff(user: User) -> None:
    """Without a signal, which would have the sockets looked at by itself."""
    group, _ = await Group.objects.aget_or_create(name="staff")
    await sql("INSERT INTO auth_user_groups (user_id, group_id) VALUES (%s, %s)", user.pk, group.pk)


async def test_a_membership_that_is_gone_ends_the_socket(user: User) -> None:
    await join_staff(user)
    socket = await opened(Members, user=user)
    await review()
    assert await ask(socket, 1) == 1
    await sql("DELETE FROM auth_user_groups WHERE user_id = %s", user.pk)
    await review()
    assert await told(socket) == ("permission_denied", 4403)
    (closed,) = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["detail"]) == ("permission_denied", "authorize")


async def test_a_class_may_be_asked_once_only(user: User) -> None:
    class Once(Members):
        reauthorize = False

    await join_staff(user)
    socket = await opened(Once, user=user)
    await sql("DELETE FROM auth_user_groups WHERE user_id = %s", user.pk)
    await review()
    assert await ask(socket, 1) == 1
    await leave(socket)


async def test_the_caller_may_leave_authorize_out(user: User) -> None:
    await join_staff(user)
    socket = await opened(Members, user=user)
    await sql("DELETE FROM auth_user_groups WHERE user_id = %s", user.pk)
    await revalidate(registry(), authorize=False)
    assert await ask(socket, 1) == 1
    await leave(socket)


class Gated(Echo):
    """Lets in while its gate says so."""

    answers: list[Any] = []
    running: list[str] = []
    gate: asyncio.Event

    async def authorize(self) -> bool:
        self.running.append("authorize")
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return bool(answer)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.running.append("begins")
        await self.send_json("begun")
        await self.gate.wait()
        self.running.append("ends")


@pytest.fixture
def gated() -> type[Gated]:
    class Fresh(Gated):
        answers = [True]
        running: list[str] = []
        gate = asyncio.Event()

    return Fresh


async def test_nobody_is_asked_in_the_middle_of_a_handler(gated: type[Gated]) -> None:
    gated.answers.append(False)
    socket = await opened(gated)
    assert await ask(socket, 1) == "begun"
    looking = asyncio.create_task(review())
    summoned = only_connection().validity
    await until(lambda: summoned.asked is not None)
    assert gated.running == ["authorize", "begins"]
    gated.gate.set()
    assert await told(socket) == ("permission_denied", 4403)
    assert gated.running == ["authorize", "begins", "ends", "authorize"]
    await looking


async def test_a_handler_that_runs_on_does_not_hold_up_the_others(gated: type[Gated], user: User) -> None:
    gated.answers += [True, True]
    socket = await opened(gated)
    assert await ask(socket, 1) == "begun"
    other = await opened(user=user)
    await delete_session(user, key_of(other))
    began = time.monotonic()
    await review()
    assert await told(other) == ("session_ended", 4401)
    assert time.monotonic() - began < 4
    gated.gate.set()
    await until(lambda: len(gated.answers) == 1)
    await leave(socket)


async def test_a_flood_of_events_does_not_push_the_question_out(gated: type[Gated]) -> None:
    gated.answers.append(False)
    socket = await opened(gated)
    assert await ask(socket, 1) == "begun"
    summon: Any = only_connection().validity.summon
    inbox = summon.func.__self__
    looking = asyncio.create_task(review())
    await until(lambda: only_connection().validity.asked is not None)
    for _ in range(300):
        inbox.put({"type": "unheard.of"})
    gated.gate.set()
    assert await told(socket) == ("permission_denied", 4403)
    await looking


async def test_questions_that_come_together_are_asked_once(gated: type[Gated]) -> None:
    gated.answers += [True, True, True]
    socket = await opened(gated)
    gated.gate.set()
    await asyncio.gather(review(), review(), review())
    asked = gated.running.count("authorize")
    assert 2 <= asked <= 4
    assert await ask(socket, 1) == "begun"
    await leave(socket)


async def test_authorize_that_raises_ends_the_socket(gated: type[Gated], caplog: pytest.LogCaptureFixture) -> None:
    gated.answers.append(RuntimeError("told to"))
    socket = await opened(gated)
    await review()
    assert await told(socket) == ("internal_error", 4500)
    assert "application.failed" in logged(caplog)


async def test_authorize_may_name_a_reason(gated: type[Gated]) -> None:
    gated.answers.append(Denied("blocked", "Your club has closed."))
    socket = await opened(gated)
    await review()
    assert await told(socket) == ("blocked", 4423)


async def test_a_database_that_is_away_is_no_answer(gated: type[Gated]) -> None:
    gated.answers += [OperationalError("told to"), False]
    socket = await opened(gated)
    gated.gate.set()
    await review()
    assert await ask(socket, 1) == "begun"
    await review()
    assert await told(socket) == ("permission_denied", 4403)


async def test_authorize_is_under_the_deadline_for_handlers(gated: type[Gated], settings: Any) -> None:
    settings.CHANNELS_SECURE = {"HANDLER_TIMEOUT": 0.05, "POLICY_REFRESH_INTERVAL": 0.01}
    hung = asyncio.Event()

    class Hanging(Echo):
        entered = False

        async def authorize(self) -> bool:
            if not Hanging.entered:
                Hanging.entered = True
                return True
            return await hung.wait()

    socket = await opened(Hanging)
    looking = asyncio.create_task(review())
    assert await told(socket) == ("handler_timeout", 4500)
    await looking


async def test_a_consumer_that_ends_while_it_is_asked_keeps_nobody_waiting(gated: type[Gated]) -> None:
    gated.answers.append(True)
    socket = await opened(gated)
    assert await ask(socket, 1) == "begun"
    validity = only_connection().validity
    looking = asyncio.create_task(review())
    await until(lambda: validity.asked is not None)
    asked = validity.asked
    only_connection().stop()
    await until(lambda: len(registry()) == 0)
    assert asked is not None
    assert asked.done()
    await looking
    await socket.wait()


async def test_a_handshake_that_is_under_way_is_not_disturbed(user: User) -> None:
    """Its user keeps being the one that its consumer will compare."""
    entered, gate = asyncio.Event(), asyncio.Event()

    class Slow(Members):
        async def authorize(self) -> bool:
            entered.set()
            await gate.wait()
            return await super().authorize()

    await join_staff(user)
    socket = connect(Slow, user=user)
    shaking = asyncio.create_task(socket.shake_hands())
    await entered.wait()
    looking = asyncio.create_task(review())
    await until(lambda: only_connection().validity.asked is not None)
    gate.set()
    assert (await shaking).accepted
    await looking
    assert await ask(socket, 1) == 1
    await leave(socket)


async def test_what_has_ended_is_not_looked_at(user: User) -> None:
    socket = await opened(user=user)
    here: Connection = only_connection()
    await leave(socket)
    await delete_user(user, "")
    await revalidate([here])
    assert here.denial is None
