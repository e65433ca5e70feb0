"""Changes that land while a handshake is under way: between the decision and the registration there is no gap.

The races are forced: the credential has been judged good, the change is committed, and only then the handshake goes on.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from channels_secure import admission, blocklist, database, revocation, supervisor
from channels_secure.auth.base import Identity
from channels_secure.auth.jwt import JWTAuthenticator
from channels_secure.auth.session import SessionAuthenticator
from channels_secure.connections import adisconnect, arecheck, registry
from channels_secure.models import Revocation
from channels_secure.policy.decisions import Denial
from channels_secure.policy.handshake import Handshake
from channels_secure.supervisor import enforcing
from channels_secure.supervisor.enforcing import Enforcement
from channels_secure.testing import SecureCommunicator
from tests.auth.tokens import token_for
from tests.sockets import Echo, ask, connect, quiet, swept, until  # noqa: F401
from tests.test_receivers import request_of
from tests.test_revocation import in_thread, unannounced

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

# Nobody looks by himself in these tests: what is found is found by the handshake, or was told.
SLOW = {"POLICY_REFRESH_INTERVAL": 600.0, "AUDIT_FLUSH_INTERVAL": 0.05, "HANDSHAKE_TIMEOUT": 30}
FREE = {"HANDSHAKE_RATES": {"ip": None, "user": None}, "MAX_CONNECTIONS": {"ip": None, "user": None}}


class Gate:
    """Where handshakes wait after their credentials have been judged."""

    def __init__(self) -> None:
        self.is_shut = False
        self.judged = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        if self.is_shut:
            self.judged.set()
            await self.opened.wait()


gate: Gate


class Pausing:
    """Judges as the package does, and goes on when the gate opens."""

    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None:
        for inner in (SessionAuthenticator(), JWTAuthenticator()):
            answer = await inner.authenticate(handshake)
            if answer is not None:
                await gate.wait()
                return answer
        return None


@pytest.fixture(autouse=True)
async def shut(settings: Any) -> None:
    global gate
    gate = Gate()
    settings.CHANNELS_SECURE = {**SLOW, **FREE, "AUTHENTICATORS": ["tests.test_change_races.Pausing"]}


Change = Callable[[SecureCommunicator, User], Awaitable[Any]]


async def log_out(socket: SecureCommunicator, user: User) -> None:
    from django.contrib.auth import logout

    await in_thread(lambda: logout(request_of(socket, user)))


async def deactivate(socket: SecureCommunicator, user: User) -> None:
    user.is_active = False
    await in_thread(user.save)


async def delete(socket: SecureCommunicator, user: User) -> None:
    await in_thread(User.objects.filter(pk=user.pk).delete)


async def recheck(socket: SecureCommunicator, user: User) -> None:
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    await arecheck(user=user)


CHANGES: dict[str, Change] = {
    "block": lambda socket, user: blocklist.ablock(user=user),
    "block of the address": lambda socket, user: blocklist.ablock(network="192.0.2.1"),
    "logout": log_out,
    "token": lambda socket, user: revocation.arevoke_jti("the token"),
    "all tokens": lambda socket, user: revocation.arevoke_user_tokens(user),
    "disconnect": lambda socket, user: adisconnect(user=user),
    "disconnect of the address": lambda socket, user: adisconnect(ip="192.0.2.0/24"),
    "deactivated": deactivate,
    "deleted": delete,
    "recheck": recheck,
}
BY_TOKEN = {"token", "all tokens"}


async def client(change: str, user: User) -> SecureCommunicator:
    """Somebody whose credential is about to be taken away, with a session made in time."""
    if change in BY_TOKEN:
        return connect(Echo, token=token_for(user, jti="the token"), origin=None)
    from channels_secure import database
    from channels_secure.testing import log_in

    return connect(Echo, cookies={"sessionid": await database.run(log_in, user)})


@asynccontextmanager
async def bystander() -> AsyncIterator[SecureCommunicator]:
    """Keeps the supervisor at work, and must not notice anything."""
    async with connect(Echo, client="198.51.100.7") as socket:
        yield socket
        assert await ask(socket, "here") == "here"


@pytest.mark.parametrize("applied", [False, True], ids=["not known yet", "applied already"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_between_the_decision_and_the_registration_keeps_the_socket_out(
    user: User, change: str, applied: bool
) -> None:
    socket = await client(change, user)
    async with bystander():
        gate.is_shut = True
        shaking = asyncio.ensure_future(socket.shake_hands())
        await gate.judged.wait()
        if applied:
            # Every open socket has been dealt with before this one registers.
            await CHANGES[change](socket, user)
            await until(lambda: len(registry()) == 1)
            await applied_here()
        else:
            # Another process did it, and nobody here will look before the handshake goes on.
            with unannounced():
                await CHANGES[change](socket, user)
        gate.opened.set()
        outcome = await shaking
        if not applied:
            # Registered, and found at the first look after it, if not by the handshake.
            supervisor.current().policy_is_due()
        assert not outcome.accepted or await ends(socket)
        if applied and change in {*BY_TOKEN, "logout", "deleted"}:
            # Nobody learns whether it was taken away or never good.
            assert outcome.error["code"] == "invalid_credentials"
    assert len(registry()) == 0


async def applied_here() -> None:
    """What has been committed is in force here, and whoever is registered has been dealt with."""
    await blocklist.refresh(full=True)
    await swept()
    await until(lambda: not supervisor.current()._enforcement.is_due)


async def ends(socket: SecureCommunicator) -> bool:
    """Whether the socket is closed for a reason, soon."""
    frame = await socket.receive_json_from()
    await socket.closing()
    return bool(frame["fatal"])


@pytest.mark.parametrize("change", ["block", "logout", "all tokens", "disconnect"])
async def test_checking_first_and_registering_later_lets_it_escape(
    user: User, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same race, against an order that has the gap."""

    async def check_then_register(connection: Any) -> Denial | None:
        registry().discard(connection)
        denial = await real(connection)
        await gate.wait()
        registry().add(connection)
        return denial

    real = admission.confirm
    monkeypatch.setattr(admission, "confirm", check_then_register)
    socket = await client(change, user)
    async with bystander():
        original, judged = gate.wait, []
        gate.is_shut = True

        async def second_time() -> None:
            judged.append(True)
            if len(judged) > 1:
                await original()

        monkeypatch.setattr(gate, "wait", second_time)
        shaking = asyncio.ensure_future(socket.shake_hands())
        await gate.judged.wait()
        await CHANGES[change](socket, user)
        await applied_here()
        gate.opened.set()
        assert (await shaking).accepted
        await swept()
        assert await ask(socket, "escaped") == "escaped"
        await socket.disconnect()


class Held:
    """The supervisor's search, which waits in each pause after the first until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.released = asyncio.Event(), asyncio.Event()
        real = Enforcement.go

        async def go(enforcement: Enforcement) -> None:
            going, pauses = real(enforcement), 0
            with suppress(StopIteration):
                while True:
                    going.send(None)
                    pauses += 1
                    if pauses > 1:
                        self.reached.set()
                        await self.released.wait()

        monkeypatch.setattr(enforcing, "STRETCH", 1)
        monkeypatch.setattr(Enforcement, "go", go)


@pytest.mark.parametrize("change", ["block of the address", "disconnect of the address"])
@pytest.mark.parametrize("checks", [True, False], ids=["", "the control"])
async def test_who_registers_while_a_search_has_paused_finds_the_change_himself(
    user: User, change: str, checks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_nothing(connection: Any) -> None:
        return None

    if not checks:
        monkeypatch.setattr(admission, "confirm", find_nothing)
    held = Held(monkeypatch)
    socket = await client(change, user)
    async with bystander(), connect(Echo, client="198.51.100.8"):
        gate.is_shut = True
        shaking = asyncio.ensure_future(socket.shake_hands())
        await gate.judged.wait()
        await CHANGES[change](socket, user)
        await until(held.reached.is_set)
        gate.opened.set()
        outcome = await shaking
        held.released.set()
        await applied_here()
        assert outcome.accepted is not checks
        assert len(registry()) == (2 if checks else 3)
    await socket.disconnect()


@pytest.mark.parametrize("change", ["block of the address", "disconnect of the address"])
async def test_who_has_registered_before_a_search_is_found_by_it(
    user: User, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with bystander():
        socket = await client(change, user)
        assert (await socket.shake_hands()).accepted
        await CHANGES[change](socket, user)
        # One stretch has been looked at, and its socket is another's.
        await until(held.reached.is_set)
        assert await ask(socket, 1) == 1
        held.released.set()
        assert await ends(socket)


async def test_a_thousand_handshakes_race_a_block_and_none_escapes(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = {**settings.CHANNELS_SECURE, "POLICY_REFRESH_INTERVAL": 1.0}
    chance = random.Random(4)
    token = token_for(user)

    async def knock() -> tuple[SecureCommunicator, bool]:
        socket = connect(Echo, token=token, origin=None)
        await asyncio.sleep(chance.random() * 0.5)
        return socket, (await socket.shake_hands(60)).accepted

    async with bystander():
        knocking = [asyncio.ensure_future(knock()) for _ in range(1000)]
        await until(lambda: len(registry()) > 20)
        await blocklist.ablock(user=user)
        outcomes = await asyncio.gather(*knocking)
        let_in = [socket for socket, accepted in outcomes if accepted]
        # Somebody was let in before, and somebody was refused after: it was a race.
        assert 0 < len(let_in) < 1000
        for socket in let_in:
            assert await ends(socket)
        assert len(registry()) == 1


async def test_a_row_that_is_committed_late_is_found_though_its_id_is_lower(user: User) -> None:
    """Ids are given out before the commit, so that whoever asks for those above the last one misses some."""
    async with connect(Echo, user=user, origin="https://testserver") as early:
        end = timezone.now() + timedelta(hours=1)
        facts: dict[str, Any] = {"reason": "disconnected", "expires_at": end, "kind": "user"}
        await Revocation.objects.acreate(id=1000, subject="0", **facts)
        await blocklist.refresh(full=True)
        last = max(blocklist.current().revoked.changes)  # type: ignore[union-attr]
        await Revocation.objects.acreate(id=999, subject=str(user.pk), **facts)
        # The control.
        assert not await Revocation.objects.filter(id__gt=last).aexists()
        await database.run(count_a_change)
        assert await ends(early)


def count_a_change() -> None:
    from django.db import connection

    from channels_secure.models import policy_change

    with policy_change():
        pass
    connection.close()


async def test_who_connects_after_a_disconnect_was_applied_is_not_asked_to_go(user: User) -> None:
    async with bystander():
        await adisconnect(user=user)
        await applied_here()
        began = time.monotonic()
        async with connect(Echo, user=user) as socket:
            assert await ask(socket, 1) == 1
        assert time.monotonic() - began < 30
