"""Decisions that took long to commit, were rolled back and made again, or met a database that was away for a moment."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import logout
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, transaction
from django.test import RequestFactory
from django.utils import timezone

from channels_secure import blocklist, revocation
from channels_secure.auth import standing
from channels_secure.connections import arecheck, registry
from channels_secure.models import PolicyVersion, Revocation, policy_change
from channels_secure.revocation.rows import insert
from channels_secure.supervisor import revalidation
from channels_secure.supervisor.enforcing import Rechecks
from channels_secure.testing import SecureCommunicator
from tests import test_change_races
from tests.auth.tokens import token_for
from tests.conftest import MakeUser
from tests.sockets import PATIENCE, Echo, ask, connect, quiet, swept, told, until  # noqa: F401
from tests.test_receivers import made
from tests.test_revocation import in_thread
from tests.test_rounds import Peer, end_all, peers_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

# Nobody looks by himself: what is found was told.
SLOW = {"POLICY_REFRESH_INTERVAL": 600.0, "AUDIT_FLUSH_INTERVAL": 0.05, "HANDSHAKE_TIMEOUT": 30}


async def end_of(socket: SecureCommunicator) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await told(socket)


async def opened(**options: Any) -> SecureCommunicator:
    socket = connect(Echo, **options)
    assert (await socket.shake_hands()).accepted
    return socket


# Long transactions, and clocks that are apart -------------------------------------------------------------------------


def revoke(kind: str, subject: str) -> Callable[[], None]:
    """What a transaction that has lasted for a minute commits now; so does a machine whose clock is a minute late."""

    def act() -> None:
        with policy_change() as using:
            insert(Revocation.Kind(kind), [subject], "credentials_revoked", using=using)
            Revocation.objects.using(using).update(not_before=timezone.now() - timedelta(minutes=1))

    return act


@pytest.mark.parametrize("kind", ["jti", "user"])
async def test_a_token_that_was_revoked_in_a_long_transaction_loses_the_sockets_opened_meanwhile(
    user: User, settings: Any, kind: str
) -> None:
    settings.CHANNELS_SECURE = SLOW
    issued = int(timezone.now().timestamp()) - 300
    bystander = await opened(client="198.51.100.7")
    # The snapshot is older than this socket, and the row says a moment before both.
    socket = await opened(token=token_for(user, jti="leaked", iat=issued), origin=None)
    await in_thread(revoke(kind, {"jti": "leaked", "user": str(user.pk)}[kind]))
    await until(lambda: len(registry()) == 1)
    assert await end_of(socket) == ("credentials_revoked", 4401)
    assert await ask(bystander, 1) == 1
    await bystander.disconnect()


# Transactions that are tried again ------------------------------------------------------------------------------------


async def save_twice(user: User) -> None:
    """A deadlock, say, rolls the first try back; the project tries again with the same object."""

    def act() -> None:
        person = User.objects.get(pk=user.pk)
        person.is_active = False
        try:
            with transaction.atomic():
                person.save()
                raise OperationalError("deadlock detected")
        except OperationalError:
            person.save()

    await in_thread(act)


async def test_who_is_deactivated_at_the_second_try_is_out(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = SLOW
    socket = await opened(user=user)
    await save_twice(user)
    assert await in_thread(made) == [("user", str(user.pk), "recheck")]
    assert await end_of(socket) == ("session_ended", 4401)


def test_what_one_transaction_saves_twice_is_one_change_and_later_saves_are_none(user: User) -> None:
    person = User.objects.get(pk=user.pk)
    person.is_active = False
    with transaction.atomic():
        person.save()
        with transaction.atomic():
            person.is_staff = True
            person.save()
    person.save()
    assert set(made()) == {("user", str(user.pk), "recheck")}
    count = len(made())
    person.save()
    assert len(made()) == count


# Rechecks that cannot be made ----------------------------------------------------------------------------------------


async def test_who_could_not_be_looked_up_in_the_handshake_is_looked_up_soon_after(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELS_SECURE = {**SLOW, "AUTHENTICATORS": ["tests.test_change_races.Pausing"]}
    gate = test_change_races.Gate()
    monkeypatch.setattr(test_change_races, "gate", gate, raising=False)
    bystander, socket = await opened(client="198.51.100.7"), connect(Echo, user=user)
    gate.is_shut = True
    shaking = asyncio.ensure_future(socket.shake_hands())
    await gate.judged.wait()
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    await arecheck(user=user)
    await blocklist.refresh(full=True)
    await swept()
    look_up, tries = standing.look_up, []

    def fail_once(claims: Any) -> Any:
        tries.append(claims)
        if len(tries) == 1:
            raise OperationalError("the connection was lost")
        return look_up(claims)

    monkeypatch.setattr(standing, "look_up", fail_once)
    gate.opened.set()
    assert (await shaking).accepted
    assert await end_of(socket) == ("session_ended", 4401)
    await bystander.disconnect()


async def test_a_decision_waits_for_no_consumer_that_is_busy(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revalidation, "PATIENCE", 3600.0)
    busy, victim = await peers_of(2)
    # Its handler runs on, and nobody asks its `authorize()` before that has returned.
    busy.connection.validity.summon = lambda: None
    rechecks = Rechecks()
    rechecks.add([busy.connection])
    going = asyncio.ensure_future(rechecks.go())
    await until(lambda: busy.connection.validity.asked is not None)
    await User.objects.filter(pk=victim.connection.user_key).aupdate(is_active=False)
    rechecks.add([victim.connection])
    if going.done():
        going = asyncio.ensure_future(rechecks.go())
    await until(lambda: victim.connection.ended)
    assert busy.connection.validity.asked is not None
    busy.connection.validity.let_go()
    await going
    await end_all([busy, victim])


# Changes that nobody needs --------------------------------------------------------------------------------------------


def test_whoever_is_not_logged_in_makes_no_change_of_policy_by_logging_out(user: User) -> None:
    session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    session["basket"] = ["tea"]
    session.save()
    request: Any = RequestFactory().post("/")
    request.session, request.user = session, AnonymousUser()
    before = PolicyVersion.current("default")
    logout(request)
    assert made() == []
    assert PolicyVersion.current("default") == before


def test_who_did_it_is_cut_to_what_the_column_holds(make_user: MakeUser) -> None:
    with policy_change() as using:
        insert(Revocation.Kind.CONNECTION, ["c"], "disconnected", using=using, by="task\0" + "x" * 5000)
    row = Revocation.objects.get()
    assert len(row.actor) <= (Revocation._meta.get_field("actor").max_length or 0)
    assert "\0" not in row.actor


# One session that cannot be read --------------------------------------------------------------------------------------


class Thing:
    """Of a class that this process cannot read, as while a new version is being rolled out."""

    def __setstate__(self, state: Any) -> None:
        raise AttributeError("Can't get attribute 'Thing'")


async def test_a_session_that_cannot_be_read_keeps_nobody_else_from_being_judged(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "late"}}
    peers = await peers_of(20)
    odd, gone = peers[7], peers[11]

    def spoil(peer: Peer) -> None:
        store = import_module(django_settings.SESSION_ENGINE).SessionStore(peer.connection.identity.session_key)  # type: ignore[union-attr]
        thing = Thing()
        thing.__dict__["state"] = 1
        store["thing"] = thing
        store.save()

    await in_thread(lambda: spoil(odd))
    await User.objects.filter(pk=gone.connection.user_key).aupdate(is_active=False)
    await revalidation.revalidate(peer.connection for peer in peers)
    assert [peer for peer in peers if peer.connection.ended] == [gone]
    assert [peer for peer in peers if peer.connection.validity.urgent] == [odd]
    await end_all(peers)


async def test_a_cache_that_is_away_is_not_asked_for_each(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "late"}}
    from django.core.cache.backends.locmem import LocMemCache

    peers = await peers_of(20)
    asked: list[Any] = []

    def refuse(self: Any, keys: Any, version: Any = None) -> Any:
        asked.append(keys)
        raise ConnectionError("the cache is away")

    monkeypatch.setattr(LocMemCache, "get_many", refuse)
    await revalidation.revalidate(peer.connection for peer in peers)
    assert len(asked) < 6
    assert not any(peer.connection.ended for peer in peers)
    await end_all(peers)


# Several tokens at once -----------------------------------------------------------------------------------------------


def two_tokens(user: User) -> tuple[dict[str, str], SecureCommunicator]:
    tokens = {jti: token_for(user, jti=jti) for jti in ("header", "cookie")}
    socket = connect(Echo, token=tokens["header"])
    socket.cookies = {"access_token": tokens["cookie"]}
    return tokens, socket


@pytest.mark.parametrize("where", ["header", "cookie"])
async def test_each_of_several_tokens_ends_the_socket_when_it_is_revoked(user: User, settings: Any, where: str) -> None:
    settings.CHANNELS_SECURE = {"TOKEN_SOURCES": ["subprotocol", "header", "cookie"]}
    tokens, socket = two_tokens(user)
    assert (await socket.shake_hands()).accepted
    await revocation.arevoke_token(tokens[where])
    assert await end_of(socket) == ("credentials_revoked", 4401)


@pytest.mark.parametrize(("where", "enters"), [("header", False), ("cookie", True)])
async def test_a_revoked_token_in_a_cookie_counts_as_absent_and_one_in_the_header_does_not(
    user: User, settings: Any, where: str, enters: bool
) -> None:
    settings.CHANNELS_SECURE = {"TOKEN_SOURCES": ["subprotocol", "header", "cookie"]}
    tokens, socket = two_tokens(user)
    await revocation.arevoke_token(tokens[where])
    await blocklist.refresh()
    assert (await socket.shake_hands()).accepted is enters
    if enters:
        await revocation.arevoke_token(tokens["header"])
        assert await end_of(socket) == ("credentials_revoked", 4401)
