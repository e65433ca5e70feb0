"""A consumer with a codec: every frame is a token, both ways, and nothing else about the guards changes."""

import asyncio
import json
import logging
import time
from typing import Annotated, Any

import msgspec
import pytest
from cryptography.fernet import Fernet

from channels_secure import supervisor
from channels_secure.codecs import FernetCodec, JsonCodec, Unreadable
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.groups import broadcast
from channels_secure.testing import SecureCommunicator
from tests.sockets import connect, logged, only_connection, quiet, rows, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

KEY, OTHER = Fernet.generate_key().decode(), Fernet.generate_key().decode()
CLIENT = FernetCodec(keys=[KEY])


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Chat(SecureJsonConsumer):
    allow_anonymous = True
    codec = FernetCodec(keys=[KEY])

    @handles("say")
    async def say(self, message: Say) -> None:
        await self.send_json({"said": message.text})


async def send(socket: SecureCommunicator, content: Any, codec: FernetCodec = CLIENT) -> None:
    await socket.send_text(codec.encode(json.dumps(content)))


async def read(socket: SecureCommunicator, codec: FernetCodec = CLIENT) -> Any:
    return json.loads(codec.decode(await socket.receive_from()))


async def ask(socket: SecureCommunicator, content: Any) -> Any:
    await send(socket, content)
    return await read(socket)


async def test_messages_are_tokens_both_ways() -> None:
    async with connect(Chat) as socket:
        await send(socket, {"type": "say", "text": "hällo"})
        frame = await socket.receive_from()
        assert "said" not in frame
        assert json.loads(CLIENT.decode(frame)) == {"said": "hällo"}


async def test_the_packages_own_frames_are_tokens_too() -> None:
    class Greeting(Chat):
        send_hello = True
        heartbeat_interval = 0.01

    async with connect(Greeting) as socket:
        assert (await read(socket))["type"] == "hello"
        assert await ask(socket, {"type": "ping", "id": 1}) == {"type": "pong", "ref": 1}
        error = await ask(socket, {"type": "shout"})
        assert error["code"] == "unknown_type"
        supervisor.current().wake()
        assert await read(socket) == {"type": "ping"}


async def test_the_goodbye_of_an_open_socket_is_a_token() -> None:
    async with connect(Chat) as socket:
        await socket.send_input({"type": "websocket.receive", "bytes": b"x"})
        assert (await read(socket))["code"] == "unsupported_data"
        assert await socket.closing() == (4415, "unsupported_data")


async def test_a_broadcast_is_a_token_for_each_member() -> None:
    class Member(Chat):
        async def connect(self) -> None:
            await self.join("red")
            await self.accept()

    async with connect(Member) as one, connect(Member) as two:
        await broadcast("red", {"news": 1})
        assert await read(one) == await read(two) == {"news": 1}


async def test_a_refusal_before_the_socket_is_let_in_is_plain() -> None:
    class Closed(Chat):
        async def authorize(self) -> bool:
            return False

    class Denying(Chat):
        async def connect(self) -> None:
            await self.close()

    for consumer in (Closed, Denying):
        outcome = await connect(consumer).shake_hands()
        assert not outcome.accepted
        assert outcome.error["code"] == "permission_denied"


@pytest.mark.parametrize(
    "frame",
    [
        '{"type": "say", "text": "plain"}',
        "",
        "gAAAAA",
        "ü",
        "\ud800",
        FernetCodec(keys=[OTHER]).encode('{"type": "say", "text": "other key"}'),
        Fernet(KEY).encrypt_at_time(b'{"type": "say", "text": "old"}', int(time.time()) - 120).decode(),
        Fernet(KEY).encrypt(b"\xff").decode(),
    ],
    ids=["plain JSON", "empty", "cut off", "not ASCII", "surrogate", "another key", "old", "not UTF-8"],
)
async def test_an_unreadable_frame_is_a_violation_and_the_socket_stays_open(frame: str) -> None:
    async with connect(Chat) as socket:
        await socket.send_text(frame)
        assert await read(socket) == {
            "type": "error",
            "code": "invalid_message",
            "message": "The message is not valid.",
            "fatal": False,
            "errors": [{"path": "", "message": "Cannot be decrypted"}],
        }
        assert await ask(socket, {"type": "say", "text": "on"}) == {"said": "on"}


async def test_too_many_unreadable_frames_close_the_socket_and_are_recorded() -> None:
    class Strict(Chat):
        error_budget = "3/m"

    async with connect(Strict) as socket:
        for _ in range(4):
            await socket.send_text("noise")
        codes = [(await read(socket))["code"] for _ in range(4)]
        assert codes == ["invalid_message"] * 3 + ["too_many_errors"]
        assert (await socket.closing())[1] == "too_many_errors"
    assert [row.detail for row in await rows(kind="message.denied")] == [{"detail": "unreadable frame"}] * 4


async def test_what_a_token_carries_is_checked_like_any_message() -> None:
    async with connect(Chat) as socket:
        assert (await ask(socket, {"type": "say", "text": ""}))["errors"][0]["path"] == "text"
        await socket.send_text(CLIENT.encode('{"type": "say", "text": "a", "text": "b"}'))
        assert (await read(socket))["errors"][0]["message"] == "Duplicate key"
        await socket.send_text(CLIENT.encode("not JSON"))
        assert (await read(socket))["errors"][0]["message"] == "Not valid JSON"


class Counting(FernetCodec):
    """Counts what reaches the decryption."""

    decoded = 0

    def decode(self, frame: str, /) -> str:
        type(self).decoded += 1
        return super().decode(frame)


async def test_size_comes_before_decryption(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(Chat):
        codec = Counting(keys=[KEY])
        max_message_size = 200

    monkeypatch.setattr(Counting, "decoded", 0)
    async with connect(Small) as socket:
        await socket.send_text(CLIENT.encode("x" * 200))
        assert (await read(socket))["code"] == "message_too_big"
        assert (await socket.closing())[0] == 4413
    assert Counting.decoded == 0


async def test_the_rate_comes_before_decryption(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Chat):
        codec = Counting(keys=[KEY])
        message_rates = {"connection": "2/h"}

    monkeypatch.setattr(Counting, "decoded", 0)
    async with connect(Slow) as socket:
        answers = [await ask(socket, {"type": "say", "text": "x"}) for _ in range(4)]
    assert [answer.get("code", "said") for answer in answers] == ["said", "said", "rate_limited", "rate_limited"]
    assert Counting.decoded == 2


async def test_keys_may_differ_per_room_and_are_asked_for_after_authorize() -> None:
    order: list[str] = []

    async def keys_of(consumer: Any) -> list[str]:
        order.append("keys")
        return [KEY if consumer.scope["path"] == "/red/" else OTHER]

    class Rooms(Chat):
        codec = FernetCodec(keys=keys_of)

        async def authorize(self) -> bool:
            order.append("authorize")
            return self.scope["path"] != "/closed/"

        async def connect(self) -> None:
            order.append("connect")
            await self.accept()

    async with connect(Rooms, "/red/") as red, connect(Rooms, "/blue/") as blue:
        assert order == ["authorize", "keys", "connect"] * 2
        assert await ask(red, {"type": "say", "text": "x"}) == {"said": "x"}
        await blue.send_text(CLIENT.encode('{"type": "say", "text": "x"}'))
        assert (await read(blue, FernetCodec(keys=[OTHER])))["code"] == "invalid_message"
    order.clear()
    assert not (await connect(Rooms, "/closed/").shake_hands()).accepted
    assert order == ["authorize"]


async def test_keys_that_cannot_be_had_end_the_connection_before_connect(caplog: pytest.LogCaptureFixture) -> None:
    entered = []

    class Keyless(Chat):
        codec = FernetCodec(keys=lambda consumer: [])

        async def connect(self) -> None:
            entered.append(self)

    outcome = await connect(Keyless).shake_hands()
    assert outcome.error["code"] == "internal_error"
    assert entered == []
    assert any("failed" in word for word in logged(caplog, logging.ERROR))


async def test_a_binary_frame_of_the_project_is_an_error_and_not_sent_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Careless(Chat):
        @handles("leak")
        async def leak(self, message: dict[str, Any]) -> None:
            await self.send(bytes_data=b"secret")

    async with connect(Careless) as socket:
        assert (await ask(socket, {"type": "leak"}))["code"] == "internal_error"
        assert (await socket.closing())[0] == 4500
    assert "the codec carries text" in caplog.text


async def test_text_that_the_project_sends_itself_is_encrypted() -> None:
    class Raw(Chat):
        @handles("raw")
        async def raw(self, message: dict[str, Any]) -> None:
            await self.send(text_data="by hand")

    async with connect(Raw) as socket:
        await send(socket, {"type": "raw"})
        assert CLIENT.decode(await socket.receive_from()) == "by hand"


async def test_a_drop_in_class_gets_what_the_token_carries() -> None:
    class DropIn(SecureJsonConsumer):
        allow_anonymous = True
        codec = FernetCodec(keys=[KEY])

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json([content])

    async with connect(DropIn) as socket:
        assert await ask(socket, {"any": "thing"}) == [{"any": "thing"}]


async def test_a_message_read_ahead_is_good_when_it_came_even_if_its_token_grows_old_meanwhile() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    class Once(FernetCodec):
        """Takes each token once, as if it had grown too old the second time."""

        def decode(self, frame: str, /) -> str:
            if frame in seen:
                raise Unreadable
            seen.append(frame)
            return super().decode(frame)

    class Busy(Chat):
        codec = Once(keys=[KEY])

        @handles("work")
        async def work(self, message: dict[str, Any]) -> None:
            begun.set()
            await go.wait()

    async with connect(Busy) as socket:
        await send(socket, {"type": "work"})
        await begun.wait()
        connection = only_connection()
        assert connection.read_ahead is not None
        connection.read_ahead()
        await send(socket, {"type": "say", "text": "later"})
        await until(lambda: len(seen) == 2)
        go.set()
        assert await read(socket) == {"said": "later"}


async def test_a_codec_of_ones_own_needs_two_methods() -> None:
    class Backwards:
        def encode(self, text: str, /) -> str:
            return text[::-1]

        def decode(self, frame: str, /) -> str:
            if not frame.startswith("}"):
                raise Unreadable
            return frame[::-1]

    class Odd(Chat):
        codec = Backwards()

    async with connect(Odd) as socket:
        await socket.send_text('{"type": "say", "text": "x"}'[::-1])
        assert json.loads((await socket.receive_from())[::-1]) == {"said": "x"}


async def test_plain_frames_have_no_codec_in_their_way() -> None:
    class Plain(Chat):
        codec = JsonCodec()

    async with connect(Plain) as socket:
        connection = only_connection()
        assert "encoded" not in repr(connection.server_send)
        await socket.send_json_to({"type": "say", "text": "x"})
        assert await socket.receive_json_from() == {"said": "x"}
    async with connect(Chat):
        assert "encoded" in repr(only_connection().server_send)
