"""Severing: from outside, whatever the application or the peer is doing; and every other way in which a socket ends.

The wire must not depend on the handler, the clean-up must not depend on `disconnect()`, and nothing may be left.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import coroutine
from typing import Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.contrib.auth.models import User
from django.db import DatabaseError

from channels_secure import blocklist
from channels_secure.connections import Connection, farewell, registry
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.groups import hub
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import (  # noqa: F401
    Echo,
    StalledPeer,
    ask,
    calm,
    connect,
    holders,
    kinds,
    logged,
    only_connection,
    quiet,
    rows,
    told,
    until,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

BLOCKED = Denial(reason=Reason.BLOCKED, detail="test")
SOON = 1.0


async def opened(app: Any, **options: Any) -> SecureCommunicator:
    socket = SecureCommunicator(guarded(app), "/ws/", **options)
    assert (await socket.shake_hands()).accepted
    return socket


async def ends(socket: SecureCommunicator, within: float = SOON) -> None:
    """The ASGI call returns, without an exception, soon."""
    async with asyncio.timeout(within):
        await socket.future
    assert len(registry()) == 0


# Applications that do not want to end ---------------------------------------------------------------------------------


class Hanging(Echo):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()


class Flooding(Echo):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        while True:
            await self.send_json(content)


class FloodingBlindly(Echo):
    """Takes no exception for an answer, as code with a broad `except` does."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        while True:
            try:
                await self.send_json(content)
            except Exception:  # noqa: BLE001 - a handler that will not be told
                continue


class Reviving(Echo):
    """Swallows one cancellation and goes on."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.send_json("still here")


# An event loop knows its tasks only weakly, and nobody else knows one that waits for what only it knows.
SHIELDED: set[asyncio.Task[Any]] = set()


class Shielded(Echo):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        task = asyncio.get_running_loop().create_task(asyncio.Event().wait())
        SHIELDED.add(task)
        task.add_done_callback(SHIELDED.discard)
        await asyncio.shield(task)


class Idle(Echo):
    pass


class HangingEvent(Echo):
    async def connect(self) -> None:
        await self.join("lobby")
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await get_channel_layer().group_send("lobby", {"type": "news"})

    async def news(self, event: Any) -> None:
        await asyncio.Event().wait()


class Connecting(Echo):
    async def connect(self) -> None:
        await self.accept()
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "consumer",
    [Idle, Hanging, Flooding, FloodingBlindly, Reviving, HangingEvent, Connecting],
    ids=lambda consumer: consumer.__name__,
)
async def test_whatever_the_application_does_it_is_severed(consumer: type[SecureJsonConsumer]) -> None:
    socket = await opened(consumer.as_asgi())
    connection = only_connection()
    await socket.send_json_to(1)
    await until(lambda: connection.received == 1 or consumer is Connecting)
    for _ in range(10):
        await asyncio.sleep(0)
    began = time.monotonic()
    assert connection.sever(BLOCKED)
    assert not connection.sever(Denial(reason=Reason.DISCONNECTED)), "a connection ends once, for one cause"
    await ends(socket)
    assert time.monotonic() - began < SOON
    assert await socket.closing() == (4423, "blocked")
    (closed,) = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["by"], closed.detail["code"]) == ("blocked", "policy", 4423)


async def test_a_shielded_task_of_the_application_is_its_own_affair() -> None:
    socket = await opened(Shielded.as_asgi())
    await socket.send_json_to(1)
    await until(lambda: only_connection().received == 1)
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "Event.wait" in repr(task.get_coro()):
            task.cancel()


async def test_the_goodbye_does_not_wait_for_a_handler_that_ignores_its_cancellation() -> None:
    gate = asyncio.Event()

    class Stubborn(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    continue

    socket = await opened(Stubborn.as_asgi())
    await socket.send_json_to(1)
    await until(lambda: only_connection().handler_since is not None)
    assert only_connection().sever(BLOCKED)
    frame = await socket.receive_json_from()
    assert (frame["code"], frame["fatal"]) == ("blocked", True)
    assert (await socket.receive_output())["code"] == 4423
    assert not socket.future.done()
    gate.set()
    await ends(socket)


async def test_what_a_severed_handler_sends_does_not_arrive() -> None:
    socket = await opened(Reviving.as_asgi())
    await socket.send_json_to(1)
    await until(lambda: only_connection().handler_since is not None)
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    frames = []
    while not socket.output_queue.empty():
        frames.append(socket.output_queue.get_nowait())
    assert [frame["type"] for frame in frames] == ["websocket.send", "websocket.close"]
    assert "still here" not in frames[0]["text"]


async def test_a_message_that_waits_is_not_handled_after_the_decision() -> None:
    handled: list[Any] = []

    class Recording(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            handled.append(content)

    socket = await opened(Recording.as_asgi())
    await socket.send_json_to(1)
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    assert handled == []


async def test_disconnect_still_runs_and_learns_the_code() -> None:
    codes: list[int] = []

    class Leaving(Hanging):
        async def disconnect(self, code: int) -> None:
            await asyncio.sleep(0)
            codes.append(code)

    socket = await opened(Leaving.as_asgi())
    await socket.send_json_to(1)
    await until(lambda: only_connection().handler_since is not None)
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    assert codes == [4423]


# Consumers that are not ours ------------------------------------------------------------------------------------------


class PlainHanging(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await asyncio.Event().wait()


class PlainFlooding(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        while True:
            await self.send(text_data=text_data)


@pytest.mark.parametrize("consumer", [PlainHanging, PlainFlooding])
async def test_other_peoples_consumers_are_severed_too(consumer: Any, user: User) -> None:
    socket = await opened(consumer.as_asgi(), user=user)
    await socket.send_json_to(1)
    await until(lambda: only_connection().received == 1)
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    assert await socket.closing() == (4423, "blocked")


async def test_a_block_severs_whoever_it_names(user: User) -> None:
    sockets = [await opened(consumer.as_asgi(), user=user) for consumer in (Echo, Hanging, PlainHanging)]
    for socket in sockets[1:]:
        await socket.send_json_to(1)
    await until(lambda: sum(connection.received for connection in registry()) == 2)
    await blocklist.ablock(user=user)
    for socket in sockets:
        assert await told(socket) == ("blocked", 4423)


async def test_an_application_that_reads_on_after_the_end_is_told_of_it() -> None:
    events: list[Any] = []

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await receive()
        except asyncio.CancelledError:
            events.append(await receive())

    settings_of: dict[str, Any] = {"user": await User.objects.acreate_user("bob")}
    socket = await opened(plain, **settings_of)
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    assert events == [{"type": "websocket.disconnect", "code": 4423}]


# Peers that do not read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consumer", [Echo, Flooding, FloodingBlindly])
async def test_a_peer_that_does_not_read_cannot_delay_it(consumer: type[SecureJsonConsumer]) -> None:
    socket = StalledPeer(guarded(consumer.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    socket.stall()
    await socket.send_json_to(1)
    connection = only_connection()
    await until(lambda: connection.sending == 1)
    began = time.monotonic()
    assert connection.sever(BLOCKED)
    await ends(socket)
    assert time.monotonic() - began < farewell.GRACE + 0.5
    (closed,) = await rows(kind="connection.closed")
    assert closed.reason == "blocked"


async def test_a_peer_known_to_be_stalled_is_given_no_time() -> None:
    socket = StalledPeer(guarded(Echo.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    socket.stall()
    await socket.send_json_to(1)
    connection = only_connection()
    await until(lambda: connection.sending == 1)
    connection.sending_since = time.monotonic() - 1
    assert connection.grace < 0.05
    assert connection.sever(BLOCKED)
    await ends(socket)


async def test_a_peer_that_reads_late_still_learns_why() -> None:
    socket = StalledPeer(guarded(Echo.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    socket.stall()
    assert only_connection().sever(BLOCKED)
    assert (await socket.receive_output())["type"] == "in the buffer"
    assert await told(socket) == ("blocked", 4423)


async def test_many_are_severed_together(user: User) -> None:
    sockets = [await opened(consumer.as_asgi()) for consumer in (Echo, Hanging, Flooding, Reviving) * 5]
    for socket in sockets:
        await socket.send_json_to(1)
    await until(lambda: all(connection.received == 1 for connection in registry()))
    began = time.monotonic()
    for connection in registry():
        assert connection.sever(BLOCKED)
    for socket in sockets:
        await ends(socket, within=5) if socket is sockets[-1] else await asyncio.wait({socket.future}, timeout=5)
    assert time.monotonic() - began < 2


# Peers that are gone --------------------------------------------------------------------------------------------------


class Gone:
    """A server whose `send` raises from the `after`-th event on, as those do whose peer has left."""

    def __init__(self, socket: SecureCommunicator, error: Exception, after: int) -> None:
        self.error, self.left = error, after
        self.put = socket.output_queue.put
        socket.output_queue.put = self.send  # type: ignore[method-assign]

    async def send(self, event: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error
        await self.put(event)


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("gone"), ConnectionResetError()])
@pytest.mark.parametrize("consumer", [Echo, Flooding])
async def test_a_peer_that_has_left_ends_the_handler_quietly(
    error: Exception, consumer: type[SecureJsonConsumer], caplog: pytest.LogCaptureFixture
) -> None:
    socket = connect(consumer)
    Gone(socket, error, after=3)
    assert (await socket.shake_hands()).accepted
    for _ in range(4):
        await socket.send_json_to(1)
    await ends(socket)
    assert logged(caplog) == []
    (closed,) = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["by"]) == ("", "transport")


async def test_a_peer_that_has_left_before_the_goodbye_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Exception):
        """Autobahn's and others' own."""

    socket = connect(Echo)
    Gone(socket, Odd(), after=1)
    assert (await socket.shake_hands()).accepted
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    assert logged(caplog) == []


async def test_a_peer_that_leaves_during_the_handshake_leaves_nothing() -> None:
    gate, asked = asyncio.Event(), asyncio.Event()

    class Slow(Echo):
        async def authorize(self) -> bool:
            asked.set()
            await gate.wait()
            return True

    socket = connect(Slow)
    Gone(socket, OSError("gone"), after=0)
    await socket.send_input({"type": "websocket.connect"})
    await asked.wait()
    await socket.send_input({"type": "websocket.disconnect", "code": 1006})
    gate.set()
    await ends(socket)


# The handshake's deadline ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["authorize", "connect"])
async def test_a_handshake_that_hangs_is_refused(settings: Any, where: str) -> None:
    settings.CHANNELS_SECURE = {"HANDSHAKE_TIMEOUT": 0.05, "REJECTION": "http"}

    class Hangs(Echo):
        async def authorize(self) -> bool:
            if where == "authorize":
                await asyncio.Event().wait()
            return True

        async def connect(self) -> None:
            await asyncio.Event().wait()

    outcome = await connect(Hangs).shake_hands()
    assert (outcome.status, outcome.error["code"]) == (503, "handshake_timeout")
    assert await kinds() == ["handshake.denied handshake_timeout"]


async def test_after_the_accept_the_handshakes_deadline_is_over(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"HANDSHAKE_TIMEOUT": 0.05}
    async with connect(Echo) as socket:
        accepted = only_connection().heard_at
        await until(lambda: time.monotonic() > accepted + 0.1)
        assert await ask(socket, 1) == 1


# The server's own cancellation ----------------------------------------------------------------------------------------


async def test_a_cancellation_by_the_server_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    socket = await opened(Hanging.as_asgi())
    await socket.send_json_to(1)
    await until(lambda: only_connection().handler_since is not None)
    socket.future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await socket.future
    assert len(registry()) == 0
    assert await kinds() == ["connection.accepted", "connection.closed"]
    assert logged(caplog) == []


async def test_a_cancellation_by_the_server_during_ours_is_passed_on_too() -> None:
    socket = StalledPeer(guarded(Hanging.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    socket.stall()
    await socket.send_json_to(1)
    await until(lambda: only_connection().handler_since is not None)
    connection = only_connection()
    assert connection.sever(BLOCKED)
    socket.future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await socket.future
    assert len(registry()) == 0
    assert (await kinds()).count("connection.closed blocked") == 1


async def test_our_own_cancellation_does_not_reach_the_server() -> None:
    """uvicorn logs a traceback when it does, and whatever else the task does must not find itself cancelled."""
    socket = await opened(Hanging.as_asgi())
    await socket.send_json_to(1)
    await until(lambda: only_connection().handler_since is not None)
    assert only_connection().sever(BLOCKED)
    await ends(socket)
    assert not socket.future.cancelled()
    assert socket.future.cancelling() == 0


# Every await ----------------------------------------------------------------------------------------------------------


@coroutine
def interrupted(call: Coroutine[Any, Any, Any], at: int, seen: list[int], strike: Callable[[], Any]) -> Any:
    """Run a coroutine; at its `at`-th suspension, wherever in it or below it that is, `strike`.

    An exception that `strike` raises is what the awaited thing raises.
    """
    step: Callable[..., Any] = call.send
    argument: Any = None
    while True:
        try:
            future = step(argument)
        except StopIteration as stop:
            return stop.value
        seen.append(len(seen) + 1)
        try:
            if len(seen) == at:
                strike()
            argument = yield future
            step = call.send
        except BaseException as error:  # noqa: BLE001 - whatever arrives goes to the coroutine
            step, argument = call.throw, error


class SuspendingLayer(InMemoryChannelLayer):
    """Gives others a turn at each call, as a layer does that talks to a server."""

    async def group_add(self, *arguments: Any) -> None:
        await asyncio.sleep(0)
        await super().group_add(*arguments)

    async def group_discard(self, *arguments: Any) -> None:
        await asyncio.sleep(0)
        await super().group_discard(*arguments)

    async def group_send(self, *arguments: Any) -> None:
        await asyncio.sleep(0)
        await super().group_send(*arguments)

    async def new_channel(self, *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return await super().new_channel(*arguments)


def suspending(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The `send` or `receive` of a server, which may take its time before and after."""

    async def slow(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        answer = await call(*arguments)
        await asyncio.sleep(0)
        return answer

    return slow


class Busy(SecureJsonConsumer):
    """Suspends in as many places as there are."""

    allow_anonymous = True
    groups = ["lobby"]

    async def authorize(self) -> bool:
        await asyncio.sleep(0)
        return True

    async def connect(self) -> None:
        await self.join("other")
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.broadcast("lobby", content)
        await self.send_json(content)

    async def disconnect(self, code: int) -> None:
        await asyncio.sleep(0)


async def session(
    call: Callable[[Any, Any, Any], Awaitable[None]], user: User
) -> tuple[SecureCommunicator, BaseException | None]:
    """One visit: connect, a message, leave; whatever happens to it."""
    socket = SecureCommunicator(call, "/ws/", user=user)
    for event in (
        {"type": "websocket.receive", "text": "1"},
        {"type": "websocket.receive", "text": "nonsense"},
        {"type": "websocket.disconnect", "code": 1000},
    ):
        socket.input_queue.put_nowait(event)
    waiting = socket.input_queue
    first = waiting.get
    connect_event = iter([{"type": "websocket.connect"}])

    async def get() -> Any:
        event = next(connect_event, None)
        return event if event is not None else await first()

    waiting.get = get  # type: ignore[method-assign]
    if socket.user is not None:
        from channels_secure import database
        from channels_secure.testing import log_in

        key = await database.run(log_in, socket.user)
        socket.scope["headers"].append((b"cookie", f"sessionid={key}".encode()))
    async with asyncio.timeout(10):
        await asyncio.wait({socket.future})
    return socket, None if socket.future.cancelled() else socket.future.exception()


def check_nothing_is_left(new: list[str], where: str) -> None:
    assert len(registry()) == 0, where
    assert holders() == 0, where
    assert hub()._groups == {}, where
    terminal = [kind for kind in new if kind.startswith(("connection.closed", "handshake.denied"))]
    assert len(terminal) <= 1, (where, new)
    if any(kind.startswith("connection.accepted") for kind in new):
        assert len(terminal) == 1, (where, new)


def cancel() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def sever() -> None:
    for connection in registry():
        connection.sever(BLOCKED)


def fail() -> None:
    raise DatabaseError("away")


@pytest.mark.parametrize("strike", [cancel, sever, fail], ids=lambda strike: strike.__name__)
async def test_struck_at_any_await_a_connection_leaves_nothing_and_one_last_word(
    user: User, settings: Any, strike: Callable[[], None]
) -> None:
    settings.CHANNELS_SECURE = {"HANDSHAKE_RATES": {"ip": None, "user": None}, "AUDIT_FLUSH_INTERVAL": 60}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_severing.SuspendingLayer"}}
    app = guarded(Busy.as_asgi())
    written = 0
    for at in range(1, 100):
        seen: list[int] = []

        async def call(scope: Any, receive: Any, send: Any, at: int = at, seen: list[int] = seen) -> None:
            visit: Any = app(scope, suspending(receive), suspending(send))
            await interrupted(visit, at, seen, strike)

        socket, error = await session(call, user)
        new = (await kinds())[written:]
        written += len(new)
        check_nothing_is_left(new, f"{strike.__name__} at await {at}")
        if len(seen) < at:
            # The visit was over before: every await has had its turn.
            assert error is None
            assert at > 20
            break
        assert socket.future.cancelled() is (strike is cancel), f"at await {at}"
        if strike is sever:
            assert error is None
            assert [kind for kind in new if kind.startswith(("connection.closed", "handshake.denied"))], (
                f"at await {at}"
            )
    else:
        raise AssertionError("a visit has fewer awaits")


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("gone"), ValueError("odd"), asyncio.CancelledError()])
@pytest.mark.parametrize("what", ["send", "receive"])
async def test_a_server_that_raises_at_any_call_leaves_nothing_and_one_last_word(
    user: User, settings: Any, what: str, error: BaseException
) -> None:
    settings.CHANNELS_SECURE = {"HANDSHAKE_RATES": {"ip": None, "user": None}, "AUDIT_FLUSH_INTERVAL": 60}
    app = guarded(Busy.as_asgi())
    written = 0
    for at in range(1, 20):
        calls: list[int] = []

        def counting(inner: Any, at: int = at, calls: list[int] = calls) -> Any:
            async def call(*arguments: Any) -> Any:
                calls.append(1)
                if len(calls) == at:
                    raise error
                return await inner(*arguments)

            return call

        async def call(scope: Any, receive: Any, send: Any, counting: Any = counting) -> None:
            if what == "send":
                await app(scope, receive, counting(send))
            else:
                await app(scope, counting(receive), send)

        _, raised = await session(call, user)
        new = (await kinds())[written:]
        written += len(new)
        check_nothing_is_left(new, f"{what} {at}")
        if len(calls) < at:
            assert at > 3
            break
        if raised is not None:
            # Only what the very first `receive` raises, when there is no connection yet, is the server's to see.
            assert (what, at) == ("receive", 1)
    else:
        raise AssertionError("a visit has fewer calls")


async def test_a_connection_is_made_inside_the_task_that_serves_it() -> None:
    async with connect(Echo):
        connection = only_connection()
        assert isinstance(connection, Connection)
        assert connection.task is not asyncio.current_task()
        assert repr(connection) == f"<Connection {connection.id}>"
    await calm()
