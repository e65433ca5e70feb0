"""Calls that come late or from elsewhere: a close by another task, and whatever is called after the end."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import get_channel_layer

from channels_secure import groups
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.exceptions import Denied, PeerGone
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import connect, kinds, only_connection, quiet, told, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

DENIAL = Denial(reason=Reason.DISCONNECTED)


async def ended(socket: SecureCommunicator) -> None:
    """Wait for the application to return by itself; the communicator's own `wait` would cancel it."""
    done, _ = await asyncio.wait({socket.future}, timeout=3)
    assert done
    assert not socket.future.cancelled()


def keeping(base: type[Any], **attributes: Any) -> tuple[type[Any], list[Any]]:
    """A consumer class, and where its instances are found."""
    kept: list[Any] = []

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - a method of the class below
        base.__init__(self, *args, **kwargs)
        kept.append(self)

    return type("Kept", (base,), {"__init__": __init__, **attributes}), kept


# A close from elsewhere -----------------------------------------------------------------------------------------------


async def test_a_plain_consumer_closed_by_another_task_still_runs_its_disconnect(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"ALLOW_ANONYMOUS": True}
    codes: list[int] = []

    async def disconnect(self: Any, code: int) -> None:
        await asyncio.sleep(0)
        codes.append(code)

    consumer, kept = keeping(AsyncJsonWebsocketConsumer, disconnect=disconnect)
    socket = SecureCommunicator(guarded(consumer.as_asgi()), "/plain/")
    assert (await socket.shake_hands()).accepted
    await kept[0].close(4001)
    assert (await socket.receive_output())["code"] == 4001
    await socket.send_input({"type": "websocket.disconnect", "code": 4001})
    await ended(socket)
    assert codes == [4001]
    assert await kinds() == ["connection.accepted", "connection.closed"]


async def test_a_synchronous_consumer_that_closes_still_runs_its_disconnect(settings: Any) -> None:
    """Whatever it sends, it sends by a task other than that of its connection."""
    settings.CHANNELS_SECURE = {"ALLOW_ANONYMOUS": True}
    codes: list[int] = []

    class Closes(JsonWebsocketConsumer):
        def receive_json(self, content: Any, **kwargs: Any) -> None:
            self.close(4001)

        def disconnect(self, code: int) -> None:
            codes.append(code)

    socket = SecureCommunicator(guarded(Closes.as_asgi()), "/plain/")
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert (await socket.receive_output())["code"] == 4001
    await socket.send_input({"type": "websocket.disconnect", "code": 4001})
    await ended(socket)
    assert codes == [4001]


class Busy(SecureJsonConsumer):
    """Says when a handler and `disconnect()` have begun, holds them until it is let go, and says whether they ended."""

    allow_anonymous = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.done: list[Any] = []

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.begun.set()
        await self.gate.wait()
        self.done.append(content)


async def test_a_close_by_another_task_leaves_the_handler_under_way_to_finish() -> None:
    async def disconnect(self: Any, code: int) -> None:
        self.done.append(code)

    consumer, kept = keeping(Busy, disconnect=disconnect)
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to("handled")
    await kept[0].begun.wait()
    await kept[0].close(4001)
    assert (await socket.receive_output())["code"] == 4001
    kept[0].gate.set()
    await ended(socket)
    assert kept[0].done == ["handled", 4001]


async def test_a_close_by_another_task_ends_a_consumer_that_waits_for_a_frame() -> None:
    """Not every server reports the end of a socket that we closed."""
    consumer, kept = keeping(Busy)
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    await kept[0].close(4001)
    await ended(socket)


async def test_a_disconnect_that_runs_is_not_severed() -> None:
    async def disconnect(self: Any, code: int) -> None:
        self.begun.set()
        await self.gate.wait()
        self.done.append(code)

    consumer, kept = keeping(Busy, disconnect=disconnect)
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    connection = only_connection()
    await socket.send_input({"type": "websocket.disconnect", "code": 1001})
    await kept[0].begun.wait()
    assert connection.sever(DENIAL) is False
    kept[0].gate.set()
    await ended(socket)
    assert kept[0].done == [1001]
    assert await kinds() == ["connection.accepted", "connection.closed"]


async def test_a_disconnect_that_runs_because_of_our_denial_is_not_severed_either() -> None:
    """The supervisor's denials and the error budget's come one after the other; the first one counts."""

    async def receive_json(self: Any, content: Any, **kwargs: Any) -> None:
        raise Denied("disconnected")

    async def disconnect(self: Any, code: int) -> None:
        self.begun.set()
        await self.gate.wait()
        self.done.append("left")

    consumer, kept = keeping(Busy, receive_json=receive_json, disconnect=disconnect)
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    connection = only_connection()
    await socket.send_json_to(1)
    assert (await socket.receive_json_from())["code"] == "disconnected"
    await kept[0].begun.wait()
    assert connection.sever(Denial(reason=Reason.BLOCKED)) is False
    kept[0].gate.set()
    await ended(socket)
    assert kept[0].done == ["left"]


# After the end --------------------------------------------------------------------------------------------------------


async def end_by_peer(socket: SecureCommunicator, consumer: Any) -> None:
    await socket.disconnect()


async def end_by_close(socket: SecureCommunicator, consumer: Any) -> None:
    await consumer.close()
    await ended(socket)


async def end_by_us(socket: SecureCommunicator, consumer: Any) -> None:
    consumer.connection.sever(DENIAL)
    await ended(socket)


@pytest.mark.parametrize("end", [end_by_peer, end_by_close, end_by_us])
async def test_a_second_close_is_no_error_and_anything_else_is(end: Callable[..., Any]) -> None:
    consumer, kept = keeping(Busy)
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    await end(socket, kept[0])
    sent = socket.output_queue.qsize()
    await kept[0].close()
    await kept[0].close(4001, "again")
    with pytest.raises(PeerGone):
        await kept[0].send_json({"too": "late"})
    assert socket.output_queue.qsize() == sent


async def test_a_handler_may_close_twice(caplog: pytest.LogCaptureFixture) -> None:
    class Twice(Busy):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.close(4001)
            await self.close(4002)
            self.done.append("both")

    consumer, kept = keeping(Twice)
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert await socket.closing() == (4001, "")
    assert kept[0].done == ["both"]


async def test_nobody_joins_a_group_after_the_end() -> None:
    consumer, kept = keeping(Busy)
    async with connect(consumer):
        await kept[0].join("lobby")
    with pytest.raises(PeerGone):
        await kept[0].join("lobby")
    assert groups.hub()._groups == {}
    assert get_channel_layer().groups == {}


async def test_nobody_joins_a_group_while_leaving() -> None:
    async def disconnect(self: Any, code: int) -> None:
        try:
            await self.join("lobby")
        except PeerGone:
            self.done.append("too late")

    consumer, kept = keeping(Busy, disconnect=disconnect)
    async with connect(consumer):
        pass
    assert kept[0].done == ["too late"]
    assert groups.hub()._groups == {}


# Messages and events that meet ----------------------------------------------------------------------------------------


class Meeting(SecureJsonConsumer):
    """Its event handler is held until it is let go, and then refuses, which spends the error budget."""

    allow_anonymous = True
    error_budget = "1/m"
    groups = ["lobby"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.handled: list[Any] = []

    async def refusal(self, event: Any) -> None:
        self.begun.set()
        await self.gate.wait()
        raise Denied("permission_denied")

    async def pause(self, event: Any) -> None:
        self.begun.set()
        await self.gate.wait()

    @handles("say")
    async def say(self, message: dict[str, Any]) -> None:
        self.handled.append(self.connection.handler_since)
        await self.send_json({"said": True})


async def refuse_once(socket: SecureCommunicator) -> None:
    """Spend what the error budget allows."""
    await socket.send_text("no message")
    assert (await socket.receive_json_from())["code"] == "invalid_message"


@pytest.mark.parametrize("when", ["while the event is handled", "after the denial"])
async def test_no_message_is_handled_after_an_event_ended_the_connection(when: str) -> None:
    consumer, kept = keeping(Meeting)
    socket = connect(consumer)
    assert (await socket.shake_hands()).accepted
    connection = only_connection()
    await refuse_once(socket)
    await get_channel_layer().group_send("lobby", {"type": "refusal"})
    await kept[0].begun.wait()
    if when == "while the event is handled":
        await socket.send_json_to({"type": "say"})
        await until(lambda: connection.received == 2)
        kept[0].gate.set()
        assert await told(socket) == ("too_many_errors", 4400)
    else:
        kept[0].gate.set()
        assert (await socket.receive_json_from())["code"] == "too_many_errors"
        assert (await socket.receive_output())["type"] == "websocket.close"
        await socket.send_json_to({"type": "say"})
    await ended(socket)
    assert kept[0].handled == []


async def test_a_handlers_time_begins_when_the_event_before_it_has_ended() -> None:
    """Else an event handler that takes long uses up the deadline of the message behind it."""
    consumer, kept = keeping(Meeting)
    async with connect(consumer) as socket:
        await get_channel_layer().group_send("lobby", {"type": "pause"})
        await kept[0].begun.wait()
        await socket.send_json_to({"type": "say"})
        await until(lambda: only_connection().received == 1)
        let_go = time.monotonic()
        kept[0].gate.set()
        assert await socket.receive_json_from() == {"said": True}
    [since] = kept[0].handled
    assert since >= let_go
