"""The rounds of re-validation: who is looked up when, with how many queries, and what happens without a store."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError
from django.utils import timezone

from channels_secure.auth import standing
from channels_secure.auth.base import Identity
from channels_secure.conf import get_settings
from channels_secure.connections import registry
from channels_secure.supervisor import revalidation, rounds
from channels_secure.supervisor.revalidation import revalidate
from channels_secure.supervisor.rounds import Rounds
from tests.auth.conftest import queries  # noqa: F401
from tests.sockets import ask, kinds, logged, only_connection, quiet, rows, swept, told, until  # noqa: F401
from tests.standins import scope_of, stand_in
from tests.test_revalidation import Gated, delete_session, end_in, expire_session, gated, key_of, leave, opened  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

BRISK = {"POLICY_REFRESH_INTERVAL": 0.02, "AUDIT_FLUSH_INTERVAL": 0.02}


# Sockets by the thousand ----------------------------------------------------------------------------------------------


def log_in(user: User) -> str:
    session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


@database_sync_to_async
def crowd(count: int) -> list[tuple[User, str]]:
    users = User.objects.bulk_create([User(username=f"user{number}", password="x") for number in range(count)])
    return [(user, log_in(user)) for user in users]


class Peer:
    """The other end of a connection that no handshake has made: what is sent to it."""

    def __init__(self, user: User, key: str | None) -> None:
        self.sent: list[Any] = []

        async def send(event: Any) -> None:
            self.sent.append(event)

        identity = Identity(user=user, kind="session", session_key=key, session_expires_at=None)
        # `sever` cancels the task.
        task = asyncio.create_task(asyncio.Event().wait())
        self.connection = stand_in(scope_of(), send, identity, task=task)

    async def end(self) -> None:
        self.connection.stop()
        await asyncio.wait({self.connection.task})
        if self.connection.goodbye is not None:
            await self.connection.goodbye


async def peers_of(count: int) -> list[Peer]:
    return [Peer(user, key) for user, key in await crowd(count)]


async def end_all(peers: list[Peer]) -> None:
    for peer in peers:
        await peer.end()


def statements(seen: list[str], table: str) -> list[str]:
    return [sql for sql in seen if f'FROM "{table}"' in sql]


async def test_a_thousand_users_are_two_queries_for_users_and_two_for_sessions(queries: list[str]) -> None:  # noqa: F811
    peers = await peers_of(1000)
    gone = peers[700]
    await Session.objects.filter(pk=gone.connection.identity.session_key).adelete()  # type: ignore[union-attr]
    queries.clear()
    await revalidate(peer.connection for peer in peers)
    assert (len(statements(queries, "auth_user")), len(statements(queries, "django_session"))) == (2, 2)
    assert len(queries) == 4
    assert [peer for peer in peers if peer.connection.ended] == [gone]
    await end_all(peers)


async def test_sessions_in_the_cache_are_asked_for_together(
    settings: Any,
    queries: list[str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 10_000}}
    }
    peers = await peers_of(1000)
    gone = peers[3]
    await database_sync_to_async(cache.delete)(
        f"django.contrib.sessions.cache{gone.connection.identity.session_key}"  # type: ignore[union-attr]
    )
    asked: list[int] = []
    get_many = LocMemCache.get_many

    def count(self: Any, keys: Any, version: Any = None) -> Any:
        asked.append(len(keys))
        return get_many(self, keys, version)

    monkeypatch.setattr(LocMemCache, "get_many", count)
    queries.clear()
    await revalidate(peer.connection for peer in peers)
    assert asked == [500, 500]
    assert len(queries) == 2
    assert [peer for peer in peers if peer.connection.ended] == [gone]
    await end_all(peers)
    cache.clear()


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
async def test_every_engine_is_looked_at(
    engine: str, user: User, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    monkeypatch.setattr(FileStore, "_storage_path", str(tmp_path), raising=False)
    stays, goes = await opened(user=user), await opened(user=user)
    await revalidate(registry())
    assert await ask(goes, 1) == 1
    if engine == "signed_cookies":
        # Such a session cannot be taken back; a new password ends it, and all others of the user.
        await leave(stays)
        await User.objects.filter(pk=user.pk).aupdate(password="new")
    else:
        store = import_module(settings.SESSION_ENGINE).SessionStore
        await database_sync_to_async(lambda: store().delete(key_of(goes)))()
    await revalidate(registry())
    assert await told(goes) == ("session_ended", 4401)
    if engine != "signed_cookies":
        assert await ask(stays, 1) == 1
        await leave(stays)
    cache.clear()


async def test_a_row_that_is_gone_counts_though_the_cache_still_has_it(user: User, settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    socket = await opened(user=user)
    await delete_session(user, key_of(socket))
    await revalidate(registry())
    assert await told(socket) == ("session_ended", 4401)
    cache.clear()


async def test_an_engine_that_loads_in_its_own_way_is_asked_for_each(user: User, settings: Any) -> None:
    settings.SESSION_ENGINE = "tests.odd_sessions"
    assert standing.batch_size() == standing.SINGLY
    one, other = await opened(user=user), await opened(user=user)
    await Session.objects.filter(pk=key_of(one)).aupdate(expire_date=timezone.now() + timedelta(days=400))
    await revalidate(registry())
    # It takes such sessions for stolen ones.
    assert await told(one) == ("session_ended", 4401)
    assert await ask(other, 1) == 1
    await leave(other)


# When -----------------------------------------------------------------------------------------------------------------


async def test_looks_are_spread_over_the_interval_and_none_is_late() -> None:
    peers = [Peer(User(pk=number), None) for number in range(1, 2001)]
    first = []
    for peer in peers:
        revalidation.schedule(peer.connection, 1000.0)
        assert peer.connection.validity.due_at is not None
        first.append(peer.connection.validity.due_at - 1000)
    interval = get_settings().revalidate_interval
    gathered = interval * (1 - rounds.GATHERING)
    assert min(first) > 0
    assert max(first) <= gathered
    # Every tenth of the interval has a share of the first looks.
    tenths = [sum(tenth <= 10 * share / interval < tenth + 1 for share in first) for tenth in range(10)]
    assert min(tenths) > 50
    later = []
    for peer in peers:
        revalidation.schedule(peer.connection, 2000.0)
        later.append(peer.connection.validity.due_at - 2000)  # type: ignore[operator]
    assert interval * 0.6 < min(later) < interval * 0.7
    assert interval * 0.9 < max(later) <= gathered
    await end_all(peers)


async def test_the_due_wait_for_each_other_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(User(pk=1), None)
    patience = rounds.GATHERING * get_settings().revalidate_interval
    peer.connection.validity.due_at = 100.0
    assert not rounds.is_due(peer.connection, 99.0)
    assert not rounds.is_time([peer.connection], 100.0 + patience - 1)
    assert rounds.is_time([peer.connection], 100.0 + patience)
    assert rounds.is_time([peer.connection] * 500, 100.0)
    # Whose look has failed, or was asked for, waits for nobody.
    revalidation.hurry([peer.connection])
    assert peer.connection.validity.due_at == 100.0
    assert rounds.is_time([peer.connection], 100.0)
    revalidation.schedule(peer.connection, 100.0)
    peer.connection.validity.due_at = 100.0
    assert not rounds.is_time([peer.connection], 100.0)
    # The end of a session that may have been used is looked at when it comes.
    peer.connection.expires_at = 99.0
    assert rounds.is_time([peer.connection], 99.0)
    await peer.end()


async def test_the_supervisor_goes_its_rounds_by_itself(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.1}
    socket, other = await opened(user=user), await opened(user=user)
    await delete_session(user, key_of(socket))
    assert await told(socket) == ("session_ended", 4401)
    await leave(other)


async def test_authorize_is_asked_on_the_rounds(gated: type[Gated], settings: Any) -> None:  # noqa: F811
    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.1}
    gated.answers += [True, True, False]
    socket = await opened(gated)
    assert await told(socket) == ("permission_denied", 4403)
    assert gated.running == ["authorize"] * 4


# The end of a session -------------------------------------------------------------------------------------------------


async def test_a_session_that_ends_closes_its_socket_then(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = BRISK
    socket = await opened(user=user)
    await Session.objects.filter(pk=key_of(socket)).aupdate(expire_date=end_in(0.05))
    only_connection().expires_at = time.monotonic() + 0.05
    assert await told(socket) == ("session_ended", 4401)


async def test_a_session_that_was_used_meanwhile_lives_on(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = BRISK
    socket = await opened(user=user)
    here = only_connection()
    assert here.expires_at is not None
    here.expires_at = time.monotonic()
    await until(lambda: here.expires_at is not None and here.expires_at > time.monotonic() + 1000)
    assert await ask(socket, 1) == 1
    await leave(socket)


async def test_a_session_whose_end_cannot_be_looked_at_is_given_up_after_the_grace(
    user: User, settings: Any, away: Callable[[], None]
) -> None:
    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.4, "REVALIDATE_GRACE": 0.3}
    socket = await opened(user=user)
    away()
    only_connection().expires_at = began = time.monotonic()
    assert await told(socket) == ("unavailable", 4503)
    assert time.monotonic() - began > 0.3


async def test_the_end_of_a_token_needs_no_look(user: User, settings: Any, away: Callable[[], None]) -> None:
    settings.CHANNELS_SECURE = BRISK
    socket = await opened(user=user)
    here = only_connection()
    assert here.identity is not None
    here.identity = replace(here.identity, session_expires_at=None)
    away()
    here.expires_at = time.monotonic()
    assert await told(socket) == ("credentials_expired", 4419)


# Without a store ------------------------------------------------------------------------------------------------------


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Take the database away from re-validation."""

    def fail(claims: Any) -> Any:
        raise OperationalError("told to")

    return lambda: monkeypatch.setattr(standing, "look_up", fail)


async def test_without_the_database_sockets_stay_for_the_grace_and_are_told(
    user: User, settings: Any, away: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.1, "REVALIDATE_GRACE": 0.5}
    socket = await opened(user=user)
    away()
    began = time.monotonic()
    assert await told(socket) == ("unavailable", 4503)
    assert time.monotonic() - began >= 0.5
    assert logged(caplog, logging.ERROR) == ["revalidation.failed"]
    assert [row.detail for row in await rows(kind="store.degraded")] == [{"store": "database"}]
    (closed,) = await rows(kind="connection.closed")
    assert closed.detail["detail"] == "could not be re-validated"


async def test_a_database_that_comes_back_in_time_costs_nobody_a_socket(
    user: User, settings: Any, away: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.1, "REVALIDATE_GRACE": 60}
    socket, other = await opened(user=user), await opened(user=user)
    away()
    while "store.degraded" not in await kinds():
        await asyncio.sleep(0)
    monkeypatch.undo()
    await delete_session(user, key_of(other))
    assert await told(other) == ("session_ended", 4401)
    while "store.recovered" not in await kinds():
        await asyncio.sleep(0)
    assert await ask(socket, 1) == 1
    for _ in range(3):
        await swept()
        await rows()
    await leave(socket)
    told_of = [row.count for kind in ("store.degraded", "store.recovered") for row in await rows(kind=kind)]
    assert told_of == [1, 1]


async def test_an_authorize_that_gets_no_answer_is_given_up_as_well(
    gated: type[Gated],  # noqa: F811
    settings: Any,
) -> None:
    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.1, "REVALIDATE_GRACE": 0.5}
    gated.answers += [OperationalError("told to")] * 1000
    began = time.monotonic()
    socket = await opened(gated)
    assert await told(socket) == ("unavailable", 4503)
    assert time.monotonic() - began > 0.5
    assert len(await rows(kind="store.degraded")) == 1


async def test_sessions_that_are_away_concern_only_those_who_came_with_one(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(keys: Any) -> Any:
        raise ConnectionError("told to")

    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.1, "REVALIDATE_GRACE": 1.0}
    with_token = await opened(token=await token_of(user), origin=None)
    with_session = await opened(user=user)
    # Were it given up, the token's would be the first.
    monkeypatch.setattr(rounds, "place_of", lambda each: 1.0 if each.session_digest else 0.0)
    monkeypatch.setattr(standing, "look_up_sessions", fail)
    assert await told(with_session) == ("unavailable", 4503)
    assert await ask(with_token, 1) == 1
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    assert await told(with_token) == ("session_ended", 4401)


@database_sync_to_async
def token_of(user: User) -> str:
    from rest_framework_simplejwt.tokens import AccessToken

    return str(AccessToken.for_user(user))


async def test_a_look_that_hangs_holds_nobody_up_and_is_not_begun_again(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), []

    def hang(claims: Any) -> Any:
        entered.append(1)
        gate.wait(30)
        raise OperationalError("told to")

    monkeypatch.setattr(rounds, "PATIENCE", 0.1)
    settings.CHANNELS_SECURE = {**BRISK, "REVALIDATE_INTERVAL": 0.1, "REVALIDATE_GRACE": 1.0}
    socket = await opened(user=user)
    monkeypatch.setattr(standing, "look_up", hang)
    try:
        while not entered:
            await asyncio.sleep(0)
        # Meanwhile others are served, and handshakes look their users up.
        other = await opened(user=user)
        assert await ask(other, 1) == 1
        assert await told(socket) == ("unavailable", 4503)
        assert await told(other) == ("unavailable", 4503)
        assert entered == [1]
    finally:
        gate.set()


async def test_those_who_are_given_up_do_not_all_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [Peer(User(pk=number), None) for number in range(1, 1001)]
    for peer in peers:
        registry().add(peer.connection)
        peer.connection.validity.due_at = peer.connection.opened_at = 0.0
    walk = Rounds(registry())
    clock = [1000.0]
    monkeypatch.setattr(rounds.time, "monotonic", lambda: clock[0])

    def left_after(seconds: float) -> int:
        clock[0] = 1000.0 + seconds
        walk.watch(policy_is_away=True)
        return sum(not peer.connection.ended for peer in peers)

    grace = get_settings().revalidate_grace
    assert left_after(0) == 1000
    assert left_after(grace - 1) == 1000
    assert 550 < left_after(grace + 10) < 780
    assert 220 < left_after(grace + 20) < 450
    assert left_after(grace + 30) == 0
    monkeypatch.undo()
    for peer in peers:
        registry().discard(peer.connection)
    await end_all(peers)


async def test_who_came_during_the_trouble_has_the_grace_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before, later = peers = [Peer(User(pk=number), None) for number in (1, 2)]
    walk, grace, clock = Rounds(registry()), get_settings().revalidate_grace, [1000.0]
    monkeypatch.setattr(rounds, "place_of", lambda each: 0.0)
    monkeypatch.setattr(rounds.time, "monotonic", lambda: clock[0])

    def ended_at(moment: float) -> list[bool]:
        clock[0] = moment
        walk.watch(policy_is_away=True)
        return [peer.connection.ended for peer in peers]

    before.connection.opened_at, later.connection.opened_at = 0.0, 1000.0 + grace - 1
    for peer in peers:
        registry().add(peer.connection)
    assert ended_at(1000.0) == [False, False]
    assert ended_at(1000.0 + grace) == [True, False]
    assert ended_at(1000.0 + 2 * grace - 2) == [True, False]
    assert ended_at(1000.0 + 2 * grace) == [True, True]
    monkeypatch.undo()
    for peer in peers:
        registry().discard(peer.connection)
    await end_all(peers)


async def test_a_look_that_hangs_costs_nobody_a_socket_of_whom_there_is_nothing_to_look_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _somebody, nobody, judged = peers = [Peer(User(pk=number), None) for number in (1, 2, 3)]
    for peer in (nobody, judged):
        peer.connection.identity, peer.connection.user_key = None, None
    judged.connection.validity.summon = lambda: None
    for peer in peers:
        peer.connection.validity.due_at = peer.connection.opened_at = 0.0
        registry().add(peer.connection)
    walk, clock = Rounds(registry()), [1000.0]
    walk._looking_since = 0.0
    monkeypatch.setattr(rounds.time, "monotonic", lambda: clock[0])
    walk.watch(policy_is_away=False)
    clock[0] += 2 * get_settings().revalidate_grace
    walk.watch(policy_is_away=False)
    assert [peer.connection.ended for peer in peers] == [True, False, True]
    monkeypatch.undo()
    for peer in peers:
        registry().discard(peer.connection)
    await end_all(peers)
