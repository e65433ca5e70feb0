"""The one background task: deadlines, heartbeats, blocks, the audit trail; and that nothing can stop it but the end."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure import audit, blocklist, supervisor
from channels_secure.connections import Registry, registry
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.models import Block
from channels_secure.policy.rates import Rate
from channels_secure.stores import get_store
from channels_secure.supervisor import finding, sweeping
from channels_secure.supervisor import supervisor as internals
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import (  # noqa: F401
    Echo,
    StalledPeer,
    ask,
    connect,
    kinds,
    logged,
    only_connection,
    quiet,
    rows,
    swept,
    told,
    until,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

# So often does the supervisor look in these tests.
BRISK = {"POLICY_REFRESH_INTERVAL": 0.01, "AUDIT_FLUSH_INTERVAL": 0.01}


@pytest.fixture
def brisk(settings: Any) -> Callable[..., None]:
    def configure(**more: Any) -> None:
        settings.CHANNELS_SECURE = {**BRISK, **more}

    configure()
    return configure


async def opened(consumer: type[SecureJsonConsumer], **options: Any) -> SecureCommunicator:
    socket = connect(consumer, **options)
    assert (await socket.shake_hands()).accepted
    return socket


# Deadlines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "reason", "code"),
    [
        ({"IDLE_TIMEOUT": 0.02}, "idle_timeout", 4408),
        ({"MAX_CONNECTION_AGE": 0.02}, "credentials_expired", 4419),
    ],
)
async def test_a_socket_that_is_due_is_closed(
    brisk: Callable[..., None], setting: dict[str, float], reason: str, code: int
) -> None:
    brisk(**setting)
    socket = await opened(Echo)
    assert await told(socket) == (reason, code)
    (closed,) = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["by"], closed.detail["code"]) == (reason, "policy", code)


async def test_a_ping_that_is_not_answered_closes(brisk: Callable[..., None]) -> None:
    brisk(HEARTBEAT_INTERVAL=0.02, HEARTBEAT_TIMEOUT=0.02)
    socket = await opened(Echo)
    assert await socket.receive_json_from() == {"type": "ping"}
    assert await told(socket) == ("heartbeat_timeout", 4408)


async def test_pings_that_are_answered_keep_a_socket_open(brisk: Callable[..., None]) -> None:
    brisk(HEARTBEAT_INTERVAL=0.02, HEARTBEAT_TIMEOUT=2)
    socket = await opened(Echo)
    for _ in range(5):
        assert await socket.receive_json_from() == {"type": "ping"}
        await socket.send_json_to({"type": "pong"})
    await socket.disconnect()
    assert (await rows(kind="connection.closed"))[0].reason == ""


async def test_a_pong_is_not_idleness(brisk: Callable[..., None]) -> None:
    """`IDLE_TIMEOUT` longer than the heartbeat never closes a peer that answers."""
    brisk(HEARTBEAT_INTERVAL=0.2, HEARTBEAT_TIMEOUT=3, IDLE_TIMEOUT=1.5)
    socket = await opened(Echo)
    began = time.monotonic()
    while time.monotonic() - began < 1.6:
        assert await socket.receive_json_from() == {"type": "ping"}
        await socket.send_json_to({"type": "pong"})
    await socket.disconnect()
    assert (await rows(kind="connection.closed"))[0].reason == ""


async def test_other_peoples_consumers_get_no_ping_and_no_heartbeat_timeout(brisk: Callable[..., None]) -> None:
    brisk(HEARTBEAT_INTERVAL=0.01, HEARTBEAT_TIMEOUT=0.01, IDLE_TIMEOUT=0.2, ALLOW_ANONYMOUS=True)

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    socket = SecureCommunicator(guarded(plain), "/ws/")
    assert (await socket.shake_hands()).accepted
    assert await told(socket) == ("idle_timeout", 4408)


class Waiting(Echo):
    """Its handler waits for the gate."""

    gate: asyncio.Event
    begun: asyncio.Event

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.begun.set()
        await self.gate.wait()
        await self.send_json(content)


@pytest.fixture
def waiting() -> type[Waiting]:
    return type("Waiting", (Waiting,), {"gate": asyncio.Event(), "begun": asyncio.Event()})


async def test_a_handler_that_hangs_is_closed(brisk: Callable[..., None], waiting: type[Waiting]) -> None:
    brisk(HANDLER_TIMEOUT=0.02)
    socket = await opened(waiting)
    await socket.send_json_to(1)
    assert await told(socket) == ("handler_timeout", 4500)


async def test_a_question_about_permission_that_hangs_is_closed(brisk: Callable[..., None]) -> None:
    from tests.test_handlers import Say, declare

    async def hang(consumer: Any, message: Any) -> bool:
        await asyncio.Event().wait()
        return True

    brisk(HANDLER_TIMEOUT=0.02)
    socket = await opened(declare(Say, permission=hang))
    await socket.send_json_to({"type": "say", "text": "hi"})
    assert await told(socket) == ("handler_timeout", 4500)


async def test_an_event_handler_and_a_connect_that_hang_are_closed(brisk: Callable[..., None]) -> None:
    from channels.layers import get_channel_layer

    class Reacting(Echo):
        async def connect(self) -> None:
            await self.join("lobby")
            await self.accept()

        async def news(self, event: Any) -> None:
            await asyncio.Event().wait()

    class Connecting(Echo):
        async def connect(self) -> None:
            await self.accept()
            await asyncio.Event().wait()

    brisk(HANDLER_TIMEOUT=0.02)
    socket = await opened(Reacting)
    await get_channel_layer().group_send("lobby", {"type": "news"})
    assert await told(socket) == ("handler_timeout", 4500)
    socket = await opened(Connecting)
    assert await told(socket) == ("handler_timeout", 4500)


async def test_a_running_handler_stops_the_clocks_for_idleness_and_heartbeat(
    brisk: Callable[..., None], waiting: type[Waiting]
) -> None:
    """The peer is heard again only after it, so that its silence is ours."""
    brisk(IDLE_TIMEOUT=0.6, HEARTBEAT_INTERVAL=0.5, HEARTBEAT_TIMEOUT=0.1)
    socket = await opened(waiting)
    await socket.send_json_to(1)
    await waiting.begun.wait()
    connection = only_connection()
    since = connection.heard_at
    await until(lambda: connection.heard_at > since + 0.7)
    assert not connection.ended
    waiting.gate.set()
    frame = await socket.receive_json_from()
    while frame != 1:
        frame = await socket.receive_json_from()
    await socket.disconnect()


async def test_a_peer_that_does_not_read_is_closed(brisk: Callable[..., None]) -> None:
    brisk(SEND_TIMEOUT=0.02)
    socket = StalledPeer(guarded(Echo.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    socket.stall()
    await socket.send_json_to(1)
    await socket.wait(10)
    (closed,) = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["by"]) == ("slow_consumer", "policy")


async def test_a_peer_that_reads_in_the_end_is_not(brisk: Callable[..., None]) -> None:
    brisk(SEND_TIMEOUT=60)
    socket = StalledPeer(guarded(Echo.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    socket.stall()
    await socket.send_json_to(1)
    connection = only_connection()
    await until(lambda: connection.sending_since is not None)
    assert (await socket.receive_output())["type"] == "in the buffer"
    assert await socket.receive_json_from() == 1
    assert connection.sending_since is None
    await socket.disconnect()


async def test_a_socket_ends_with_its_credentials_and_is_warned_before(brisk: Callable[..., None], user: User) -> None:
    class Chat(Echo):
        control_frames = True

    brisk(TOKEN_EXPIRY_WARNING=60)
    token = AccessToken.for_user(user)
    socket = await opened(Chat, token=str(token), origin=None)
    assert only_connection().expires_at is not None
    only_connection().expires_at = time.monotonic() + 30
    warning = await socket.receive_json_from()
    assert warning["type"] == "token_expiring"
    assert 25 <= warning["expires_in"] <= 30
    only_connection().expires_at = time.monotonic()
    assert await told(socket) == ("credentials_expired", 4419)


async def test_a_client_that_knows_nothing_of_our_frames_is_not_warned(brisk: Callable[..., None], user: User) -> None:
    socket = await opened(Echo, token=str(AccessToken.for_user(user)), origin=None)
    connection = only_connection()
    connection.expires_at = time.monotonic() + 30
    await until(lambda: connection.warned)
    assert await ask(socket, 1) == 1
    await socket.disconnect()


async def test_after_expiry_no_message_is_handled(brisk: Callable[..., None], user: User) -> None:
    handled = []

    class Recording(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            handled.append(content)

    socket = await opened(Recording, token=str(AccessToken.for_user(user)), origin=None)
    connection = only_connection()
    connection.expires_at = time.monotonic()
    supervisor.current().wake()
    await until(lambda: connection.ended)
    await socket.send_json_to(1)
    assert await told(socket) == ("credentials_expired", 4419)
    assert handled == []


@pytest.mark.parametrize("base", [SecureJsonConsumer, AsyncJsonWebsocketConsumer])
async def test_after_expiry_no_message_waits_for_the_supervisor_to_look(base: Any, user: User) -> None:
    handled = []

    class Recording(base):  # type: ignore[misc]  # both are consumers
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            handled.append(content)

    socket = await opened(Recording, token=str(AccessToken.for_user(user)), origin=None)
    only_connection().expires_at = time.monotonic()
    await socket.send_json_to(1)
    assert await told(socket) == ("credentials_expired", 4419)
    assert handled == []


# Blocks ---------------------------------------------------------------------------------------------------------------


async def test_a_block_made_in_this_process_cuts_at_once(user: User) -> None:
    """Without waiting for a pass: whoever blocks wakes the supervisor."""
    socket, other = await opened(Echo, user=user), await opened(Echo)
    await blocklist.ablock(user=user, reason="spam")
    assert await told(socket) == ("blocked", 4423)
    assert await ask(other, 1) == 1
    await other.disconnect()


async def test_a_block_of_an_address_cuts_its_sockets_and_no_others() -> None:
    here, there = await opened(Echo, client="192.0.2.77"), await opened(Echo, client="198.51.100.7")
    await blocklist.ablock(network="192.0.2.64/26")
    assert await told(here) == ("blocked", 4423)
    assert await ask(there, 1) == 1
    await there.disconnect()


async def test_a_block_made_elsewhere_is_found_by_its_version(brisk: Callable[..., None], user: User) -> None:
    """Another process changes the rows; all that reaches this one is the table."""
    from django.db import connection as database_connection
    from django.db import transaction

    from channels_secure.models import PolicyVersion
    from channels_secure.signals import policy_changed

    socket = await opened(Echo, user=user)

    def elsewhere() -> None:
        policy_changed.disconnect(dispatch_uid="channels_secure.supervisor")
        try:
            with transaction.atomic():
                Block.objects.bulk_create([Block(user=user)])
                PolicyVersion.bump("default")
        finally:
            policy_changed.connect(internals._policy_changed, dispatch_uid="channels_secure.supervisor")
            database_connection.close()

    await asyncio.to_thread(elsewhere)
    assert await told(socket) == ("blocked", 4423)


async def test_a_block_made_by_raw_sql_is_found_by_the_full_reload(
    brisk: Callable[..., None], user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = await opened(Echo, user=user)
    await Block.objects.abulk_create([Block(user=user)])
    monkeypatch.setattr(internals, "FULL_RELOAD_INTERVAL", 0.01)
    assert await told(socket) == ("blocked", 4423)


async def test_a_snapshot_is_applied_once(brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    looked, known, real = [], [], finding.by_address

    def counted(connections: Registry) -> Any:
        looked.append(len(connections))
        return real(connections)

    await blocklist.ablock(network="203.0.113.0/24")
    monkeypatch.setattr(finding, "by_address", counted)
    # The same blocks, in one snapshot after the other.
    monkeypatch.setattr(internals, "FULL_RELOAD_INTERVAL", 0.01)
    async with connect(Echo):
        for _ in range(3):
            known.append(blocklist.current())
            await until(lambda: blocklist.current() is not known[-1])
        await swept()
    assert looked == [1]


# Its life -------------------------------------------------------------------------------------------------------------


def supervisors() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "channels_secure.supervisor"]


async def test_it_starts_with_the_first_connection_and_ends_after_the_last(brisk: Callable[..., None]) -> None:
    assert supervisors() == []
    async with connect(Echo):
        assert len(supervisors()) == 1
        async with connect(Echo):
            assert len(supervisors()) == 1
        assert len(supervisors()) == 1
    await until(lambda: supervisors() == [])
    # What had happened was written before it went.
    assert not audit.pending()
    assert await kinds() == ["connection.accepted", "connection.accepted", "connection.closed", "connection.closed"]
    async with connect(Echo):
        assert len(supervisors()) == 1


async def test_a_refused_handshake_is_written_too(brisk: Callable[..., None]) -> None:
    await connect(Echo, origin="https://evil.test").shake_hands()
    await until(lambda: supervisors() == [])
    assert not audit.pending()
    assert await kinds() == ["handshake.denied origin_not_allowed"]


async def test_an_error_in_a_pass_is_logged_and_the_next_pass_goes_on(
    brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    brisk(IDLE_TIMEOUT=0.02)
    real, fails = sweeping.sweep, iter([True, True, True])

    async def failing(*arguments: Any) -> None:
        if next(fails, False):
            raise RuntimeError("odd")
        await real(*arguments)

    monkeypatch.setattr(sweeping, "sweep", failing)
    socket = await opened(Echo)
    assert await told(socket) == ("idle_timeout", 4408)
    assert logged(caplog).count("supervisor.failed") == 3


@pytest.mark.parametrize("act", ["_enforce", "_begin_steps"])
async def test_an_act_that_fails_keeps_no_deadline_from_being_enforced(
    brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, act: str
) -> None:
    brisk(IDLE_TIMEOUT=0.05)

    def fail(self: Any) -> None:
        raise RuntimeError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(internals.Supervisor, act, fail)
        socket = await opened(Echo)
        assert await told(socket) == ("idle_timeout", 4408)
    assert "supervisor.failed" in logged(caplog)


async def test_a_store_that_fails_keeps_no_deadline_from_being_enforced(
    brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    brisk(IDLE_TIMEOUT=0.05)

    def fail() -> None:
        raise RuntimeError("odd")

    socket = await opened(Echo)
    monkeypatch.setattr(get_store(), "sweep", fail)
    assert await told(socket) == ("idle_timeout", 4408)
    monkeypatch.undo()
    assert "supervisor.failed" in logged(caplog)


async def test_a_snapshot_that_could_not_be_applied_is_applied_at_the_next_pass(
    brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, user: User
) -> None:
    socket = await opened(Echo, user=user)
    real, fails = sweeping.enforce_blocks, iter([True, True])

    def failing(*arguments: Any) -> None:
        if next(fails, False):
            raise RuntimeError("odd")
        real(*arguments)

    monkeypatch.setattr(sweeping, "enforce_blocks", failing)
    await blocklist.ablock(user=user)
    assert await told(socket) == ("blocked", 4423)
    assert next(fails, None) is None


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_search_that_comes_to_nothing_is_made_again_at_the_next_pass(
    brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    socket, other = await opened(Echo, client="192.0.2.77"), await opened(Echo)
    real, fails = finding.by_address, iter([True, True])

    def failing(connections: Registry) -> Any:
        if next(fails, False):
            raise error("odd")
        return real(connections)

    monkeypatch.setattr(finding, "by_address", failing)
    await blocklist.ablock(network="192.0.2.77")
    assert await told(socket) == ("blocked", 4423)
    assert next(fails, None) is None
    assert await ask(other, 1) == 1
    await other.disconnect()


async def test_a_block_made_while_the_last_one_is_being_read_is_found_without_waiting_for_a_pass(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 60.0, "AUDIT_FLUSH_INTERVAL": 60.0}
    monkeypatch.setattr(internals, "PASS_INTERVAL", 60.0)
    gate, looks, real = asyncio.Event(), [], blocklist.refresh

    async def slow(*, full: bool = False) -> bool:
        looks.append(full)
        await gate.wait()
        return await real(full=full)

    async with connect(Echo):
        monkeypatch.setattr(blocklist, "refresh", slow)
        watcher = supervisor.current()
        watcher.policy_is_due()
        await until(lambda: len(looks) == 1)
        watcher.policy_is_due()
        await until(lambda: not watcher._awake.is_set())
        gate.set()
        await until(lambda: len(looks) == 2)
        watcher.wake()
    supervisor.current().wake()


async def test_while_idle_it_holds_nothing_of_its_loop(brisk: Callable[..., None]) -> None:
    async with connect(Echo):
        watcher = supervisor.current()
        assert watcher._task is not None
    await until(lambda: watcher._task is None)
    assert watcher._running == {}
    assert watcher._awake._loop is None  # type: ignore[attr-defined]
    assert supervisor.current() is watcher


async def test_one_that_was_cancelled_starts_again_with_the_next_connection(brisk: Callable[..., None]) -> None:
    async with connect(Echo):
        [task] = supervisors()
        task.cancel()
        await asyncio.wait({task})
        watcher = supervisor.current()
        watcher.ensure()
        [new] = supervisors()
        # The event loop may bury the old one only now.
        watcher._ended(task)
        assert watcher._task is new


def test_a_change_is_told_to_the_loops_that_run_though_others_were_closed() -> None:
    closed, running = asyncio.new_event_loop(), asyncio.new_event_loop()
    known = internals._supervisors
    before = dict(known)
    known.clear()
    try:
        for loop in (closed, running):
            loop.run_until_complete(_know())
        closed.close()
        internals._policy_changed()
        running.run_until_complete(asyncio.sleep(0))
        assert known[running]._policy_due
        assert not known[closed]._policy_due
    finally:
        running.close()
        known.clear()
        known.update(before)


async def _know() -> None:
    supervisor.current()


@pytest.mark.parametrize("error", [DatabaseError, InterfaceError])
async def test_a_database_that_is_away_stops_no_deadline_and_is_logged_once(
    brisk: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    brisk(IDLE_TIMEOUT=0.1)
    socket = await opened(Echo)
    tries = []

    async def away(*, full: bool = False) -> bool:
        tries.append(full)
        raise error("away")

    monkeypatch.setattr(blocklist, "refresh", away)
    await until(lambda: len(tries) >= 3)
    assert await told(socket) == ("idle_timeout", 4408)
    assert logged(caplog, logging.ERROR) == ["policy.refresh_failed"]


async def test_a_look_at_the_policy_that_failed_is_tried_again_at_the_next_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refresh, tries = blocklist.refresh, []

    async def away_once(*, full: bool = False) -> bool:
        tries.append(full)
        if len(tries) == 1:
            raise DatabaseError("away")
        return await refresh(full=full)

    async with connect(Echo):
        monkeypatch.setattr(blocklist, "refresh", away_once)
        supervisor.current().policy_is_due()
        await until(lambda: len(tries) == 1)
        # What is known is fresh enough not to be looked at for long, were it not for the failure.
        await swept()
        assert len(tries) == 2
        await swept()
        assert len(tries) == 2


async def test_a_step_that_hangs_holds_up_no_deadline_and_is_not_begun_twice(
    brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    brisk(IDLE_TIMEOUT=0.1)
    gate, begun = asyncio.Event(), []

    async def hang() -> None:
        begun.append(1)
        await gate.wait()

    with monkeypatch.context() as patch:
        patch.setattr(audit, "flush", hang)
        socket = await opened(Echo)
        assert await told(socket) == ("idle_timeout", 4408)
        assert len(begun) == 1
        gate.set()


async def test_what_a_flood_adds_up_to_is_recorded_while_it_lasts(brisk: Callable[..., None]) -> None:
    brisk(MESSAGE_RATES={"connection": "1/h"}, ERROR_BUDGET=None)
    socket = await opened(Echo)
    for _ in range(10):
        await socket.send_json_to(1)
    connection = only_connection()
    await until(lambda: connection.received == 10 and connection.conduct.unrecorded == 0)
    assert sum(event.count for event in await rows(kind="message.denied", reason="rate_limited")) == 9
    await socket.disconnect()
    assert sum(event.count for event in await rows(kind="message.denied", reason="rate_limited")) == 9


async def test_the_store_is_swept(brisk: Callable[..., None]) -> None:
    await get_store().take("key", Rate.parse("100/s"))
    store: Any = get_store()
    assert len(store) == 1
    async with connect(Echo):
        await until(lambda: ("key", Rate.parse("100/s")) not in store._buckets)


async def test_a_handler_that_ignores_its_cancellation_is_named_once(
    brisk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()

    class Stubborn(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    continue

    brisk(HANDLER_TIMEOUT=0.02)
    monkeypatch.setattr(sweeping, "STUBBORN", 0.02)
    socket = await opened(Stubborn)
    await socket.send_json_to(1)
    assert (await socket.receive_json_from())["code"] == "handler_timeout"
    (connection,) = registry()
    await until(lambda: "handler.ignores_cancellation" in logged(caplog))
    watcher = supervisor.current()
    for _ in range(3):
        watcher._awake.clear()
        watcher.wake()
        await until(lambda: not watcher._awake.is_set())
    assert logged(caplog).count("handler.ignores_cancellation") == 1
    assert connection.id
    gate.set()
    assert await socket.closing() == (4500, "handler_timeout")


async def test_a_pass_over_many_sockets_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "STRETCH", 2)
    sockets = [await opened(Echo) for _ in range(5)]
    order: list[str] = []

    async def other() -> None:
        order.append("other")

    async def sweep() -> None:
        await sweeping.sweep(registry(), time.monotonic())
        order.append("sweep")

    await asyncio.gather(sweep(), other())
    assert order == ["other", "sweep"]
    for socket in sockets:
        await socket.disconnect()
