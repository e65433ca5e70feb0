"""The consumer: what it does with frames, events and exceptions, one at a time and in order."""

import asyncio
import json
from typing import Annotated, Any

import msgspec
import pytest
from channels.exceptions import AcceptConnection, DenyConnection, StopConsumer
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.urls import path
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.exceptions import Denied
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import (  # noqa: F401
    Echo,
    ask,
    ask_raw,
    connect,
    kinds,
    logged,
    only_connection,
    quiet,
    rows,
    told,
    until,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


SUPERVISOR = "channels_secure.supervisor"


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Nothing(msgspec.Struct):
    pass


class Chat(SecureJsonConsumer):
    allow_anonymous = True

    @handles("say")
    async def say(self, message: Say) -> None:
        await self.send_json({"said": message.text})


# Messages -------------------------------------------------------------------------------------------------------------


async def test_a_message_reaches_its_handler_as_an_instance_of_its_schema() -> None:
    async with connect(Chat) as socket:
        assert await ask(socket, {"type": "say", "text": "hi", "id": 4}) == {"said": "hi"}


async def test_a_refused_message_is_answered_with_its_id_and_the_socket_stays_open() -> None:
    async with connect(Chat) as socket:
        assert await ask(socket, {"type": "say", "text": "", "id": "q7"}) == {
            "type": "error",
            "code": "invalid_message",
            "message": "The message is not valid.",
            "fatal": False,
            "errors": [{"path": "text", "message": "Expected `str` of length >= 1"}],
            "ref": "q7",
        }
        assert await ask(socket, {"type": "shout", "text": "", "id": 0}) == {
            "type": "error",
            "code": "unknown_type",
            "message": "The message type is not known.",
            "fatal": False,
            "ref": 0,
        }
        assert await ask(socket, {"type": "say", "text": "hi"}) == {"said": "hi"}
    assert (await kinds()).count("message.denied invalid_message") == 1
    assert (await kinds()).count("message.denied unknown_type") == 1


@pytest.mark.parametrize("text", ["", " ", "nonsense", "null", "[]", "5", '{"type":"say","text":"a","text":"b"}'])
async def test_what_is_no_message_is_answered_and_the_socket_stays_open(text: str) -> None:
    async with connect(Chat) as socket:
        assert (await ask_raw(socket, text))["code"] == "invalid_message"
        assert await ask(socket, {"type": "say", "text": "hi"}) == {"said": "hi"}


@pytest.mark.parametrize(
    "kind",
    [
        "websocket.disconnect", "websocket.receive", "websocket.connect", "connect", "disconnect", "receive",
        "receive_json",
        "send", "send_json", "close", "accept", "dispatch", "scope", "authorize", "join", "broadcast", "__init__",
        "_loop",
        "say ", "Say",
    ],
)  # fmt: skip
async def test_a_type_is_never_looked_up_among_attributes(kind: str) -> None:
    async with connect(Chat) as socket:
        assert (await ask(socket, {"type": kind, "text": "hi", "code": 1000}))["code"] == "unknown_type"
        assert await ask(socket, {"type": "say", "text": "hi"}) == {"said": "hi"}


@pytest.mark.parametrize("consumer", [Chat, Echo])
@pytest.mark.parametrize("data", [b"\x00", b'{"type":"say","text":"hi"}', b""])
async def test_binary_data_closes_the_socket(consumer: type[SecureJsonConsumer], data: bytes) -> None:
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    await socket.send_input({"type": "websocket.receive", "bytes": data})
    assert await told(socket) == ("unsupported_data", 4415)
    assert "message.denied unsupported_data" in await kinds()


@pytest.mark.parametrize("consumer", [Chat, Echo])
async def test_a_message_too_big_closes_the_socket_unparsed(settings: Any, consumer: type[SecureJsonConsumer]) -> None:
    settings.CHANNELS_SECURE = {"MAX_MESSAGE_SIZE": 60}
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    fits = '{"type":"say","text":"' + "é" * 18 + '"}'
    assert len(fits.encode()) == 60
    assert await ask_raw(socket, fits) in ({"said": "é" * 18}, {"type": "say", "text": "é" * 18})
    await socket.send_text(fits + " ")
    assert await told(socket) == ("message_too_big", 4413)


async def test_depth_is_bounded_by_the_setting(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"MAX_MESSAGE_DEPTH": 3}
    async with connect(Echo) as socket:
        assert await ask(socket, [[[1]]]) == [[[1]]]
        assert (await ask(socket, [[[[1]]]]))["errors"] == [{"path": "", "message": "Nested too deeply"}]


# Frames of the package ------------------------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_its_id() -> None:
    async with connect(Chat) as socket:
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}
        assert await ask(socket, {"type": "ping", "id": 7}) == {"type": "pong", "ref": 7}
        assert (await ask(socket, {"type": "ping", "more": 1}))["code"] == "invalid_message"


async def test_a_pong_is_not_answered() -> None:
    async with connect(Chat) as socket:
        await socket.send_json_to({"type": "pong"})
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}


async def test_a_drop_in_class_gets_ping_frames_itself_unless_it_leaves_them_to_us() -> None:
    class Ours(Echo):
        control_frames = True

    class Beating(Echo):
        heartbeat_interval = 1000

    async with connect(Echo) as socket:
        assert await ask(socket, {"type": "ping", "id": 1}) == {"type": "ping", "id": 1}
    for consumer in (Ours, Beating):
        async with connect(consumer) as socket:
            assert await ask(socket, {"type": "ping", "id": 1}) == {"type": "pong", "ref": 1}
            await socket.send_json_to({"type": "pong"})
            assert await ask(socket, {"type": "other"}) == {"type": "other"}


async def test_hello_says_what_a_client_needs_to_know(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"SEND_HELLO": True, "HEARTBEAT_INTERVAL": 25, "MAX_MESSAGE_SIZE": 4096}
    async with connect(Chat) as socket:
        hello = await socket.receive_json_from()
        assert hello == {
            "type": "hello",
            "connection_id": only_connection().id,
            "heartbeat_interval": 25,
            "max_message_size": 4096,
            "expires_in": None,
        }
    settings.CHANNELS_SECURE = {}
    async with connect(Chat) as socket:
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}


# Entering -------------------------------------------------------------------------------------------------------------


class Door(SecureJsonConsumer):
    """Writes down what of it has run."""

    allow_anonymous = True
    ran: list[str] = []

    async def authorize(self) -> bool:
        self.ran.append("authorize")
        return True

    async def connect(self) -> None:
        self.ran.append("connect")
        await self.accept()

    async def disconnect(self, code: int) -> None:
        self.ran.append(f"disconnect {code}")


@pytest.fixture
def door() -> type[Door]:
    class Fresh(Door):
        ran: list[str] = []

    return Fresh


async def test_authorize_is_asked_before_connect(door: type[Door]) -> None:
    async with connect(door):
        assert door.ran == ["authorize", "connect"]
    assert door.ran == ["authorize", "connect", "disconnect 1000"]


async def test_who_is_not_authorized_gets_no_further(door: type[Door], settings: Any) -> None:
    class Closed(door):  # type: ignore[valid-type,misc]
        async def authorize(self) -> bool:
            await super().authorize()
            return False

    outcome = await connect(Closed).shake_hands()
    assert (outcome.code, outcome.reason) == (4403, "permission_denied")
    settings.CHANNELS_SECURE = {"REJECTION": "http"}
    outcome = await connect(Closed).shake_hands()
    assert (outcome.status, outcome.error["code"]) == (403, "permission_denied")
    assert door.ran == ["authorize", "authorize"]
    assert await kinds() == ["handshake.denied permission_denied"] * 2


async def test_nobody_anonymous_is_asked_anything(door: type[Door]) -> None:
    door.allow_anonymous = False
    outcome = await connect(door).shake_hands()
    assert (outcome.code, outcome.reason) == (4401, "unauthenticated")
    assert door.ran == []


async def test_authorize_may_refuse_with_a_reason_of_its_own(door: type[Door], settings: Any) -> None:
    settings.CHANNELS_SECURE = {"REJECTION": "http"}

    class Full(door):  # type: ignore[valid-type,misc]
        async def authorize(self) -> bool:
            raise Denied("unavailable", "The room is full.", retry_after=7)

    outcome = await connect(Full).shake_hands()
    assert (outcome.status, outcome.headers["retry-after"]) == (503, "7")
    assert (outcome.error["code"], outcome.error["message"]) == ("unavailable", "The room is full.")
    assert door.ran == []


@pytest.mark.parametrize("how", ["close", "deny", "authorize", "raise"])
async def test_an_application_that_does_not_accept_refuses(how: str, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"REJECTION": "http"}

    class Refusing(SecureJsonConsumer):
        allow_anonymous = True

        async def authorize(self) -> bool:
            if how == "authorize":
                raise Denied("permission_denied")
            return True

        async def connect(self) -> None:
            if how == "close":
                await self.close(4999, "mine")
            elif how == "deny":
                raise DenyConnection
            raise Denied("permission_denied")

    outcome = await connect(Refusing).shake_hands()
    assert (outcome.status, outcome.error["code"]) == (403, "permission_denied")


async def test_accept_may_be_raised_as_in_channels() -> None:
    class Raising(Echo):
        async def connect(self) -> None:
            raise AcceptConnection

    async with connect(Raising) as socket:
        assert await ask(socket, 1) == 1


async def test_an_exception_before_accept_is_a_500_without_words(
    caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.CHANNELS_SECURE = {"REJECTION": "http"}

    class Broken(Echo):
        async def connect(self) -> None:
            raise RuntimeError("secret of the database")

    outcome = await connect(Broken).shake_hands()
    assert (outcome.status, outcome.error["code"]) == (500, "internal_error")
    assert "secret" not in json.dumps(dict(outcome.error))
    assert "application.failed" in logged(caplog)


async def test_kwargs_are_the_urls() -> None:
    class Room(Echo):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json([self.kwargs, self.scope["url_route"]["kwargs"]])

    app = guarded(URLRouter([path("ws/<slug:room>/<int:number>/", Room.as_asgi())]))
    async with SecureCommunicator(app, "/ws/lobby/7/") as socket:
        assert await socket.receive_json_from() == [{"room": "lobby", "number": 7}] * 2
    async with connect(Room) as socket:
        assert (await socket.receive_json_from())[0] == {} if "url_route" in socket.scope else [{}, {}]


async def test_without_the_middleware_every_connection_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """It never runs unguarded, whatever a scope claims."""
    for scope in ({}, {"channels_secure": object()}, {"channels_secure": "yes", "user": None}):
        communicator = WebsocketCommunicator(Echo.as_asgi(), "/ws/")
        communicator.scope.update(scope)
        connected, _ = await communicator.connect(timeout=10)
        assert not connected
        await communicator.wait(timeout=10)
    assert sum(line.startswith("consumer.unguarded") for line in logged(caplog)) == 3


async def test_a_user_put_into_the_scope_by_something_inside_is_refused(
    caplog: pytest.LogCaptureFixture, user: User
) -> None:
    inner = Chat.as_asgi()

    async def left_in_place(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "user": AnonymousUser()}, receive, send)

    outcome = await SecureCommunicator(
        guarded(left_in_place), "/ws/", user=user, origin="https://testserver"
    ).shake_hands()
    assert (outcome.code, outcome.reason) == (4500, "internal_error")
    assert any(line.startswith("consumer.user_replaced") for line in logged(caplog))


# Leaving --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1006, 4321])
async def test_disconnect_gets_the_clients_code(door: type[Door], code: int) -> None:
    socket = connect(door)
    assert (await socket.shake_hands()).accepted
    await socket.disconnect(code=code)
    assert door.ran[-1] == f"disconnect {code}"
    (closed,) = await rows(kind="connection.closed")
    assert (closed.detail["by"], closed.detail["code"]) == ("client", code)


async def test_disconnect_runs_whoever_closes(door: type[Door]) -> None:
    class Closing(door):  # type: ignore[valid-type,misc]
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.close(4001, "enough")

    socket = connect(Closing)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert await socket.closing() == (4001, "enough")
    assert door.ran[-1] == "disconnect 4001"
    (closed,) = await rows(kind="connection.closed")
    assert (closed.detail["by"], closed.detail["code"]) == ("application", 4001)


async def test_disconnect_does_not_run_for_whom_connect_did_not(door: type[Door]) -> None:
    class Closed(door):  # type: ignore[valid-type,misc]
        async def authorize(self) -> bool:
            return False

    await connect(Closed).shake_hands()
    assert door.ran == []


async def test_an_exception_in_disconnect_ends_nothing_but_itself(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Echo):
        async def disconnect(self, code: int) -> None:
            raise RuntimeError("oops")

    async with connect(Broken) as socket:
        assert await ask(socket, 1) == 1
    assert "disconnect.failed" in logged(caplog)
    assert await kinds() == ["connection.accepted", "connection.closed"]


@pytest.mark.parametrize("error", [StopConsumer, "send"])
async def test_disconnect_may_stop_or_send_without_noise(caplog: pytest.LogCaptureFixture, error: Any) -> None:
    class Leaving(Echo):
        async def disconnect(self, code: int) -> None:
            if error == "send":
                await self.send_json("bye")
            raise StopConsumer

    async with connect(Leaving):
        pass
    assert logged(caplog) == []


async def test_a_disconnect_that_hangs_is_cut_off(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.CHANNELS_SECURE = {"DISCONNECT_TIMEOUT": 0.01}

    class Hanging(Echo):
        async def disconnect(self, code: int) -> None:
            await asyncio.Event().wait()

    async with connect(Hanging):
        pass
    assert "disconnect.timeout" in logged(caplog)


# Handlers that fail ---------------------------------------------------------------------------------------------------


class Failing(SecureJsonConsumer):
    allow_anonymous = True
    error: BaseException

    @handles("fail")
    async def fail(self, message: Nothing) -> None:
        raise self.error

    @handles("say")
    async def say(self, message: Say) -> None:
        await self.send_json({"said": message.text})


def failing(error: BaseException) -> type[SecureJsonConsumer]:
    return type("Failing", (Failing,), {"error": error})


@pytest.mark.parametrize(
    "error",
    [RuntimeError("secret"), ValueError("secret"), KeyError("secret"), SystemExit("secret"),
     asyncio.CancelledError("secret"),
     TimeoutError("secret"), ConnectionResetError("secret"), RecursionError("secret"), AssertionError("secret")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_a_handler_that_raises_closes_with_a_generic_text(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    socket = connect(failing(error))
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "fail", "id": 1})
    frame = await socket.receive_json_from()
    assert frame == {
        "type": "error",
        "code": "internal_error",
        "message": "Something went wrong on the server.",
        "fatal": True,
        "reconnect": True,
    }
    assert await socket.closing() == (4500, "internal_error")
    (record,) = [record for record in caplog.records if record.getMessage() == "application.failed"]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    (closed,) = await rows(kind="connection.closed")
    assert closed.reason == "internal_error"
    assert "secret" not in json.dumps(closed.detail)


async def test_a_handler_may_refuse_and_the_socket_stays_open() -> None:
    async with connect(failing(Denied("not_found", "No such room.", retry_after=2.5))) as socket:
        assert await ask(socket, {"type": "fail", "id": "q"}) == {
            "type": "error",
            "code": "not_found",
            "message": "No such room.",
            "fatal": False,
            "retry_after": 2.5,
            "ref": "q",
        }
        assert await ask(socket, {"type": "say", "text": "hi"}) == {"said": "hi"}
    assert "message.denied not_found" in await kinds()


async def test_a_reason_that_answers_no_message_ends_the_socket() -> None:
    socket = connect(failing(Denied("disconnected")))
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "fail"})
    assert await told(socket) == ("disconnected", 4440)


def test_a_refusal_needs_a_reason_of_the_table() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Denied("nonsense")


async def test_a_handler_may_stop_the_consumer() -> None:
    socket = connect(failing(StopConsumer()))
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "fail"})
    await socket.wait(10)
    assert socket.output_queue.empty()
    assert await kinds() == ["connection.accepted", "connection.closed"]


async def test_after_a_close_a_handler_can_send_no_more(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Echo):
        went_on = False

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.close()
            await self.send_json("after")
            type(self).went_on = True

    socket = connect(Late)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert await socket.closing() == (1000, "")
    assert socket.output_queue.empty()
    assert not Late.went_on
    assert logged(caplog) == []


async def test_an_error_after_a_close_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.close(4001)
            raise RuntimeError("late")

    socket = connect(Late)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert await socket.closing() == (4001, "")
    assert socket.output_queue.empty()
    assert "application.failed" in logged(caplog)


async def test_sending_before_accept_is_a_mistake_that_is_said() -> None:
    class Early(Echo):
        async def connect(self) -> None:
            with pytest.raises(RuntimeError, match="accept the connection before sending"):
                await self.send_json("early")
            await self.accept()
            with pytest.raises(RuntimeError, match="accepted already"):
                await self.accept()

    async with connect(Early) as socket:
        assert await ask(socket, 1) == 1


# What is closed with --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (None, 1000), (True, 1000), (1000, 1000), (3000, 3000), (3999, 3999), (4000, 4000), (4999, 4999),
        (1001, 4505), (1003, 4415), (1007, 4400), (1008, 4403), (1009, 4413), (1011, 4500), (1012, 4505), (1013, 4503),
        (1002, 4500), (1005, 4500), (1006, 4500), (2999, 4500), (5000, 4500), (0, 4500), (-1, 4500), (10**30, 4500),
        ("4001", 4500), (4001.0, 4500),
    ],
)  # fmt: skip
async def test_a_code_that_servers_cannot_send_is_replaced_by_what_it_means(code: Any, sent: int) -> None:
    class Closing(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.close(code)

    socket = connect(Closing)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert await socket.closing() == (sent, "")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 200, "x" * 123),
        ("é" * 100, "é" * 61),
        ("😀" * 40, "😀" * 30),
        ("\ud800", "?"),
        (5, ""),
    ],
)
async def test_a_close_reason_is_cut_between_characters(reason: Any, sent: str) -> None:
    class Closing(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.close(4001, reason)

    socket = connect(Closing)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert await socket.closing() == (4001, sent)


# One at a time --------------------------------------------------------------------------------------------------------


class Slow(SecureJsonConsumer):
    """Handles a message only when told to, and writes down beginnings and ends."""

    allow_anonymous = True
    steps: list[str]
    gate: asyncio.Event

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self._step(f"message {content}")

    async def news(self, event: Any) -> None:
        await self._step(f"event {event['n']}")

    async def _step(self, name: str) -> None:
        self.steps.append(f"{name} begins")
        await self.gate.wait()
        self.steps.append(f"{name} ends")

    async def disconnect(self, code: int) -> None:
        self.steps.append("disconnect")


@pytest.fixture
def slow() -> type[Slow]:
    return type("Slow", (Slow,), {"steps": [], "gate": asyncio.Event()})


async def publish(number: int) -> None:
    """Send an event to the own channel of the one consumer there is."""
    layer = get_channel_layer()
    (channel,) = [name for name in layer.channels if "channels_secure.group" not in name]
    await layer.send(channel, {"type": "news", "n": number})


async def test_messages_are_handled_one_at_a_time_and_in_order(slow: type[Slow]) -> None:
    async with connect(slow) as socket:
        for number in (1, 2, 3):
            await socket.send_json_to(number)
        await until(lambda: bool(slow.steps))
        for _ in range(20):
            await asyncio.sleep(0)
        assert slow.steps == ["message 1 begins"]
        slow.gate.set()
        await until(lambda: len(slow.steps) == 6)
    assert slow.steps == [f"message {number} {what}" for number in (1, 2, 3) for what in ("begins", "ends")] + [
        "disconnect"
    ]


class Listening(Slow):
    async def connect(self) -> None:
        assert self.channel_name == self.channel_name
        await self.accept()


@pytest.fixture
def listening() -> type[Listening]:
    return type("Listening", (Listening,), {"steps": [], "gate": asyncio.Event()})


async def test_an_event_waits_for_the_message_under_way(listening: type[Listening]) -> None:
    async with connect(listening) as socket:
        await socket.send_json_to(1)
        await until(lambda: bool(listening.steps))
        await publish(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert listening.steps == ["message 1 begins"]
        listening.gate.set()
        await until(lambda: len(listening.steps) == 4)
    assert listening.steps == ["message 1 begins", "message 1 ends", "event 1 begins", "event 1 ends", "disconnect"]


async def test_a_message_waits_for_the_event_under_way(listening: type[Listening]) -> None:
    async with connect(listening) as socket:
        await publish(1)
        await until(lambda: bool(listening.steps))
        await socket.send_json_to(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert listening.steps == ["event 1 begins"]
        listening.gate.set()
        await until(lambda: len(listening.steps) == 4)
    assert listening.steps == ["event 1 begins", "event 1 ends", "message 1 begins", "message 1 ends", "disconnect"]


async def test_an_event_waits_for_connect(slow: type[Slow]) -> None:
    """An event that is handled before `accept()` could send nothing, and would end the socket."""

    class Connecting(slow):  # type: ignore[valid-type,misc]
        async def connect(self) -> None:
            await self.channel_layer.send(self.channel_name, {"type": "news", "n": 1})
            for _ in range(20):
                await asyncio.sleep(0)
            self.steps.append("accept")
            await self.accept()

    slow.gate.set()
    async with connect(Connecting):
        await until(lambda: len(slow.steps) == 3)
    assert slow.steps == ["accept", "event 1 begins", "event 1 ends", "disconnect"]


async def test_an_event_under_way_ends_before_disconnect_begins(listening: type[Listening]) -> None:
    socket = connect(listening)
    assert (await socket.shake_hands()).accepted
    await publish(1)
    await until(lambda: bool(listening.steps))
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    for _ in range(20):
        await asyncio.sleep(0)
    listening.gate.set()
    await socket.wait(10)
    assert listening.steps == ["event 1 begins", "event 1 ends", "disconnect"]


async def test_no_event_is_handled_while_disconnect_runs(listening: type[Listening]) -> None:
    class Leaving(listening):  # type: ignore[valid-type,misc]
        async def disconnect(self, code: int) -> None:
            await super().disconnect(code)
            await publish(1)
            for _ in range(20):
                await asyncio.sleep(0)

    listening.gate.set()
    async with connect(Leaving):
        pass
    assert listening.steps == ["disconnect"]


async def test_events_of_a_flood_are_dropped_oldest_first(
    listening: type[Listening], caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(listening) as socket:
        await socket.send_json_to(1)
        await until(lambda: bool(listening.steps))
        for number in range(120):
            await publish(number)
            await until(lambda: not any(queue.qsize() for queue in get_channel_layer().channels.values()))
        listening.gate.set()
        await until(lambda: listening.steps[-1] == "event 119 ends")
    assert listening.steps[2] == "event 20 begins"
    # Said once, because a flood must not become a flood of the log.
    assert logged(caplog).count("layer.event_dropped") == 1


@pytest.mark.parametrize(
    "kind",
    ["websocket.disconnect", "websocket.receive", "close", "send", "accept", "connect", "_step", ".step",
     "receive_json",
     "authorize", "join", "channel_name", "steps", "no.such", None, 5],
)  # fmt: skip
async def test_an_event_can_name_no_method_of_channels_or_ours(
    listening: type[Listening], kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    listening.gate.set()
    async with connect(listening):
        layer = get_channel_layer()
        (channel,) = layer.channels
        await layer.send(channel, {"type": kind, "code": 1000, "text": "[]"})
        await publish(1)
        await until(lambda: len(listening.steps) == 2)
    assert listening.steps == ["event 1 begins", "event 1 ends", "disconnect"]
    assert "layer.unknown_event" in logged(caplog)


class Reacting(SecureJsonConsumer):
    """Its event handler raises."""

    allow_anonymous = True
    error: BaseException

    async def connect(self) -> None:
        assert self.channel_name
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)

    async def news(self, event: Any) -> None:
        raise self.error


def reacting(error: BaseException) -> type[SecureJsonConsumer]:
    return type("Reacting", (Reacting,), {"error": error})


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), SystemExit("x"), asyncio.CancelledError("x")],
    ids=lambda error: type(error).__name__,
)
async def test_an_event_handler_that_raises_closes_too(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    socket = connect(reacting(error))
    assert (await socket.shake_hands()).accepted
    await publish(1)
    assert await told(socket) == ("internal_error", 4500)
    assert "application.failed" in logged(caplog)


async def test_an_event_handler_may_refuse_or_stop() -> None:
    async with connect(reacting(Denied("permission_denied"))) as socket:
        await publish(1)
        assert (await socket.receive_json_from())["code"] == "permission_denied"
        assert await ask(socket, 1) == 1
    socket = connect(reacting(StopConsumer()))
    assert (await socket.shake_hands()).accepted
    await publish(1)
    await socket.wait(10)
    assert socket.output_queue.empty()


async def test_an_event_handler_may_close() -> None:
    class Closing(Reacting):
        async def news(self, event: Any) -> None:
            await self.close(4001, "news")

    socket = connect(Closing)
    assert (await socket.shake_hands()).accepted
    await publish(1)
    assert await socket.closing() == (4001, "news")
    (closed,) = await rows(kind="connection.closed")
    assert (closed.detail["by"], closed.detail["code"]) == ("application", 4001)


async def test_a_socket_in_no_group_has_one_task() -> None:
    before = asyncio.all_tasks()
    async with connect(Chat) as socket:
        assert await ask(socket, {"type": "ping"}) == {"type": "pong"}
        own = only_connection().task
        # The supervisor, one for all sockets, writes the audit trail now and then.
        await until(lambda: {task.get_name() for task in asyncio.all_tasks() - before - {own}} == {SUPERVISOR})


# What is sent ---------------------------------------------------------------------------------------------------------


class Text(str):
    pass


class Number(int):
    pass


class Fraction(float):
    pass


@pytest.mark.parametrize(
    ("content", "arrives"),
    [
        (mark_safe("<b>"), "<b>"),
        ({mark_safe("html"): [mark_safe("<i>")]}, {"html": ["<i>"]}),
        (gettext_lazy("yes"), "yes"),
        (Text("x"), "x"),
        ([Number(3), Fraction(0.5), True, None], [3, 0.5, True, None]),
        (Say("hi"), {"text": "hi"}),
        ((1, {2}), [1, [2]]),
        ({1: "one"}, {"1": "one"}),
        (Exception("odd"), "odd"),
        ("\u2028é😀", "\u2028é😀"),
    ],
)  # fmt: skip
async def test_whatever_a_project_sends_arrives(content: Any, arrives: Any) -> None:
    class Sending(Echo):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json(content)

    async with connect(Sending) as socket:
        assert await socket.receive_json_from() == arrives


async def test_sending_may_close_too() -> None:
    class Sending(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json(content, close=content)

    for content, code in ((True, 1000), (4002, 4002)):
        socket = connect(Sending)
        assert (await socket.shake_hands()).accepted
        assert await ask(socket, content) == content
        assert await socket.closing() == (code, "")


async def test_without_a_channel_layer_there_is_no_channel_and_everything_else_works(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}

    class Plain(Echo):
        async def connect(self) -> None:
            assert not hasattr(self, "channel_name")
            await self.accept()

    async with connect(Plain) as socket:
        assert await ask(socket, 1) == 1
