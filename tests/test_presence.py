"""The table of open sockets: what it says of one process, and what others make of a process that is dead or silent."""

import asyncio
import logging
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from channels_secure import audit, database, supervisor
from channels_secure.auth.base import digest_of
from channels_secure.connections import registry
from channels_secure.lifespan import finish, sever_all
from channels_secure.models import AuditEvent, LiveConnection, LiveProcess
from channels_secure.supervisor import leases, presence, rolls
from tests.conftest import MakeUser
from tests.endings import Stubborn
from tests.sockets import Echo, ask, connect, logged, only_connection, quiet, rows, told, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet", "brisk")]


@pytest.fixture
def brisk(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass looks."""
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 0.05, "AUDIT_FLUSH_INTERVAL": 0.05}
    monkeypatch.setattr(presence, "LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(presence, "REFRESH_INTERVAL", 0.0)


async def looked() -> None:
    """A look at the table, begun after this call, has ended."""
    watcher = supervisor.current()
    for _ in range(2):
        watcher.wake()
        await until(lambda: not watcher._awake.is_set() or watcher._task is None)
        step = watcher._running.get("presence")
        if step is not None:
            await asyncio.wait({step})


async def listed() -> list[LiveConnection]:
    await looked()
    return [row async for row in LiveConnection.objects.live().select_related("user").order_by("opened_at")]


def expire(process: str | None = None) -> int:
    """Let leases run out: of one process, or of all."""
    those = LiveProcess.objects.all() if process is None else LiveProcess.objects.filter(pk=process)
    return those.update(lease_until=timezone.now() - timedelta(seconds=1))


def dead_process(*connection_ids: str, user: User | None = None) -> LiveProcess:
    """A process whose lease has run out, with its sockets."""
    process = LiveProcess.objects.create(id="dead", host="gone", pid=7, lease_until=timezone.now() - timedelta(hours=1))
    LiveConnection.objects.bulk_create(
        LiveConnection(
            connection_id=each, process=process, user=user, ip="192.0.2.9", path="/ws/", opened_at=timezone.now()
        )
        for each in connection_ids
    )
    return process


# What a row says ------------------------------------------------------------------------------------------------------


async def test_an_open_socket_has_a_row_and_a_closed_one_has_none(user: User) -> None:
    before = timezone.now() - timedelta(seconds=1)
    socket = connect(Echo, "/ws/room/?secret=1", user=user, headers=[(b"user-agent", b"Netscape 4")])
    assert (await socket.shake_hands()).accepted
    (row,) = await listed()
    here = only_connection()
    assert row.connection_id == here.id
    assert (row.user, row.username, row.ip, row.path) == (user, "alice", "192.0.2.1", "/ws/room/")
    assert (row.user_agent, row.credentials) == ("Netscape 4", "session")
    assert here.identity is not None
    assert row.session == digest_of(here.identity.session_key or "")
    assert row.heard_at is not None
    assert row.expires_at is not None
    assert before < row.opened_at <= row.heard_at < timezone.now() + timedelta(seconds=1)
    assert before + timedelta(days=13) < row.expires_at
    await socket.disconnect()
    assert await listed() == []
    await until(lambda: not supervisor.current().presence.pending())
    assert await LiveProcess.objects.acount() == 0


async def test_someone_anonymous_has_a_row_without_a_user() -> None:
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    (row,) = await listed()
    assert (row.user, row.username, row.session, row.expires_at, row.credentials) == (None, "", "", None, "anonymous")
    await socket.disconnect()


async def test_a_socket_that_was_not_accepted_has_no_row() -> None:
    entered = asyncio.Event()

    class Hesitant(Echo):
        async def connect(self) -> None:
            entered.set()
            await asyncio.Event().wait()

    socket = connect(Hesitant)
    await socket.send_input({"type": "websocket.connect"})
    await entered.wait()
    assert len(registry()) == 1
    assert await listed() == []
    assert await LiveProcess.objects.acount() == 0
    socket.future.cancel()
    await asyncio.wait({socket.future})


async def test_a_socket_that_comes_and_goes_between_two_looks_costs_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LOOK_INTERVAL", 60.0)
    told_the_database: list[str] = []
    for room, name in ((leases, "register"), (rolls, "replace"), (leases, "release")):
        monkeypatch.setattr(room, name, lambda *_, name=name, **__: told_the_database.append(name))
    for _ in range(3):
        socket = connect(Echo)
        assert (await socket.shake_hands()).accepted
        await looked()
        await socket.disconnect()
        await until(lambda: not registry())
    await looked()
    assert told_the_database == []


async def test_what_a_socket_receives_and_does_wrong_is_brought_up_to_date() -> None:
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    (first,) = await listed()
    assert (first.received, first.violations) == (0, 0)
    assert await ask(socket, ["hello"]) == ["hello"]
    await socket.send_text("{")
    assert (await socket.receive_json_from())["code"] == "invalid_message"
    (second,) = await listed()
    assert (second.received, second.violations) == (2, 1)
    assert first.heard_at is not None
    assert second.heard_at is not None
    assert second.heard_at > first.heard_at
    assert abs(second.opened_at - first.opened_at) < timedelta(seconds=1)
    await socket.disconnect()


async def test_frames_over_the_rate_are_counted_as_violations(settings: Any) -> None:
    settings.CHANNELS_SECURE = {**settings.CHANNELS_SECURE, "MESSAGE_RATES": {"connection": "1/h", "user": None}}
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    assert await ask(socket, 1) == 1
    for _ in range(3):
        assert (await ask(socket, 1))["code"] == "rate_limited"
    (row,) = await listed()
    assert (row.received, row.violations) == (4, 3)
    await socket.disconnect()


async def test_counters_are_written_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    await listed()
    monkeypatch.setattr(presence, "REFRESH_INTERVAL", 60.0)
    assert await ask(socket, 1) == 1
    (row,) = await listed()
    assert row.received == 0
    monkeypatch.setattr(presence, "REFRESH_INTERVAL", 0.0)
    (row,) = await listed()
    assert row.received == 1
    await socket.disconnect()


async def test_hostile_text_is_stored_as_plain_text() -> None:
    headers = [(b"user-agent", "evil\u202e\x00".encode("latin-1", "replace") + b"\x1b[31m" + b"x" * 999)]
    socket = connect(Echo, "/ws/%00%E2%80%AE\n/", headers=headers)
    socket.scope["path"] = "/ws/\x00\u202e\ud800\n/"
    await socket.shake_hands()
    for row in await listed():
        assert row.path.isprintable()
        assert row.user_agent.isprintable()
        assert len(row.user_agent) <= 256
    await socket.disconnect()


# Writing -------------------------------------------------------------------------------------------------------------


async def test_many_sockets_are_written_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "CHUNK", 2)
    sockets = [connect(Echo, client=f"192.0.2.{number}") for number in range(1, 6)]
    for socket in sockets:
        assert (await socket.shake_hands()).accepted
    assert len(await listed()) == 5
    for socket in sockets[:3]:
        await socket.disconnect()
    await until(lambda: len(registry()) == 2)
    assert [row.ip for row in await listed()] == ["192.0.2.4", "192.0.2.5"]
    for socket in sockets[3:]:
        await socket.disconnect()


async def test_a_row_never_keeps_anybody_from_deleting_a_user(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = {**settings.CHANNELS_SECURE, "AUDIT_ADMISSIONS": False}
    socket = connect(Echo, user=user)
    assert (await socket.shake_hands()).accepted
    await database.write(leases.register, "mine", host="here", pid=1)
    here = only_connection()

    def delete_meanwhile() -> None:
        # As in another process: Django has looked for rows that refer to the user, and one more is written then.
        with transaction.atomic():
            LiveConnection.objects.filter(user=user).delete()
            rolls.replace("mine", [here])
            User.objects.filter(pk=user.pk)._raw_delete(using="default")

    await database.write(delete_meanwhile)
    assert not await User.objects.aexists()
    # The user object of the connection still has its key.
    assert await database.write(rolls.replace, "mine", [here])
    row = await LiveConnection.objects.select_related("user").aget(process="mine")
    assert (row.user, row.username) == (None, "alice")
    await database.write(leases.release, "mine")
    socket.future.cancel()
    await asyncio.wait({socket.future})


class Odd:
    """Somebody whom an authenticator of the project's own made up: no row of the user table."""

    is_authenticated, pk = True, "no number"

    def get_username(self) -> str:
        return "odd"


@pytest.mark.parametrize("number", [1, 2, 5])
async def test_a_row_that_the_database_refuses_does_not_cost_the_others_theirs(
    number: int, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LOOK_INTERVAL", 60.0)
    people = [await database.run(make_user, f"user{each}") for each in range(number)]
    sockets = [connect(Echo, user=person) for person in people]
    for socket in sockets:
        assert (await socket.shake_hands()).accepted
    open_sockets = list(registry())
    bad = number // 2
    real = open_sockets[bad].identity
    assert real is not None
    open_sockets[bad].identity = replace(real, user=Odd())
    await database.write(leases.register, "mine", host="here", pid=1)
    assert await database.write(rolls.replace, "mine", open_sockets)
    written = {row.pk: row async for row in LiveConnection.objects.filter(process="mine")}
    for place, (one, person) in enumerate(zip(open_sockets, people, strict=True)):
        row = written.pop(one.id)
        assert (row.username, row.user_id) == (("odd", None) if place == bad else (person.username, person.pk))
    assert written == {}
    open_sockets[bad].identity = real
    await database.write(leases.release, "mine")
    for socket in sockets:
        await socket.disconnect()


async def test_while_the_database_is_away_it_is_tried_again_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "REAP_INTERVAL", 0.0)
    tries = []

    def away(*_: Any) -> None:
        tries.append(1)
        raise OperationalError("the database has gone away")

    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    await looked()
    watcher = supervisor.current().presence
    assert watcher._steady_since is not None
    watcher._steady_since -= 2 * leases.LEASE
    await database.run(dead_process)
    await LiveProcess.objects.filter(pk="dead").aupdate(lease_until=real_now() + timedelta(hours=1))
    assert await ask(socket, 1) == 1
    with monkeypatch.context() as patch:
        patch.setattr(rolls, "count", away)
        for _ in range(3):
            await looked()
    assert len(tries) >= 3
    assert logged(caplog, logging.ERROR) == ["presence.unwritable"]
    await LiveProcess.objects.filter(pk="dead").aupdate(lease_until=real_now() - timedelta(seconds=60))
    assert [row.received for row in await listed()] == [1]
    assert await LiveProcess.objects.filter(pk="dead").aexists(), "it may have been away from the database as we were"
    await socket.disconnect()


async def test_deadlines_do_not_wait_for_the_table(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNELS_SECURE = {**settings.CHANNELS_SECURE, "IDLE_TIMEOUT": 0.2}
    gate, real = threading.Event(), rolls.replace

    def hangs(*arguments: Any) -> bool:
        gate.wait()
        return real(*arguments)

    monkeypatch.setattr(rolls, "replace", hangs)
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    assert await told(socket) == ("idle_timeout", 4408)
    assert not gate.is_set()
    gate.set()


def test_an_end_is_in_the_trail_before_its_row_is_deleted() -> None:
    leases.register("mine", host="here", pid=1)
    for name, forget in (("one", lambda: rolls.remove(["one"])), ("two", lambda: leases.release("mine"))):
        LiveConnection.objects.create(connection_id=name, process_id="mine", opened_at=timezone.now())
        audit.record("connection.closed", connection_id=name)
        forget()
        assert AuditEvent.objects.filter(connection_id=name).exists()
    assert not LiveConnection.objects.exists()


async def test_each_event_loop_has_a_lease_of_its_own() -> None:
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted

    async def another() -> int:
        other = connect(Echo, client="192.0.2.2")
        assert (await other.shake_hands()).accepted
        await looked()
        count = await LiveProcess.objects.acount()
        await other.disconnect()
        await until(lambda: not supervisor.current().presence.pending())
        return count

    await looked()
    assert await asyncio.to_thread(asyncio.run, another()) == 2
    assert [row.ip for row in await listed()] == ["192.0.2.1"]
    assert await LiveProcess.objects.acount() == 1
    await socket.disconnect()


# Leases --------------------------------------------------------------------------------------------------------------


def test_of_several_reapers_one_records_each_lost_socket_once(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_process("one", "two", "three", user=user)
    AuditEvent.objects.create(kind="connection.closed", connection_id="two")
    barrier, real = threading.Barrier(4), leases._take
    lost: list[int] = []

    def all_at_once(*arguments: Any) -> Any:
        barrier.wait(10)
        return real(*arguments)

    def reap() -> None:
        try:
            lost.append(leases.reap(patient=False))
        finally:
            connection.close()

    monkeypatch.setattr(leases, "_take", all_at_once)
    threads = [threading.Thread(target=reap) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lost) == [0, 0, 0, 3]
    assert not LiveProcess.objects.exists()
    assert not LiveConnection.objects.exists()

    audit.flush_now()
    ends = AuditEvent.objects.filter(kind="connection.closed").order_by("connection_id")
    assert [event.connection_id for event in ends] == ["one", "three", "two"]
    end = ends[0]
    assert (end.username, end.ip, end.path, end.detail["by"]) == ("alice", "192.0.2.9", "/ws/", "lost")
    assert end.detail["process"] == "gone:7"


def test_a_process_that_renewed_in_the_last_moment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    process, real = dead_process("one"), leases._take

    def renewed_first(*arguments: Any) -> Any:
        assert leases.renew(process.pk)
        return real(*arguments)

    monkeypatch.setattr(leases, "_take", renewed_first)
    assert leases.reap(patient=False) == 0
    assert LiveConnection.objects.live().count() == 1


def test_a_lease_runs_out_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    leases.register("mine", host="here", pid=1)
    LiveConnection.objects.create(connection_id="one", process_id="mine", opened_at=timezone.now())
    # A machine whose own clock is an hour fast.
    monkeypatch.setattr(timezone, "now", lambda: real_now() + timedelta(hours=1))
    assert leases.reap(patient=False) == 0
    assert LiveConnection.objects.live().count() == 1
    monkeypatch.setattr(leases, "LEASE", -1.0)
    assert leases.renew("mine")
    assert LiveConnection.objects.live().count() == 0
    assert leases.reap(patient=False) == 1


real_now = timezone.now


async def test_a_look_reaps_only_once_the_database_has_answered_for_a_whole_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "REAP_INTERVAL", 0.0)
    await database.run(dead_process, "lost")
    await LiveProcess.objects.aupdate(lease_until=real_now() - timedelta(seconds=60))
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    await looked()
    await looked()
    assert await LiveProcess.objects.filter(pk="dead").aexists(), "it may have been away from the database as we were"
    watcher = supervisor.current().presence
    assert watcher._steady_since is not None
    watcher._steady_since -= leases.LEASE
    watcher._looked_at -= leases.LEASE + 1
    await looked()
    assert await LiveProcess.objects.filter(pk="dead").aexists(), "we were paused, and perhaps so was everybody"
    watcher._steady_since -= leases.LEASE
    await looked()
    assert not await LiveProcess.objects.filter(pk="dead").aexists()
    (end,) = await rows(kind="connection.closed")
    assert (end.connection_id, end.detail["by"]) == ("lost", "lost")
    await socket.disconnect()


async def test_a_long_silence_is_death_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    await database.run(dead_process, "lost")
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    await looked()
    assert not await LiveProcess.objects.filter(pk="dead").aexists()
    await socket.disconnect()


@pytest.mark.parametrize("renews", [True, False], ids=["at its next renewal", "with its next new socket"])
async def test_a_process_that_was_taken_for_dead_comes_back_with_all_its_sockets(
    renews: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sockets = [connect(Echo, client=f"192.0.2.{number}") for number in (1, 2)]
    for socket in sockets:
        assert (await socket.shake_hands()).accepted
    assert len(await listed()) == 2
    former = (await LiveProcess.objects.aget()).pk
    assert await database.run(expire) == 1
    assert await database.write(leases.reap, patient=False) == 2
    if renews:
        monkeypatch.setattr(leases, "RENEWAL", 0.0)
    else:
        sockets.append(connect(Echo, client="192.0.2.3"))
        assert (await sockets[-1].shake_hands()).accepted
    await looked()
    monkeypatch.setattr(leases, "RENEWAL", 10.0)
    assert [row.ip for row in await listed()] == [f"192.0.2.{number}" for number in range(1, len(sockets) + 1)]
    assert (await LiveProcess.objects.aget()).pk != former
    assert logged(caplog) == ["presence.taken_for_dead"]
    for socket in sockets:
        await socket.disconnect()


# Ends of processes ---------------------------------------------------------------------------------------------------


async def test_a_clean_shutdown_leaves_no_row() -> None:
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    assert len(await listed()) == 1
    await finish(sever_all())
    assert await LiveConnection.objects.acount() == await LiveProcess.objects.acount() == 0
    assert await told(socket) == ("server_restart", 4505)


async def test_a_socket_that_does_not_end_in_time_keeps_its_row_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from channels_secure import lifespan

    monkeypatch.setattr(lifespan, "GOODBYES", 0.05)
    released = asyncio.Event()

    class Hanging(Stubborn):
        gate = released

    stuck, calm = connect(Hanging, client="192.0.2.7"), connect(Echo)
    for socket in (stuck, calm):
        assert (await socket.shake_hands()).accepted
    await stuck.send_json_to(1)
    assert await stuck.receive_json_from() == "begun"
    assert len(await listed()) == 2
    await finish(sever_all())
    assert [row.ip async for row in LiveConnection.objects.all()] == ["192.0.2.7"]
    released.set()
    for socket in (stuck, calm):
        assert await told(socket) == ("server_restart", 4505)


async def test_at_exit_the_rows_of_the_process_are_deleted() -> None:
    socket = connect(Echo)
    assert (await socket.shake_hands()).accepted
    assert len(await listed()) == 1
    supervisor.record_ends()
    await asyncio.to_thread(supervisor.leave_at_exit)
    assert await LiveConnection.objects.acount() == await LiveProcess.objects.acount() == 0
    assert [event.detail["detail"] for event in await rows(kind="connection.closed")] == ["the process ended"]
    await socket.disconnect()
