"""The life of a connection: odd applications, refusals that must cost nobody else, deadlines, cancellation, leaks."""

import asyncio
import gc
import logging
import sqlite3
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings

from channels_secure import audit, blocklist, database
from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.guards import DEFAULT_GUARDS
from channels_secure.lifespan import lifespan
from channels_secure.middleware import HandshakeMiddleware
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake
from channels_secure.stores import get_store
from channels_secure.testing import SecureCommunicator, guarded, log_in

pytestmark = pytest.mark.django_db(transaction=True)


def settings(**changes: Any) -> Any:
    return override_settings(CHANNELS_SECURE=changes)


async def kinds() -> list[tuple[str, str]]:
    await audit.flush()
    return await database.run(lambda: list(AuditEvent.objects.order_by("pk").values_list("kind", "reason")))


async def ends(socket: SecureCommunicator, timeout: float = 3) -> bool:
    """Whether the application returns by itself; the communicator's own `wait` cancels it, and tells nobody."""
    done, _ = await asyncio.wait({socket.future}, timeout=timeout)
    return bool(done)


class Open(SecureJsonConsumer):
    allow_anonymous = True

    async def connect(self) -> None:
        await self.accept()


class Members(SecureJsonConsumer):
    async def connect(self) -> None:
        await self.accept()


# Refusals that cost somebody else ------------------------------------------------------------------------------------


async def test_a_handshake_that_is_refused_replaces_nobody(user: User) -> None:
    """With `close_oldest` a stranger behind the same address must not end a user's socket by trying to connect."""
    with settings(CONNECTION_OVERFLOW="close_oldest", MAX_CONNECTIONS={"ip": 1}):
        async with SecureCommunicator(guarded(Members.as_asgi()), user=user) as socket:
            [mine] = registry()
            outcome = await SecureCommunicator(guarded(Members.as_asgi())).shake_hands()
            assert not outcome.accepted
            assert not mine.ended
            assert await socket.receive_nothing(0.01)


async def test_a_newer_connection_of_the_user_replaces_the_oldest(user: User) -> None:
    with settings(CONNECTION_OVERFLOW="close_oldest", MAX_CONNECTIONS={"user": 1}):
        old = SecureCommunicator(guarded(Members.as_asgi()), user=user)
        assert (await old.shake_hands()).accepted
        async with SecureCommunicator(guarded(Members.as_asgi()), user=user):
            assert await old.closing() == (4409, "connection_replaced")
            assert len(registry()) == 1


async def test_of_racing_handshakes_the_limit_lets_exactly_as_many_in(user: User) -> None:
    with settings(MAX_CONNECTIONS={"user": 3}):
        sockets = [SecureCommunicator(guarded(Members.as_asgi()), user=user) for _ in range(8)]
        outcomes = await asyncio.gather(*(socket.shake_hands() for socket in sockets))
        assert sum(outcome.accepted for outcome in outcomes) == 3
        assert {outcome.code for outcome in outcomes if not outcome.accepted} == {4409}
        for socket, outcome in zip(sockets, outcomes, strict=True):
            if outcome.accepted:
                await socket.disconnect()
        assert len(registry()) == 0


# Guards --------------------------------------------------------------------------------------------------------------


async def test_report_mode_lets_a_missing_origin_pass(user: User) -> None:
    with settings(MODE="report"):
        async with SecureCommunicator(guarded(Members.as_asgi()), user=user, origin=None):
            assert ("policy.would_deny", "origin_missing") in await kinds()


async def test_a_handshake_that_times_out_before_the_origin_is_known_to_be_good_is_refused_by_http() -> None:
    async def hangs(handshake: Handshake) -> None:
        await asyncio.Event().wait()

    app = HandshakeMiddleware(Open.as_asgi(), guards=(hangs, *DEFAULT_GUARDS))
    with settings(HANDSHAKE_TIMEOUT=0.05):
        outcome = await SecureCommunicator(app, origin="https://evil.example").shake_hands()
    assert (outcome.accepted, outcome.status, outcome.code) == (False, 503, None)


async def test_a_browser_that_is_refused_early_gets_one_of_its_subprotocols() -> None:
    """Chromium fails a handshake in which it offered some and none was chosen, and the page learns only 1006."""
    socket = SecureCommunicator(guarded(Open.as_asgi()), cookies={"sessionid": "stale"}, subprotocols=["graphql-ws"])
    outcome = await socket.shake_hands()
    assert outcome.code == 4401
    assert outcome.subprotocol == "graphql-ws"


# Applications that do not keep to the order --------------------------------------------------------------------------


async def returns(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def responds(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 402, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b'"pay"'})


async def test_an_application_that_returns_without_an_answer_is_answered_for() -> None:
    with settings(ALLOW_ANONYMOUS=True):
        for http_response in (True, False):
            outcome = await SecureCommunicator(guarded(returns), http_response=http_response).shake_hands(1)
            assert not outcome.accepted
    assert [kind for kind, _ in await kinds()] == ["handshake.denied"] * 2


async def test_an_application_that_answers_with_http_is_audited_as_a_refusal() -> None:
    with settings(ALLOW_ANONYMOUS=True):
        outcome = await SecureCommunicator(guarded(responds)).shake_hands(1)
        assert outcome.status == 402
    assert [kind for kind, _ in await kinds()] == ["handshake.denied"]


async def test_an_http_answer_that_the_server_cannot_send_becomes_a_refusal() -> None:
    """Daphne ignores the event, and the client would hang until its own timeout."""
    with settings(ALLOW_ANONYMOUS=True):
        outcome = await SecureCommunicator(guarded(responds), http_response=False).shake_hands(1)
    assert (outcome.accepted, outcome.status) == (False, 403) or outcome.code is not None


async def test_a_peer_that_leaves_during_an_http_answer_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def gone(event: Any) -> None:
        raise OSError("the peer has gone")

    socket = SecureCommunicator(guarded(responds))

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    with settings(ALLOW_ANONYMOUS=True):
        await guarded(responds)(socket.scope, receive, gone)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


class Slow(AsyncWebsocketConsumer):
    async def disconnect(self, code: int) -> None:
        await asyncio.Event().wait()


async def test_a_foreign_disconnect_that_hangs_ends_at_the_deadline() -> None:
    with settings(ALLOW_ANONYMOUS=True, DISCONNECT_TIMEOUT=0.1, POLICY_REFRESH_INTERVAL=0.1):
        socket = SecureCommunicator(guarded(Slow.as_asgi()))
        assert (await socket.shake_hands()).accepted
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        assert await ends(socket)
        assert len(registry()) == 0


async def lingers(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4001})
    await asyncio.Event().wait()


async def test_an_application_that_lingers_after_its_close_is_ended() -> None:
    with settings(ALLOW_ANONYMOUS=True, DISCONNECT_TIMEOUT=0.1, POLICY_REFRESH_INTERVAL=0.1):
        socket = SecureCommunicator(guarded(lingers))
        await socket.shake_hands()
        assert await ends(socket)
        assert len(registry()) == 0


# Cancellation --------------------------------------------------------------------------------------------------------


async def test_stop_consumer_in_a_handler_leaves_disconnect_its_awaits() -> None:
    finished = asyncio.Event()

    class Stops(Open):
        @handles("stop")
        async def stop(self, message: dict[str, Any]) -> None:
            raise StopConsumer

        async def disconnect(self, code: int) -> None:
            await asyncio.sleep(0)
            finished.set()

    socket = SecureCommunicator(guarded(Stops.as_asgi()))
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "stop"})
    assert await ends(socket)
    assert finished.is_set()


class Harness:
    """An application in a task of the test's own, so that what leaves it can be seen."""

    def __init__(self, app: Any) -> None:
        self.sent: list[Any] = []
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.scope = SecureCommunicator(app).scope
        self.frames.put_nowait({"type": "websocket.connect"})
        self.accepted = asyncio.Event()
        self.task = asyncio.create_task(app(self.scope, self.frames.get, self.send))

    async def send(self, event: Any) -> None:
        self.sent.append(event)
        if event["type"] == "websocket.accept":
            self.accepted.set()


DENIAL = Denial(reason=Reason.DISCONNECTED)


async def test_a_severed_connection_returns_to_the_server_uncancelled() -> None:
    harness = Harness(guarded(Open.as_asgi()))
    await harness.accepted.wait()
    [connection] = registry()
    assert connection.sever(DENIAL)
    assert not connection.sever(DENIAL)
    assert await asyncio.wait_for(harness.task, 3) is None
    assert harness.task.cancelling() == 0
    assert [event["type"] for event in harness.sent][-1] == "websocket.close"


@pytest.mark.parametrize("first", ["server", "sever"])
async def test_the_servers_own_cancellation_stays_in_force(first: str) -> None:
    harness = Harness(guarded(Open.as_asgi()))
    await harness.accepted.wait()
    [connection] = registry()
    acts: list[Callable[[], bool]] = [harness.task.cancel, lambda: connection.sever(DENIAL)]
    for act in acts if first == "server" else reversed(acts):
        act()
    await asyncio.wait({harness.task}, timeout=3)
    assert harness.task.cancelled()
    assert len(registry()) == 0


@pytest.mark.parametrize("steps", range(12))
async def test_a_connection_severed_at_any_step_of_its_handshake_leaves_nothing(steps: int) -> None:
    """Sever after so many passes of the loop from registration on, whatever is being awaited then."""
    harness = Harness(guarded(Open.as_asgi()))
    async with asyncio.timeout(5):
        while not len(registry()) and not harness.task.done():
            await asyncio.sleep(0)
        [connection] = registry()
        for _ in range(steps):
            await asyncio.sleep(0)
        connection.sever(DENIAL)
        await asyncio.wait({harness.task})
    assert not harness.task.cancelled()
    assert harness.task.exception() is None
    assert len(registry()) == 0
    types = [event["type"] for event in harness.sent]
    assert types.count("websocket.accept") <= 1
    assert types[-1] in ("websocket.close", "websocket.http.response.body")
    assert all(bucket.holders == 0 for bucket in get_store()._buckets.values())  # type: ignore[attr-defined]


async def test_a_block_made_in_a_thread_closes_the_socket_at_once(user: User) -> None:
    socket = SecureCommunicator(guarded(Members.as_asgi()), user=user)
    assert (await socket.shake_hands()).accepted
    await blocklist.ablock(user=user)
    assert (await socket.closing(3))[0] == 4423


async def test_a_connection_that_ends_leaves_no_task() -> None:
    """The supervisor writes what is left and ends too."""
    async with SecureCommunicator(guarded(Open.as_asgi())):
        pass
    await _quiet()


def test_an_event_loop_is_not_kept_alive_by_the_connections_it_has_served() -> None:
    """Tests, commands and `async_to_sync` make loops by the hundred."""

    async def serve() -> None:
        async with SecureCommunicator(guarded(Open.as_asgi())):
            pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(serve())
    loop.run_until_complete(_quiet())
    loop.close()
    known = weakref.ref(loop)
    del loop
    gc.collect()
    assert known() is None


async def _quiet() -> None:
    """Wait for the supervisor, which writes what is left and ends."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, pending = await asyncio.wait(others, timeout=5)
        assert not pending


def test_an_event_loop_is_not_kept_alive_by_a_look_at_the_blocks() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(blocklist.refresh())
    loop.close()
    known = weakref.ref(loop)
    del loop
    gc.collect()
    assert known() is None


async def test_blocks_that_wait_for_a_lock_hold_up_no_handshake(user: User) -> None:
    """Whoever holds the policy's lock for long, a slow view or a migration, must not close the door to everybody."""
    if connection.vendor != "sqlite":
        return
    async with SecureCommunicator(guarded(Members.as_asgi()), user=user):
        pass
    newcomer = SecureCommunicator(guarded(Members.as_asgi()), user=user)
    newcomer.cookies["sessionid"] = await database.run(log_in, user)
    newcomer.user = None
    lock = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=5, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    blocking = [asyncio.create_task(blocklist.ablock(network=f"93.184.216.{n}", reason="test")) for n in range(2)]
    try:
        await asyncio.sleep(0)
        outcome = await newcomer.shake_hands(8)
    finally:
        lock.execute("ROLLBACK")
        lock.close()
        await asyncio.wait(blocking)
    assert outcome.accepted, outcome
    await newcomer.disconnect()


async def test_a_shutdown_waits_for_the_goodbyes_and_their_rows() -> None:
    """A server that cancels its tasks and goes on, as uvicorn after --timeout-graceful-shutdown, exits right after."""

    class Saves(Open):
        async def disconnect(self, code: int) -> None:
            await asyncio.sleep(0)

    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(events)

    async def send(event: Any) -> None:
        return None

    socket = SecureCommunicator(guarded(Saves.as_asgi()))
    assert (await socket.shake_hands()).accepted
    await audit.flush()
    await lifespan({"type": "lifespan"}, receive, send)
    assert socket.future.done()
    rows = await database.run(lambda: list(AuditEvent.objects.values_list("kind", "reason")))
    assert ("connection.closed", "server_restart") in rows


async def test_a_permission_that_hangs_is_cut_at_the_handlers_deadline() -> None:
    async def never(consumer: Any, message: Any) -> bool:
        await asyncio.Event().wait()
        return True

    class Asks(Open):
        handler_timeout = 0.1

        @handles("ask", permission=never)
        async def ask(self, message: dict[str, Any]) -> None:
            return None

    socket = SecureCommunicator(guarded(Asks.as_asgi()))
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "ask"})
    assert await socket.closing() == (4500, "handler_timeout")


async def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_goodbye_back() -> None:
    released = asyncio.Event()

    class Stubborn(Open):
        handler_timeout = 0.1

        @handles("hang")
        async def hang(self, message: dict[str, Any]) -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

    socket = SecureCommunicator(guarded(Stubborn.as_asgi()))
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "hang"})
    assert (await socket.receive_json_from())["code"] == "handler_timeout"
    assert (await socket.receive_output())["code"] == 4500
    assert not socket.future.done()
    released.set()
    assert await ends(socket)
    assert not socket.future.cancelled()
    assert len(registry()) == 0
