"""Reading ahead: what becomes of the frames that come while a handler runs on."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from channels.layers import get_channel_layer

from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer, ahead, handles
from channels_secure.exceptions import PeerGone
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.supervisor import sweeping
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import ask, logged, only_connection, quiet, rows, swept, told, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

UNLIMITED = {"MESSAGE_RATES": {"connection": None, "user": None}, "ERROR_BUDGET": None}


@pytest.fixture(autouse=True)
def impatient(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look of the supervisor at a handler that runs begins to read ahead."""
    monkeypatch.setattr(sweeping, "PATIENCE", 0.0)
    settings.CHANNELS_SECURE = UNLIMITED


class Nothing(msgspec.Struct):
    pass


class Number(msgspec.Struct):
    number: int
    padding: str = ""


class Worker(SecureJsonConsumer):
    """`work` waits for the gate; `count` says its number back."""

    allow_anonymous = True
    gate: asyncio.Event
    told: list[Any]

    @handles("work")
    async def work(self, message: Nothing) -> None:
        await self.gate.wait()
        self.told.append("worked")
        await self.send_json({"type": "worked"})

    @handles("count")
    async def count(self, message: Number) -> None:
        self.told.append(message.number)
        await self.send_json({"type": "counted", "number": message.number})

    async def disconnect(self, code: int) -> None:
        self.told.append(("left", code))


class Peer(SecureCommunicator):
    """A client of a worker, which insists that nobody asks the server for two frames at once."""

    def __init__(self, consumer: type[Worker]) -> None:
        super().__init__(self._watched(guarded(consumer.as_asgi())), "/ws/")
        self.consumer = consumer
        self.askers = 0

    def _watched(self, application: Any) -> Any:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def alone() -> Any:
                self.askers += 1
                try:
                    assert self.askers == 1
                    return await receive()
                finally:
                    self.askers -= 1

            await application(scope, alone, send)

        return watched

    @property
    def waiting(self) -> int:
        """How many frames wait in the server."""
        return int(self.input_queue.qsize())

    async def count(self, *numbers: int, **more: Any) -> None:
        for number in numbers:
            await self.send_json_to({"type": "count", "id": number, "number": number, **more})

    async def all_read(self) -> None:
        await until(lambda: not self.waiting)


@asynccontextmanager
async def working(base: type[Worker] = Worker) -> AsyncIterator[Peer]:
    """A socket whose handler has been found to run on."""

    class Here(base):  # type: ignore[valid-type, misc]
        gate = asyncio.Event()
        told: list[Any] = []

    socket = Peer(Here)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "work"})
    await until(lambda: only_connection().handler_since is not None)
    await swept()
    yield socket
    Here.gate.set()
    await socket.disconnect()


def only_consumer() -> Any:
    """The consumer of the one socket that is open."""
    return only_connection().consumer


# Order and amount -----------------------------------------------------------------------------------------------------


async def test_what_was_kept_is_handled_in_order_and_what_comes_later_after_it() -> None:
    async with working() as socket:
        await socket.count(1, 2, 3)
        await socket.all_read()
        assert socket.consumer.told == []
        socket.consumer.gate.set()
        await socket.count(4, 5)
        assert await socket.receive_json_from() == {"type": "worked"}
        for number in (1, 2, 3, 4, 5):
            assert await socket.receive_json_from() == {"type": "counted", "number": number}
        for number in (6, 7):
            await socket.count(number)
            assert await socket.receive_json_from() == {"type": "counted", "number": number}


async def test_without_reading_ahead_frames_wait_in_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other tests look at does fail where nobody reads ahead."""
    monkeypatch.setattr(sweeping, "PATIENCE", math.inf)
    async with working() as socket:
        await socket.count(*range(200))
        await swept()
        assert socket.waiting == 200


async def test_the_loop_reads_by_itself_again_once_it_has_caught_up() -> None:
    async with working() as socket:
        inbox = only_consumer().inbox
        assert inbox.ahead is not None
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        assert await ask(socket, {"type": "count", "number": 1}) == {"type": "counted", "number": 1}
        assert inbox.ahead is None
        socket.consumer.gate.clear()
        await socket.send_json_to({"type": "work"})
        await until(lambda: only_connection().handler_since is not None)
        await swept()
        await socket.count(2)
        await socket.all_read()
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        assert await socket.receive_json_from() == {"type": "counted", "number": 2}


async def test_only_so_many_are_kept_and_the_rest_is_answered() -> None:
    async with working() as socket:
        await socket.count(*range(ahead.MAX_FRAMES + 3))
        for number in range(ahead.MAX_FRAMES, ahead.MAX_FRAMES + 3):
            frame = await socket.receive_json_from()
            assert (frame["code"], frame["ref"], frame["fatal"]) == ("rate_limited", number, False)
            assert frame["retry_after"] == ahead.RETRY_AFTER
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        for number in range(ahead.MAX_FRAMES):
            assert await socket.receive_json_from() == {"type": "counted", "number": number}
    refused = await rows(kind="message.denied")
    assert [(event.reason, event.detail.get("detail", "")) for event in refused] == [("rate_limited", "")]
    assert sum(event.count for event in refused) == 3


async def test_only_so_many_characters_are_kept_but_one_message_always_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MAX_CHARACTERS", 500)
    async with working() as socket:
        await socket.count(1, padding="x" * 1000)
        await socket.count(2)
        assert (await socket.receive_json_from())["ref"] == 2
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        assert await socket.receive_json_from() == {"type": "counted", "number": 1}
        await socket.count(3)
        assert await socket.receive_json_from() == {"type": "counted", "number": 3}


async def test_what_has_been_handled_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Again(Worker):
        """Closes the gate behind each number."""

        @handles("count")
        async def count(self, message: Number) -> None:
            self.gate.clear()
            await self.send_json({"type": "counted", "number": message.number})

    monkeypatch.setattr(ahead, "MAX_CHARACTERS", 500)
    async with working(Again) as socket:
        await socket.count(1, padding="x" * 300)
        await socket.send_json_to({"type": "work"})
        await socket.all_read()
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        assert await socket.receive_json_from() == {"type": "counted", "number": 1}
        await socket.count(2, 3, padding="x" * 150)
        await socket.all_read()
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        for number in (2, 3):
            assert await socket.receive_json_from() == {"type": "counted", "number": number}


async def test_a_flood_does_not_wait_in_the_server_and_is_answered_within_bounds() -> None:
    async with working() as socket:
        await socket.count(*range(2_000))
        await socket.all_read()
        await swept()
        assert only_connection().received == 2_001
        assert socket.output_queue.qsize() < 250
    assert sum(event.count for event in await rows(kind="message.denied")) == 2_000 - ahead.MAX_FRAMES


# The guards -----------------------------------------------------------------------------------------------------------


async def test_frames_are_charged_when_they_are_read_and_only_then(settings: Any) -> None:
    settings.CHANNELS_SECURE = {**UNLIMITED, "MESSAGE_RATES": {"connection": "4/h", "user": None}}
    async with working() as socket:
        await socket.count(1, 2, 3, 4)
        frame = await socket.receive_json_from()
        # The rate's refusal comes before parsing, so it knows no id.
        assert (frame["code"], "ref" in frame) == ("rate_limited", False)
        assert frame["retry_after"] > 60
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        for number in (1, 2, 3):
            assert await socket.receive_json_from() == {"type": "counted", "number": number}


@pytest.mark.parametrize(
    ("event", "reason", "code"),
    [({"bytes": b"binary"}, "unsupported_data", 4415), ({"text": "x" * 70_000}, "message_too_big", 4413)],
)
async def test_what_closes_at_once_does_so_while_a_handler_runs(event: Any, reason: str, code: int) -> None:
    async with working() as socket:
        await socket.send_input({"type": "websocket.receive", **event})
        frame = await socket.receive_json_from()
        assert (frame["code"], frame["fatal"]) == (reason, True)
        assert (await socket.receive_output())["code"] == code
        assert socket.consumer.told == []
        socket.consumer.gate.set()
        await socket.wait()
        assert socket.consumer.told == ["worked", ("left", code)]


async def test_malformed_messages_are_answered_and_spend_the_error_budget(settings: Any) -> None:
    settings.CHANNELS_SECURE = {**UNLIMITED, "ERROR_BUDGET": "2/h"}
    async with working() as socket:
        for _ in range(2):
            assert (await ask(socket, {"type": "nonsense"}))["code"] == "unknown_type"
        await socket.send_json_to({"type": "nonsense"})
        frame = await socket.receive_json_from()
        assert (frame["code"], frame["fatal"]) == ("too_many_errors", True)
        socket.consumer.gate.set()
        assert await socket.closing() == (4400, "too_many_errors")


async def test_a_ping_is_answered_while_a_handler_runs() -> None:
    async with working() as socket:
        assert await ask(socket, {"type": "ping", "id": 7}) == {"type": "pong", "ref": 7}
        assert socket.consumer.told == []


async def test_a_pong_takes_no_place() -> None:
    async with working() as socket:
        for _ in range(ahead.MAX_FRAMES + 1):
            await socket.send_json_to({"type": "pong"})
        await socket.count(*range(ahead.MAX_FRAMES))
        await socket.all_read()
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        for number in range(ahead.MAX_FRAMES):
            assert await socket.receive_json_from() == {"type": "counted", "number": number}


async def test_a_slow_handler_is_no_reason_to_miss_a_heartbeat(settings: Any) -> None:
    beat = {"HEARTBEAT_INTERVAL": 0.05, "HEARTBEAT_TIMEOUT": 1.0, "POLICY_REFRESH_INTERVAL": 0.05}
    settings.CHANNELS_SECURE = {**UNLIMITED, **beat}
    async with working() as socket:
        connection = only_connection()
        silent_until = connection.loop.time() + 1.2
        while connection.loop.time() < silent_until:
            await swept()
        assert not connection.ended
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        for _ in range(3):
            assert await socket.receive_json_from() == {"type": "ping"}
            await socket.send_json_to({"type": "pong"})


async def test_what_was_kept_is_not_handled_after_a_decision() -> None:
    async with working() as socket:
        await socket.count(1, 2)
        await socket.all_read()
        only_connection().deny(Denial(reason=Reason.BLOCKED))
        socket.consumer.gate.set()
        assert await socket.closing() == (4423, "blocked")
        assert socket.consumer.told == ["worked", ("left", 4423)]


async def test_a_sever_ends_the_reader_with_the_handler() -> None:
    async with working() as socket:
        await socket.count(1)
        await socket.all_read()
        assert only_connection().sever(Denial(reason=Reason.BLOCKED))
        assert await told(socket) == ("blocked", 4423)
        assert socket.consumer.told == [("left", 4423)]
        await until(lambda: not socket.askers)


async def test_a_socket_that_has_caught_up_can_be_severed_while_it_waits() -> None:
    async with working() as socket:
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        assert only_connection().sever(Denial(reason=Reason.BLOCKED))
        assert await told(socket) == ("blocked", 4423)


async def test_a_message_read_just_before_a_decision_is_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = ahead.Ahead._keep

    def keep_and_deny(reader: ahead.Ahead, text: str) -> None:
        keep(reader, text)
        only_connection().deny(Denial(reason=Reason.BLOCKED))

    async with working() as socket:
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        monkeypatch.setattr(ahead.Ahead, "_keep", keep_and_deny)
        await socket.count(1)
        assert await told(socket) == ("blocked", 4423)
        assert socket.consumer.told == ["worked", ("left", 4423)]


# A peer that leaves ---------------------------------------------------------------------------------------------------


class Paying(Worker):
    """Finds out only by sending that nobody is there, and then finishes all the same."""

    @handles("work")
    async def work(self, message: Nothing) -> None:
        await self.gate.wait()
        try:
            await self.send_json({"type": "worked"})
        except PeerGone:
            self.told.append("nobody there")
        await asyncio.sleep(0)
        self.told.append("paid")


async def test_a_handler_whose_peer_has_left_is_told_when_it_sends_and_left_to_finish() -> None:
    async with working(Paying) as socket:
        await socket.count(1)
        await socket.send_input({"type": "websocket.disconnect", "code": 1001})
        await until(lambda: only_connection().ended)
        await swept()
        assert socket.consumer.told == []
        socket.consumer.gate.set()
        await socket.wait()
        assert socket.consumer.told == ["nobody there", "paid", ("left", 1001)]
    (closed,) = await rows(kind="connection.closed")
    assert (closed.detail["by"], closed.detail["code"]) == ("client", 1001)


async def test_a_handler_whose_peer_has_left_keeps_its_deadline(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNELS_SECURE = {**UNLIMITED, "HANDLER_TIMEOUT": 0.3, "DISCONNECT_TIMEOUT": 0.01}
    async with working() as socket:
        await socket.send_input({"type": "websocket.disconnect", "code": 1001})
        await until(lambda: only_connection().ended)
        while "handler.timeout" not in logged(caplog):
            assert socket.consumer.told == []
            await swept()
        await socket.wait()
        assert socket.consumer.told == [("left", 1001)]


async def test_a_peer_that_leaves_after_the_loop_has_caught_up_is_noticed() -> None:
    async with working() as socket:
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await socket.wait()
        assert socket.consumer.told == ["worked", ("left", 1000)]


async def test_a_server_that_fails_while_read_ahead_ends_the_socket(caplog: pytest.LogCaptureFixture) -> None:
    async with working() as socket:
        # An event without a type is no ASGI event.
        await socket.send_input({})
        assert await told(socket) == ("internal_error", 4500)
        assert "application.failed" in logged(caplog)


async def test_an_answer_that_finds_nobody_ends_the_reading() -> None:
    async with working() as socket:
        connection = only_connection()

        async def gone(event: Any) -> None:
            raise OSError

        connection.server_send = gone
        await socket.send_json_to({"type": "ping"})
        await until(lambda: connection.ended)
        socket.consumer.gate.set()
        await socket.wait()
        assert socket.consumer.told == ["worked", ("left", 1006)]


# Other than handlers of messages --------------------------------------------------------------------------------------


async def test_frames_are_read_ahead_of_a_connect_that_goes_on_after_its_accept() -> None:
    class Slow(Worker):
        async def connect(self) -> None:
            await self.accept()
            await self.gate.wait()

    Slow.gate, Slow.told = asyncio.Event(), []
    socket = Peer(Slow)
    assert (await socket.shake_hands()).accepted
    await swept()
    await socket.count(1, 2)
    await socket.all_read()
    assert Slow.told == []
    Slow.gate.set()
    for number in (1, 2):
        assert await socket.receive_json_from() == {"type": "counted", "number": number}
    await socket.disconnect()


async def test_a_connect_that_fails_is_no_handler_that_runs_on() -> None:
    class Failing(Worker):
        async def connect(self) -> None:
            await self.accept()
            raise ValueError

        async def disconnect(self, code: int) -> None:
            self.told.append(self.connection.handler_since)

    Failing.told = []
    socket = Peer(Failing)
    await socket.shake_hands()
    assert await told(socket) == ("internal_error", 4500)
    assert Failing.told == [None]


async def test_nothing_is_read_ahead_of_a_connect_that_has_not_accepted() -> None:
    class Slow(Worker):
        async def connect(self) -> None:
            await self.gate.wait()
            await self.accept()

    Slow.gate, Slow.told = asyncio.Event(), []
    socket = Peer(Slow)
    await socket.send_input({"type": "websocket.connect"})
    await until(lambda: bool(len(registry())) and only_connection().handler_since is not None)
    await socket.count(1)
    await swept()
    assert socket.waiting == 1
    Slow.gate.set()
    assert (await socket.receive_output())["type"] == "websocket.accept"
    assert await socket.receive_json_from() == {"type": "counted", "number": 1}
    await socket.disconnect()


async def test_frames_are_read_ahead_of_an_event_of_the_channel_layer() -> None:
    class Listening(Worker):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json({"channel": self.channel_name})

        async def news(self, event: Any) -> None:
            await self.gate.wait()
            await self.send_json({"type": "news"})

    Listening.gate, Listening.told = asyncio.Event(), []
    socket = Peer(Listening)
    assert (await socket.shake_hands()).accepted
    channel = (await socket.receive_json_from())["channel"]
    for _ in range(2):
        await get_channel_layer().send(channel, {"type": "news"})
        await until(lambda: only_connection().handler_since is not None)
        await swept()
        # The loop itself waits for the first of them, and keeps it until the event has been handled.
        await socket.count(1)
        await socket.all_read()
        await swept()
        await socket.count(2, 3)
        await socket.all_read()
        assert Listening.told == []
        Listening.gate.set()
        assert await socket.receive_json_from() == {"type": "news"}
        for number in (1, 2, 3):
            assert await socket.receive_json_from() == {"type": "counted", "number": number}
        Listening.gate.clear()
        Listening.told.clear()
    await socket.disconnect()


async def test_an_event_is_handled_to_its_end_when_the_peer_leaves_a_loop_that_has_caught_up() -> None:
    class Listening(Worker):
        async def news(self, event: Any) -> None:
            self.gate.clear()
            self.told.append("news")
            await self.gate.wait()
            self.told.append("read")

    async with working(Listening) as socket:
        await get_channel_layer().send(only_consumer().channel_name, {"type": "news"})
        socket.consumer.gate.set()
        assert await socket.receive_json_from() == {"type": "worked"}
        await until(lambda: "news" in socket.consumer.told)
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await until(lambda: only_connection().ended)
        await swept()
        socket.consumer.gate.set()
        await socket.wait()
        assert socket.consumer.told == ["worked", "news", "read", ("left", 1000)]


async def test_a_drop_in_class_gets_every_value_in_order() -> None:
    class DropIn(SecureJsonConsumer):
        allow_anonymous = True
        gate = asyncio.Event()

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.gate.wait()
            await self.send_json(content)

    socket = SecureCommunicator(guarded(DropIn.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    values = [1, {"type": "ping"}, [2], "text", {"type": "pong"}]
    await socket.send_json_to(values[0])
    await until(lambda: only_connection().handler_since is not None)
    await swept()
    for value in values[1:]:
        await socket.send_text(json.dumps(value))
    await until(lambda: not socket.input_queue.qsize())
    DropIn.gate.set()
    assert [await socket.receive_json_from() for _ in values] == values
    await socket.disconnect()
