"""What a socket does when its server refuses, vanishes, falls silent or misbehaves."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection

from channels_secure.client import (
    Backoff,
    ConnectionLost,
    Limits,
    MessageDenied,
    MessagesLost,
    MessageTooBig,
    QueueFull,
    Refused,
    SecureSocket,
    SocketClosed,
    SocketState,
    conversation,
)
from tests.client.scripted import (
    HOST,
    SOON,
    Script,
    closes,
    fall_silent,
    goodbye,
    refuses,
    running,
    says,
    soon,
    tell,
    until,
    vanish,
)

SECRET = "eyJhbGciOiJIUzI1NiJ9.e30.Et9HFtf9R3GEMA0IICOfFMVXY7kkTX1wr4qCyIf58U"
RATE_LIMITED = json.dumps(goodbye("rate_limited", reconnect=True, retry_after=0.05)).encode()


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    """A socket that has ended leaves nothing behind."""
    before = asyncio.all_tasks()
    yield
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


def listening(*before: Any) -> Script:
    """Something else for the first connections, and then a server that behaves."""
    script = Script(*before)
    script.acts.append(script.listens())
    return script


class Gate:
    """Where tickets are fetched: the first at once, the others when it is opened; till then a client stays away."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_open = asyncio.Event()

    async def fetch(self) -> str:
        self.asked += 1
        if self.asked > 1:
            await self.is_open.wait()
        return "ticket"


# States and endings --------------------------------------------------------------------------------------------------


async def test_states_are_told_in_their_order() -> None:
    states: list[str] = []
    async with running(listening(vanish)) as script, soon(script, on_state=states.append) as socket:
        await until(lambda: len(script.connections) == 2)
        await socket.opened()
        assert socket.state is SocketState.OPEN
    assert states == ["connecting", "open", "waiting", "connecting", "open", "closed"]
    assert socket.state is SocketState.CLOSED


async def test_messages_of_all_connections_are_iterated_over() -> None:
    async def greet(connection: ServerConnection) -> None:
        await tell(connection, {"type": "welcome"})
        await connection.close(1012)

    async with running(Script(greet, greet, closes(1000))) as script, soon(script) as socket:
        assert [message async for message in socket] == [{"type": "welcome"}] * 3
        assert socket.ending is not None
        assert socket.ending.is_clean
        with pytest.raises(SocketClosed):
            await socket.send({"type": "late"})
    assert len(script.requests) == 3


async def test_a_refusal_before_accept_is_raised_on_entering() -> None:
    body = json.dumps(goodbye("permission_denied", message="Members only.")).encode()
    async with running(Script((403, {}, body))) as script:
        with pytest.raises(Refused, match=r"permission_denied .*Members only") as refused:
            async with soon(script):
                raise AssertionError("nobody was let in")
    assert (refused.value.reason, refused.value.ending.status) == ("permission_denied", 403)
    assert len(script.requests) == 1


async def test_a_refusal_on_an_open_socket_is_raised_too_and_was_never_open() -> None:
    states: list[str] = []
    async with running(Script(refuses())) as script:
        with pytest.raises(Refused) as refused:
            async with soon(script, on_state=states.append):
                raise AssertionError("nobody was let in")
    assert (refused.value.reason, refused.value.ending.code) == ("permission_denied", 4403)
    assert states == ["connecting", "closed"]


async def test_an_ending_for_good_is_raised_by_iteration_and_by_sending() -> None:
    async with running(Script(closes(4440, "disconnected"))) as script, soon(script) as socket:
        with pytest.raises(Refused, match="disconnected"):
            await drained(socket)
        with pytest.raises(Refused, match="disconnected"):
            await socket.send({"type": "late"})
        with pytest.raises(Refused, match="disconnected"):
            await socket.request({"type": "late"})
        with pytest.raises(Refused, match="disconnected"):
            await socket.opened()
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "first",
    [
        (429, {}, RATE_LIMITED),
        (503, {"Retry-After": "0"}, b""),
        (502, {}, b"<html>"),
        (403, {}, b""),
        refuses(4429, "rate_limited", reconnect=True, retry_after=0.05),
        refuses(4419, "credentials_expired", reconnect=True),
        closes(4500),
        closes(1011),
        vanish,
    ],
    ids=["429", "503", "502", "bare-403", "rate_limited", "expired", "4500", "1011", "vanished"],
)
async def test_what_passes_is_tried_again(first: Any) -> None:
    async with running(listening(first)) as script, soon(script) as socket:
        await until(lambda: len(script.requests) == 2)
        await socket.opened()
        assert await socket.request({"type": "ask"}) == {"type": "answered", "ref": "cs-1"}


async def test_the_pause_is_at_least_what_the_server_said() -> None:
    waits: list[float | None] = []
    async with running(listening((429, {}, RATE_LIMITED), (503, {"Retry-After": "1"}, b""))) as script:
        socket = soon(script, on_state=lambda state: waits.append(socket.retry_in) if state == "waiting" else None)
        async with socket:
            assert socket.retry_in is None
    assert [0.05 <= waits[0] <= 0.07, 1.0 <= waits[1] <= 1.02] == [True, True]  # type: ignore[operator]


async def test_unexplained_refusals_come_to_an_end() -> None:
    async with running(Script((403, {}, b""))) as script:
        with pytest.raises(Refused, match=r"no reason given \(HTTP 403\)"):
            async with soon(script, backoff=Backoff(doubtful=2, **SOON)):
                raise AssertionError("nobody was let in")
    assert len(script.requests) == 3


async def test_a_redirect_is_not_followed() -> None:
    async with running(listening()) as other, running(Script((307, {"Location": other.url}, b""))) as script:
        with pytest.raises(Refused, match="HTTP 307"):
            async with soon(script, ticket=lambda: "secret"):
                raise AssertionError("nobody was let in")
    assert other.requests == []


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    async with running(listening()) as script:
        port = script.port
    socket = soon(script)
    entering = asyncio.create_task(socket.__aenter__())
    await until(lambda: socket.ending is not None)
    assert socket.ending is not None
    assert socket.ending.message == "ConnectionRefusedError"
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert (socket.state, script.port) == (SocketState.CLOSED, port)


async def test_a_handshake_that_nobody_answers_is_given_up() -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        limits = Limits(open_timeout=0.05)
        socket = SecureSocket(f"ws://{HOST}:{port}/", proxy=None, backoff=Backoff(**SOON), limits=limits)
        entering = asyncio.create_task(socket.__aenter__())
        await until(lambda: socket.ending is not None)
        assert socket.ending is not None
        assert socket.ending.message == "nobody answered in time"
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering


async def test_a_goodbye_is_enough_where_no_close_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "CLOSING", 0.05)
    async with running(Script(says(goodbye("blocked")))) as script:
        with pytest.raises(Refused, match="blocked"):
            async with soon(script):
                raise AssertionError("nobody was let in")


async def test_after_a_goodbye_nothing_else_counts() -> None:
    async def contradict(connection: ServerConnection) -> None:
        await tell(connection, {"type": "welcome"})
        await tell(connection, goodbye("blocked"))
        await tell(connection, goodbye("rate_limited", reconnect=True))
        await tell(connection, {"type": "late"})
        await connection.close(1012)

    async with running(Script(contradict)) as script, soon(script) as socket:
        assert await anext(socket) == {"type": "welcome"}
        with pytest.raises(Refused, match="blocked"):
            await anext(socket)


# The pulse -----------------------------------------------------------------------------------------------------------


async def test_a_link_that_gives_no_sign_of_life_is_left() -> None:
    limits = Limits(heartbeat_interval=0.02, heartbeat_timeout=0.5, close_timeout=0.1)
    async with running(listening(fall_silent)) as script, soon(script, limits=limits) as socket:
        await until(lambda: len(script.connections) >= 2)
        await socket.opened()
        assert await socket.request({"type": "ask"}) == {"type": "answered", "ref": "cs-1"}


async def test_the_servers_heartbeat_is_answered_and_not_passed_on() -> None:
    async def ping(connection: ServerConnection) -> None:
        for _ in range(2):
            await tell(connection, {"type": "ping"})
            script.heard[-1].append(json.loads(await connection.recv()))
        await connection.close(1000)

    script = Script(ping)
    async with running(script), soon(script) as socket:
        assert [message async for message in socket] == []
    assert script.heard == [[{"type": "pong"}, {"type": "pong"}]]


async def test_a_flood_of_heartbeats_is_answered_by_fewer() -> None:
    async def flood(connection: ServerConnection) -> None:
        for _ in range(200):
            await tell(connection, {"type": "ping"})
        await tell(connection, {"type": "said"})
        await script.listens()(connection)

    script = Script(flood)
    async with running(script), soon(script) as socket:
        assert await anext(socket) == {"type": "said"}
        await socket.send({"type": "say"})
        await until(lambda: {"type": "say"} in script.heard[0])
    assert 1 <= script.heard[0].count({"type": "pong"}) < 200


async def test_its_hello_is_kept_and_not_passed_on() -> None:
    hello = {"type": "hello", "connection_id": "c1", "max_message_size": 40}
    script = Script(says(hello, {"type": "hello", "name": "an application's own"}))
    async with running(script), soon(script) as socket:
        assert await anext(socket) == {"type": "hello", "name": "an application's own"}
        assert socket.hello == hello
        with pytest.raises(MessageTooBig, match="40 bytes"):
            await socket.send({"type": "say", "text": "ü" * 10})
        await socket.send({"type": "say", "text": "ü" * 5})


# The queue -----------------------------------------------------------------------------------------------------------


async def test_messages_wait_for_the_next_connection_in_their_order() -> None:
    gate, limits = Gate(), Limits(pace=0.001)
    async with running(listening(vanish)) as script, soon(script, ticket=gate.fetch, limits=limits) as socket:
        await until(lambda: gate.asked == 2)
        for number in range(5):
            await socket.send({"type": "say", "number": number})
        gate.is_open.set()
        await until(lambda: len(script.heard) == 2 and len(script.heard[1]) == 5)
    assert [message["number"] for message in script.heard[1]] == [0, 1, 2, 3, 4]


async def test_a_socket_that_is_opened_to_be_refused_takes_nothing_along() -> None:
    gate, script = Gate(), listening(vanish, refuses(4419, "credentials_expired", reconnect=True))
    async with running(script), soon(script, ticket=gate.fetch) as socket:
        await until(lambda: gate.asked == 2)
        await socket.send({"type": "say"})
        gate.is_open.set()
        await until(lambda: len(script.heard) == 3 and script.heard[2])
    assert script.heard == [[], [], [{"type": "say"}]]


async def test_what_is_sent_while_a_connection_ends_waits_for_the_next() -> None:
    async def end_slowly(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        # A text and a close with 1012 in one piece: who has the text has the close, though the connection still stands.
        connection.transport.write(b'\x81\x11{"type":"ending"}' + b"\x88\x02\x03\xf4")
        await connection.wait_closed()

    limits = Limits(heartbeat_interval=0.05, heartbeat_frames=False, close_timeout=0.1)
    async with running(listening(end_slowly)) as script, soon(script, limits=limits) as socket:
        assert await anext(socket) == {"type": "ending"}
        await socket.send({"type": "say"})
        await until(lambda: len(script.heard) == 2 and script.heard[1])
    assert script.heard == [[], [{"type": "say"}]]


async def test_a_full_queue_is_a_clear_error() -> None:
    backoff = Backoff(least=3600, most=3600, jitter=lambda: 1.0)
    async with running(Script(vanish)) as script, soon(script, backoff=backoff, limits=Limits(queue_size=2)) as socket:
        await until(lambda: socket.state is SocketState.WAITING)
        await socket.send({"type": "say"})
        await socket.send({"type": "say"})
        with pytest.raises(QueueFull, match="2 messages"):
            await socket.send({"type": "say"})


async def test_on_an_open_connection_a_full_queue_is_waited_for() -> None:
    limits = Limits(queue_size=1, max_message_size=2**24)
    big = {"type": "say", "text": "x" * 2**23}
    reads = asyncio.Event()

    async def read_later(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await tell(connection, {"type": "welcome"})
        await reads.wait()
        connection.transport.resume_reading()
        await script.listens()(connection)

    script = Script(read_later)
    async with running(script), soon(script, limits=limits) as socket:
        await socket.send(big)
        await socket.send(big)
        third = asyncio.create_task(socket.send(big))
        await until(lambda: socket._desk.bell._waiting)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not third.done()
        reads.set()
        await third
        await until(lambda: len(script.heard[0]) == 3)


async def test_what_waited_goes_at_a_pace() -> None:
    gate, limits = Gate(), Limits(pace=3600, close_timeout=0.05)
    async with running(listening(vanish)) as script, soon(script, ticket=gate.fetch, limits=limits) as socket:
        await until(lambda: gate.asked == 2)
        for number in range(3):
            await socket.send({"type": "say", "number": number})
        gate.is_open.set()
        await until(lambda: len(script.heard) == 2 and script.heard[1])
    assert script.heard[1] == [{"type": "say", "number": 0}]


async def test_closing_sends_what_waits_on_an_open_connection() -> None:
    gate, limits = Gate(), Limits(pace=0.02)
    async with running(listening(vanish)) as script:
        async with soon(script, ticket=gate.fetch, limits=limits) as socket:
            await until(lambda: gate.asked == 2)
            for number in range(5):
                await socket.send({"type": "say", "number": number})
            gate.is_open.set()
            await socket.opened()
        await until(lambda: len(script.heard[1]) == 5)


class Say(msgspec.Struct, tag="chat.say", tag_field="type"):
    text: str


async def test_a_struct_is_sent_as_its_object() -> None:
    async with running(listening()) as script, soon(script) as socket:
        await socket.send(Say(text="Hello"))
        await until(lambda: script.heard[0])
    assert script.heard == [[{"type": "chat.say", "text": "Hello"}]]


async def test_what_json_cannot_say_is_an_error_of_the_sender() -> None:
    async with running(listening()) as script, soon(script) as socket:
        with pytest.raises(TypeError):
            await socket.send({"type": "say", "what": object()})
        with pytest.raises(MessageTooBig, match="65536"):
            await socket.send({"type": "say", "text": "x" * 65_536})
        assert await socket.request({"type": "ask"}) == {"type": "answered", "ref": "cs-1"}


# Requests ------------------------------------------------------------------------------------------------------------


async def test_answers_find_their_requests_in_any_order() -> None:
    async def answer_backwards(connection: ServerConnection) -> None:
        asked = [json.loads(await connection.recv()) for _ in range(3)]
        for message in reversed(asked):
            await tell(connection, {"type": "answered", "ref": message["id"], "number": message["number"]})
        await connection.wait_closed()

    async with running(Script(answer_backwards)) as script, soon(script) as socket:
        answers = await asyncio.gather(*(socket.request({"type": "ask", "number": number}) for number in range(3)))
    assert [answer["number"] for answer in answers] == [0, 1, 2]


async def test_a_denied_request_raises_and_a_denied_message_is_told() -> None:
    errors = [{"path": "text", "message": "too long"}]

    async def deny(connection: ServerConnection) -> None:
        async for text in connection:
            message = json.loads(text)
            frame = {"type": "error", "code": "invalid_message", "message": "No.", "fatal": False, "errors": errors}
            await tell(connection, {**frame, "ref": message.get("id"), "retry_after": 2.5})

    denied: list[MessageDenied] = []
    async with running(Script(deny)) as script, soon(script, on_denied=denied.append) as socket:
        with pytest.raises(MessageDenied, match=r"invalid_message: No\.") as error:
            await socket.request({"type": "ask"})
        await socket.send({"type": "say", "id": "mine"})
        await until(lambda: denied)
    assert (error.value.reason, error.value.errors, error.value.retry_after) == ("invalid_message", errors, 2.5)
    assert [each.ref for each in denied] == ["mine"]


async def test_a_request_whose_connection_is_lost_is_told_so() -> None:
    async def take_and_vanish(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with running(Script(take_and_vanish)) as script, soon(script) as socket:
        with pytest.raises(ConnectionLost):
            await socket.request({"type": "ask"})


async def test_a_request_that_has_not_left_waits_for_the_next_connection() -> None:
    gate = Gate()
    async with running(listening(vanish)) as script, soon(script, ticket=gate.fetch) as socket:
        await until(lambda: gate.asked == 2)
        asking = asyncio.create_task(socket.request({"type": "ask"}))
        await until(lambda: socket._desk.outbox)
        gate.is_open.set()
        assert await asking == {"type": "answered", "ref": "cs-1"}


async def test_a_request_that_nobody_waits_for_any_more_is_never_sent() -> None:
    gate = Gate()
    async with running(listening(vanish)) as script, soon(script, ticket=gate.fetch) as socket:
        await until(lambda: gate.asked == 2)
        with pytest.raises(TimeoutError):
            await socket.request({"type": "ask"}, timeout=0.01)
        gate.is_open.set()
        await socket.send({"type": "say"})
        await until(lambda: len(script.heard) == 2 and script.heard[1])
    assert script.heard[1] == [{"type": "say"}]


async def test_requests_without_an_answer_are_bounded() -> None:
    async with running(Script(says({"type": "welcome"}))) as script:
        async with soon(script, limits=Limits(queue_size=2)) as socket:
            asking = [asyncio.create_task(socket.request({"type": "ask"})) for _ in range(2)]
            await until(lambda: len(socket._desk.calls._awaited) == 2)
            with pytest.raises(QueueFull, match="2 answers"):
                await socket.request({"type": "ask"})
        for task in asking:
            with pytest.raises(SocketClosed):
                await task


async def test_a_request_has_its_id_from_the_socket() -> None:
    async with running(listening()) as script, soon(script) as socket:
        with pytest.raises(ValueError, match="id"):
            await socket.request({"type": "ask", "id": "mine"})


# What comes ----------------------------------------------------------------------------------------------------------


async def test_frames_that_nobody_can_read_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    frames = ["not json secret", b"\xff", "[" * 100_000, "", '{"type": "said"}', '"a text"', "[1]", "null"]
    async with running(Script(says(*frames))) as script, soon(script) as socket:
        assert [await anext(socket) for _ in range(4)] == [{"type": "said"}, "a text", [1], None]
    assert "secret" not in caplog.text


class Reversing:
    """A codec, whose own errors are none of ours."""

    def encode(self, text: str, /) -> str:
        return text[::-1]

    def decode(self, frame: str, /) -> str:
        if not frame.endswith("{"):
            raise LookupError("secret")
        return frame[::-1]


async def test_who_has_not_the_codec_is_not_heard(caplog: pytest.LogCaptureFixture) -> None:
    said = json.dumps({"type": "said"})
    forged = [said, said.encode(), "secret", goodbye("blocked"), json.dumps(goodbye("blocked")).encode(), said]
    script = Script(says(said[::-1], *forged, json.dumps({"type": "last"})[::-1]))
    async with running(script), soon(script, codec=Reversing()) as socket:
        assert [await anext(socket) for _ in range(2)] == [{"type": "said"}, {"type": "last"}]
        assert socket.state is SocketState.OPEN
    assert "secret" not in caplog.text


async def test_before_the_first_frame_in_the_codec_only_a_refusal_is_read_without_it() -> None:
    script = Script(says({"type": "said"}, json.dumps({"type": "last"})[::-1]))
    async with running(script), soon(script, codec=Reversing()) as socket:
        assert await anext(socket) == {"type": "last"}
    async with running(Script(refuses())) as script:
        with pytest.raises(Refused, match="permission_denied"):
            async with soon(script, codec=Reversing()):
                raise AssertionError("nobody was let in")


async def test_messages_that_nobody_takes_make_room_and_that_is_told() -> None:
    frames = [{"type": "said", "number": number} for number in range(6)]
    async with running(Script(says(*frames))) as script, soon(script, limits=Limits(inbox_size=2)) as socket:
        await until(lambda: socket._desk.inbox._lost == 4)
        with pytest.raises(MessagesLost, match="4 messages") as lost:
            await drained(socket)
        assert lost.value.count == 4
        assert [(await anext(socket))["number"] for _ in range(2)] == [4, 5]


async def test_an_application_may_have_frames_named_like_the_packages() -> None:
    frames = [{"type": "error", "text": "mine"}, {"type": "token_expiring"}, {"type": "hello"}]
    async with running(Script(says(*frames))) as script, soon(script) as socket:
        assert [await anext(socket) for _ in range(3)] == frames


# A newer token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["token", "get_token"])
async def test_a_newer_token_is_brought_before_the_old_one_ends(source: str) -> None:
    async def warn(connection: ServerConnection) -> None:
        await tell(connection, {"type": "token_expiring", "expires_in": 0.1})
        message = json.loads(await connection.recv())
        script.heard[-1].append(message)
        await tell(connection, {"type": "token_refreshed", "expires_in": 300, "ref": message["id"]})
        await tell(connection, {"type": "said"})
        await connection.wait_closed()

    script, tokens = Script(warn), iter(("first", "second"))
    options: dict[str, Any] = {"token": lambda: next(tokens)}
    if source == "get_token":
        options = {"ticket": lambda: "a-ticket", "get_token": lambda: "second"}
    async with running(script), soon(script, **options) as socket:
        assert await anext(socket) == {"type": "said"}
    assert [(message["type"], message["token"]) for message in script.heard[0]] == [("refresh_token", "second")]


# Being closed here ---------------------------------------------------------------------------------------------------


async def test_the_server_is_told_code_and_reason() -> None:
    async with running(listening()) as script:
        async with soon(script) as socket:
            await socket.close(4001, "lunch")
            with pytest.raises(SocketClosed):
                await socket.send({"type": "late"})
        await until(lambda: script.connections[0].close_code is not None)
    assert (script.connections[0].close_code, script.connections[0].close_reason) == (4001, "lunch")


@pytest.mark.parametrize("code", [0, 999, 1001, 1006, 2999, 5000])
async def test_codes_that_are_not_an_applications_are_refused(code: int) -> None:
    async with running(listening()) as script, soon(script) as socket:
        with pytest.raises(ValueError, match="1000"):
            await socket.close(code)
        assert socket.state is SocketState.OPEN


async def test_closing_ends_a_pause_and_an_iteration() -> None:
    backoff = Backoff(least=3600, most=3600, jitter=lambda: 1.0)
    async with running(Script(vanish)) as script, soon(script, backoff=backoff) as socket:
        reading = asyncio.create_task(drained(socket))
        await until(lambda: socket.state is SocketState.WAITING)
        await asyncio.gather(socket.close(), socket.close())
        assert await reading == [{"type": "welcome"}]


async def drained(socket: SecureSocket) -> list[Any]:
    return [message async for message in socket]


async def test_a_server_that_never_closes_is_not_waited_for_long() -> None:
    limits = Limits(close_timeout=0.05, heartbeat_interval=3600)
    async with running(Script(fall_silent)) as script, asyncio.timeout(5), soon(script, limits=limits):
        pass


@pytest.mark.parametrize("moment", ["connecting", "open", "waiting"])
async def test_a_cancellation_ends_it_at_any_moment(moment: str) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    backoff = Backoff(least=3600, most=3600, jitter=lambda: 1.0)
    acts = {"connecting": listening(), "open": listening(), "waiting": Script((503, {}, b""))}
    async with running(acts[moment]) as script:
        options: dict[str, Any] = {"ticket": never} if moment == "connecting" else {}
        socket = soon(script, backoff=backoff, **options)

        async def use() -> None:
            async with socket:
                await asyncio.Event().wait()

        task = asyncio.create_task(use())
        await until(lambda: socket.state == moment)
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert socket.state is SocketState.CLOSED


async def test_two_cancellations_end_it_at_once() -> None:
    limits = Limits(close_timeout=3600, heartbeat_interval=3600)
    async with running(Script(fall_silent)) as script:
        socket = soon(script, limits=limits)

        async def use() -> None:
            async with socket:
                await asyncio.Event().wait()

        task = asyncio.create_task(use())
        await until(lambda: socket.state is SocketState.OPEN)
        task.cancel()
        await until(lambda: socket._keeper.goodbye is not None)
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: socket.state is SocketState.CLOSED)


async def test_a_socket_is_entered_once_and_used_only_then() -> None:
    async with running(listening()) as script:
        socket = soon(script)
        for early in (
            socket.send({"type": "early"}),
            socket.request({"type": "early"}),
            anext(socket),
            socket.opened(),
        ):
            with pytest.raises(SocketClosed, match="enter"):
                await early
        await socket.close()
        async with socket:
            pass
        with pytest.raises(SocketClosed, match="once"):
            async with socket:
                raise AssertionError("entered twice")


# The application's own functions, and logs ---------------------------------------------------------------------------


async def test_functions_that_raise_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the application's own")

    denial = {"type": "error", "code": "unknown_type", "message": "No.", "fatal": False}
    script = Script(says(denial, {"type": "said"}))
    async with running(script), soon(script, on_state=fail, on_denied=fail) as socket:
        assert await anext(socket) == {"type": "said"}
    assert "client.listener_failed" in caplog.text


async def test_credentials_that_cannot_be_fetched_are_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    def fetch() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(f"no answer to ?key={SECRET}")
        return SECRET

    tries: list[int] = []
    told: list[str] = []
    async with running(listening()) as script:
        socket = soon(script, token=fetch, on_state=lambda state: told.append(str(socket.ending)))
        async with socket:
            assert script.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert len(tries) == 2
    assert any("could not be fetched (OSError)" in text for text in told)
    assert "client.no_credentials" in caplog.text
    assert not [text for text in (caplog.text, *told) if SECRET in text]


@pytest.mark.parametrize("kind", ["ticket", "token", "session"])
async def test_credentials_that_cannot_be_sent_are_no_reason_to_wait_for_ever(kind: str) -> None:
    async with running(listening()) as script:
        with pytest.raises(Refused, match=f"bad_request.*the {kind} is empty") as refused:
            async with soon(script, **{kind: lambda: f"Bearer {SECRET}"}):
                raise AssertionError("nobody was let in")
    assert script.requests == []
    assert SECRET not in repr(refused.value)


async def test_a_ticket_endpoint_that_refuses_without_a_word_is_not_asked_ten_times() -> None:
    asked: list[int] = []

    def fetch() -> str:
        asked.append(1)
        raise Refused.from_response(403, {}, b"<h1>CSRF verification failed</h1>")

    async with running(listening()) as script:
        with pytest.raises(Refused, match="HTTP 403"):
            async with soon(script, ticket=fetch):
                raise AssertionError("nobody was let in")
    assert len(asked) == 1


async def test_one_backoff_serves_many_sockets_and_none_pays_for_another() -> None:
    backoff = Backoff(doubtful=1, **SOON)
    for _ in range(3):
        async with running(listening((403, {}, b""))) as script, soon(script, backoff=backoff) as socket:
            assert await socket.request({"type": "ask"}) == {"type": "answered", "ref": "cs-1"}


async def test_what_the_ticket_endpoint_says_is_obeyed() -> None:
    answers = iter(((429, {"retry-after": "0"}, RATE_LIMITED), (403, {}, json.dumps(goodbye("blocked")).encode())))

    def fetch() -> str:
        raise Refused.from_response(*next(answers))

    async with running(listening()) as script:
        with pytest.raises(Refused, match="blocked") as refused:
            async with soon(script, ticket=fetch):
                raise AssertionError("nobody was let in")
    assert refused.value.ending.status == 403
    assert script.requests == []


@pytest.mark.parametrize("kind", ["ticket", "token", "session", "subprotocol"])
async def test_no_secret_is_logged_even_at_debug(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def warn(connection: ServerConnection) -> None:
        await tell(connection, {"type": "token_expiring", "expires_in": 0.02})
        await connection.recv()
        await connection.close(4403)

    caplog.set_level(logging.DEBUG)
    options: dict[str, Any] = {kind: lambda: SECRET}
    if kind == "subprotocol":
        options = {"token": lambda: SECRET, "by_subprotocol": True}
    if kind in ("ticket", "session"):
        options["get_token"] = lambda: SECRET
    script = Script(vanish, (503, {}, b""), warn)
    async with running(script) as script:
        # The server's own logger is not what is tried here.
        logging.getLogger("websockets.server").setLevel(logging.INFO)
        socket = SecureSocket(f"{script.url}?key={SECRET}", proxy=None, backoff=Backoff(**SOON), **options)
        async with socket:
            with pytest.raises(Refused) as refused:
                await drained(socket)
    assert len(script.requests) == 3
    told = [*(str(vars(record)) for record in caplog.records), caplog.text, str(refused.value), repr(refused.value)]
    assert "client.open" in caplog.text
    assert not [text for text in told if SECRET in text]
