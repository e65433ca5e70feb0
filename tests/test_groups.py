"""Groups: any name, one encoding, and members that come, go, or do not read."""

import asyncio
import hashlib
from typing import Any

import msgspec
import pytest
from channels.exceptions import InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import strategies as st

from channels_secure import groups, listening
from channels_secure.connections import outbox
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.groups import broadcast, group_name, hub
from channels_secure.testing import guarded
from tests.sockets import StalledPeer, ask, connect, logged, quiet, rows, until  # noqa: F401

NAMES = ["lobby", "a.b-c_D9", "x" * 99, "x" * 100, "löbby", "房间", "a b", "a:b", "a/b", "../x", "", "@", "*",
         "😀" * 400, "\ud800",
         "cs." + "0" * 32, "a\n", "a!b", "\x00"]  # fmt: skip


class Room(SecureJsonConsumer):
    """A member of the group that its path names."""

    allow_anonymous = True
    message_rates = {"connection": None, "user": None}
    room = "lobby"
    encoded = 0

    async def connect(self) -> None:
        await self.join(self.room)
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if content == "leave":
            await self.leave(self.room)
        elif content == "join":
            await self.join(self.room)
        elif content != "ping":
            await self.broadcast(self.room, content)
            return
        await self.send_json({"done": content})

    async def news(self, event: Any) -> None:
        await self.send_json({"news": event["n"]})

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        cls.encoded += 1
        return await super().encode_json(content)


def room(name: str = "lobby", base: type[SecureJsonConsumer] = Room, **attributes: Any) -> type[Any]:
    return type("Room", (base,), {"room": name, **attributes})


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lobby", "a.b-c_D9", "x" * 99, "cs.lobby", "cs." + "0" * 31, "CS." + "0" * 32])
def test_a_name_that_channels_accepts_is_used_unchanged(name: str) -> None:
    assert group_name(name) == name


@pytest.mark.parametrize("name", ["x" * 100, "löbby", "a b", "a:b", "", "a\n", "١", "cs." + "0" * 32])
def test_any_other_name_is_hashed(name: str) -> None:
    assert group_name(name) == "cs." + hashlib.sha256(name.encode()).hexdigest()[:32]


@given(st.text())
def test_every_name_becomes_one_that_channels_accepts(name: str) -> None:
    assert InMemoryChannelLayer().require_valid_group_name(group_name(name))


@given(st.text(), st.text())
def test_two_names_are_two_groups(one: str, other: str) -> None:
    """Also when one of them is spelled like the hash of the other."""
    assert (group_name(one) == group_name(other)) == (one == other)
    assert group_name(group_name(one)) != group_name(one) or group_name(one) == one


@pytest.mark.parametrize("name", [None, 5, b"lobby", ["lobby"]])
def test_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(TypeError, match="a group's name is a string"):
        group_name(name)


# Members --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_broadcast_reaches_the_members_of_its_group_and_nobody_else(name: str) -> None:
    here, elsewhere = room(name), room(name + "2")
    async with connect(here) as one, connect(here) as two, connect(elsewhere) as other:
        await one.send_json_to({"text": "hi"})
        assert await one.receive_json_from() == {"text": "hi"}
        assert await two.receive_json_from() == {"text": "hi"}
        assert await ask(other, "ping") == {"done": "ping"}
        assert await ask(two, "ping") == {"done": "ping"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_broadcast_is_encoded_once() -> None:
    member = room()
    async with connect(member) as one, connect(member) as two, connect(member) as three:
        await one.send_json_to({"text": "hi"})
        for socket in (one, two, three):
            assert await socket.receive_json_from() == {"text": "hi"}
    assert member.encoded == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_who_has_left_hears_nothing_and_who_has_come_back_does() -> None:
    member = room()
    async with connect(member) as one, connect(member) as two:
        assert await ask(two, "leave") == {"done": "leave"}
        assert await ask(one, {"n": 1}) == {"n": 1}
        assert await ask(two, "join") == {"done": "join"}
        assert await ask(one, {"n": 2}) == {"n": 2}
        assert await two.receive_json_from() == {"n": 2}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_joining_twice_is_joining_once_and_leaving_what_was_not_joined_is_nothing() -> None:
    class Twice(Room):
        async def connect(self) -> None:
            await self.leave("nowhere")
            await self.join(self.room)
            await super().connect()

    async with connect(Twice) as socket:
        assert await ask(socket, {"n": 1}) == {"n": 1}
        assert await ask(socket, "ping") == {"done": "ping"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_the_last_member_unsubscribes_the_process() -> None:
    layer = get_channel_layer()
    async with connect(room()):
        async with connect(room()):
            assert len(layer.groups["lobby"]) == 1
        assert len(layer.groups["lobby"]) == 1
    assert "lobby" not in layer.groups
    assert hub()._groups == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_many_who_come_and_go_at_once_leave_nothing_behind() -> None:
    member = room()

    async def visit() -> None:
        async with connect(member) as socket:
            assert await ask(socket, "leave") == {"done": "leave"}
            assert await ask(socket, "join") == {"done": "join"}

    await asyncio.gather(*(visit() for _ in range(20)))
    assert hub()._groups == {}
    assert get_channel_layer().groups == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_group_joined_by_somebody_who_is_then_refused_is_left_again() -> None:
    class Refused(Room):
        async def authorize(self) -> bool:
            await self.join(self.room)
            assert self.channel_name
            return False

    assert not (await connect(Refused).shake_hands()).accepted
    assert hub()._groups == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_what_is_said_before_the_accept_is_sent_after_it() -> None:
    gate, waiting = asyncio.Event(), asyncio.Event()

    class Waiting(Room):
        async def connect(self) -> None:
            await self.join(self.room)
            waiting.set()
            await gate.wait()
            await self.accept()

    late = connect(Waiting)
    shaking = asyncio.get_running_loop().create_task(late.shake_hands())
    await waiting.wait()
    async with connect(room()) as socket:
        assert await ask(socket, {"n": 1}) == {"n": 1}
    assert not shaking.done()
    gate.set()
    assert (await shaking).accepted
    assert await late.receive_json_from() == {"n": 1}
    assert await ask(late, "ping") == {"done": "ping"}
    await late.disconnect()


@pytest.mark.parametrize("name", ["lobby", "löbby"])
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_anybody_may_broadcast_from_anywhere(name: str) -> None:
    async with connect(room(name)) as socket:
        await broadcast(name, {"text": mark_safe("<b>"), "at": msgspec.json.decode('"2026-01-01"')})
        assert await socket.receive_json_from() == {"text": "<b>", "at": "2026-01-01"}


# Channels' own grammar ------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_plain_group_send_meets_those_who_joined() -> None:
    async with connect(room()) as one, connect(room()) as two:
        await get_channel_layer().group_send("lobby", {"type": "news", "n": 5})
        assert await one.receive_json_from() == {"news": 5}
        assert await two.receive_json_from() == {"news": 5}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_broadcast_meets_those_who_were_added_by_channels_grammar() -> None:
    class Added(Room):
        async def connect(self) -> None:
            await self.channel_layer.group_add("lobby", self.channel_name)
            await self.accept()

    class Named(Room):
        groups = ["lobby"]

        async def connect(self) -> None:
            await self.accept()

    async with connect(Added) as added, connect(Named) as named, connect(room()) as joined:
        await broadcast("lobby", {"n": 1})
        for socket in (added, named, joined):
            assert await socket.receive_json_from() == {"n": 1}
        for socket in (added, named, joined):
            assert await ask(socket, "ping") == {"done": "ping"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_two_events_to_a_group_do_not_share_their_dict() -> None:
    class Changing(Room):
        async def news(self, event: Any) -> None:
            event["n"] += 1
            await super().news(event)

    async with connect(Changing) as one, connect(Changing) as two:
        await get_channel_layer().group_send("lobby", {"type": "news", "n": 5})
        assert await one.receive_json_from() == {"news": 6}
        assert await two.receive_json_from() == {"news": 6}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_groups_live_on_the_layer_that_the_class_names(settings: Any) -> None:
    memory = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": memory, "other": memory}

    class Other(Room):
        channel_layer_alias = "other"

    async with connect(Other) as other, connect(Room) as default:
        await broadcast("lobby", {"n": 1}, alias="other")
        assert await other.receive_json_from() == {"n": 1}
        assert await ask(default, "ping") == {"done": "ping"}
        assert "lobby" in get_channel_layer("other").groups


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_groups_need_a_channel_layer(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.CHANNEL_LAYERS = {}
    with pytest.raises(InvalidChannelLayerError, match="groups need a channel layer"):
        await broadcast("lobby", {})
    outcome = await connect(Room).shake_hands()
    assert (outcome.code, outcome.reason) == (4500, "internal_error")


async def test_a_process_hears_what_another_one_broadcasts(settings: Any) -> None:
    """Another process is another hub on the same layer."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    layer = get_channel_layer()
    here, there = groups.Hub(layer), groups.Hub(layer)
    heard: dict[str, list[Any]] = {"here": [], "there": []}

    class Member:
        def __init__(self, name: str) -> None:
            self.connection: Any = self
            self.inbox: Any = self
            self.post = heard[name].append
            self.put = heard[name].append

    one, other = Member("here"), Member("there")
    await here.join(one, "lobby")
    await there.join(other, "lobby")
    await here.broadcast("lobby", "1")
    await until(lambda: heard == {"here": ["1"], "there": ["1"]})
    await layer.group_send("lobby", {"type": "news"})
    await until(lambda: heard["here"][1:] == heard["there"][1:] == [{"type": "news"}])
    await here.leave(one, "lobby")
    await there.broadcast("lobby", "2")
    await until(lambda: heard["there"][2:] == ["2"])
    assert len(heard["here"]) == 2
    await there.leave(other, "lobby")
    assert layer.groups == {}


# Trouble --------------------------------------------------------------------------------------------------------------


class Trouble(InMemoryChannelLayer):
    """A layer that can be told to fail."""

    failing: set[str] = set()
    gate: asyncio.Event | None = None
    asked = 0

    async def receive(self, channel: str) -> Any:
        self._check("receive")
        return await super().receive(channel)

    async def group_add(self, group: str, channel: str) -> None:
        self._check("group_add")
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._check("group_discard")
        if self.gate is not None:
            await self.gate.wait()
        await super().group_discard(group, channel)

    async def group_send(self, group: str, message: Any) -> None:
        type(self).asked += 1
        self._check("group_send")
        if self.gate is not None:
            await self.gate.wait()
        await super().group_send(group, message)

    def _check(self, what: str) -> None:
        if what in self.failing:
            raise ConnectionError("the layer is away")


@pytest.fixture
def trouble(quiet: None, settings: Any) -> Any:  # noqa: F811
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_groups.Trouble"}}
    Trouble.failing, Trouble.gate, Trouble.asked = set(), None, 0
    return Trouble


@pytest.mark.django_db(transaction=True)
async def test_a_layer_that_fails_ends_no_socket_and_is_heard_again_when_it_is_back(
    trouble: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_FIRST", 0.001)
    monkeypatch.setattr(listening, "RETRY_LAST", 0.002)
    trouble.failing = {"receive"}
    async with connect(room()) as socket:
        assert await ask(socket, "ping") == {"done": "ping"}
        await until(lambda: "layer.failed" in logged(caplog))
        trouble.failing = set()
        await get_channel_layer().group_send("lobby", {"type": "news", "n": 1})
        assert await socket.receive_json_from() == {"news": 1}
    # However often it is asked in vain, the log says so once.
    assert logged(caplog).count("layer.failed") == 1


@pytest.mark.django_db(transaction=True)
async def test_a_layer_that_fails_at_the_end_leaves_no_member(trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with connect(room()):
        trouble.failing = {"group_discard"}
    assert "layer.failed" in logged(caplog)
    assert hub()._groups == {}
    trouble.failing = set()
    async with connect(room()) as socket:
        assert await ask(socket, {"n": 1}) == {"n": 1}


@pytest.mark.django_db(transaction=True)
async def test_a_group_that_the_layer_could_not_be_told_of_is_told_later(
    trouble: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "RETRY", 0.002)
    # Both: one that succeeds says that the layer is back, and the next that fails is news again.
    trouble.failing = {"group_add", "group_send"}
    async with connect(room()) as socket:
        # Meanwhile what is said in this process is heard.
        assert await ask(socket, {"n": 1}) == {"n": 1}
        assert "lobby" not in get_channel_layer().groups
        trouble.failing = set()
        await until(lambda: "lobby" in get_channel_layer().groups)
        await get_channel_layer().group_send("lobby", {"type": "news", "n": 1})
        assert await socket.receive_json_from() == {"news": 1}
    assert logged(caplog).count("layer.failed") == 1
    assert hub()._groups == {}
    assert get_channel_layer().groups == {}


@pytest.mark.django_db(transaction=True)
async def test_a_group_that_is_left_before_the_layer_is_back_is_not_told_of_any_more(
    trouble: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "RETRY", 0.002)
    trouble.failing = {"group_add"}
    async with connect(room()):
        pass
    assert hub()._groups == {}
    trouble.failing = set()
    async with connect(room()) as socket:
        assert await ask(socket, {"n": 1}) == {"n": 1}
    assert get_channel_layer().groups == {}


@pytest.mark.django_db(transaction=True)
async def test_a_layer_that_fails_ends_no_socket_that_broadcasts_and_is_asked_again(
    trouble: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(room()) as socket:
        trouble.failing = {"group_send"}
        for number in range(3):
            assert await ask(socket, {"n": number}) == {"n": number}
        assert trouble.asked == 1
        assert logged(caplog).count("layer.failed") == 1
        with pytest.raises(ConnectionError):
            await groups.broadcast("lobby", {"n": 4})
        assert await socket.receive_json_from() == {"n": 4}
        trouble.failing = set()
        monkeypatch.setattr(groups, "RETRY", 0.0)
        assert await ask(socket, {"n": 5}) == {"n": 5}
        assert trouble.asked == 3


@pytest.mark.django_db(transaction=True)
async def test_a_layer_that_hangs_keeps_no_handler(trouble: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "PATIENCE", 0.01)
    trouble.gate = asyncio.Event()
    async with connect(room()) as socket:
        for number in range(2):
            assert await ask(socket, {"n": number}) == {"n": number}
            assert await ask(socket, "ping") == {"done": "ping"}
        # It was waited for once only.
        assert trouble.asked == 1
        trouble.gate.set()


@pytest.mark.django_db(transaction=True)
async def test_a_layer_that_hangs_at_the_end_holds_up_nobody(trouble: Any, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"DISCONNECT_TIMEOUT": 0.01}
    trouble.gate = asyncio.Event()
    async with connect(room()):
        pass
    assert get_channel_layer().groups != {}
    trouble.gate.set()
    await until(lambda: get_channel_layer().groups == {})


def stalled(consumer: type[SecureJsonConsumer]) -> StalledPeer:
    return StalledPeer(guarded(consumer.as_asgi()), "/ws/")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_member_that_does_not_read_delays_nobody_and_is_cut() -> None:
    slow = stalled(room())
    assert (await slow.shake_hands()).accepted
    slow.stall()
    async with connect(room()) as reader:
        for number in range(outbox.MAX_FRAMES + 3):
            await broadcast("lobby", {"n": number})
            assert await reader.receive_json_from() == {"n": number}
        await slow.wait(10)
        assert await ask(reader, {"n": -1}) == {"n": -1}
    assert slow.output_queue.qsize() == 1
    assert [event.reason for event in await rows(kind="connection.closed")] == ["slow_consumer", ""]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_member_that_reads_slowly_but_reads_gets_everything() -> None:
    slow = stalled(room())
    assert (await slow.shake_hands()).accepted
    slow.stall()
    for number in range(outbox.MAX_FRAMES):
        await broadcast("lobby", {"n": number})
    assert (await slow.receive_output())["type"] == "in the buffer"
    assert [await slow.receive_json_from() for _ in range(outbox.MAX_FRAMES)] == [
        {"n": number} for number in range(outbox.MAX_FRAMES)
    ]
    assert await ask(slow, "ping") == {"done": "ping"}
    await slow.disconnect()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_what_a_member_leaves_unread_is_bounded_in_characters_too() -> None:
    slow = stalled(room())
    assert (await slow.shake_hands()).accepted
    slow.stall()
    for _ in range(5):
        await broadcast("lobby", {"text": "x" * (outbox.MAX_CHARACTERS // 4)})
    await slow.wait(10)
    assert [event.reason for event in await rows(kind="connection.closed")] == ["slow_consumer"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_burst_of_broadcasts_cuts_nobody_who_reads() -> None:
    async with connect(room()) as one, connect(room()) as two:
        for number in range(5 * outbox.MAX_FRAMES):
            await broadcast("lobby", {"n": number})
        for socket in (one, two):
            assert [(await socket.receive_json_from())["n"] for _ in range(5 * outbox.MAX_FRAMES)] == list(
                range(5 * outbox.MAX_FRAMES)
            )


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_broadcast_inside_a_handler_arrives_in_order_with_what_is_sent() -> None:
    class Both(Room):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.broadcast(self.room, {"n": 1})
            await self.send_json({"n": 2})

    async with connect(Both) as socket:
        assert await ask(socket, 0) == {"n": 1}
        assert await socket.receive_json_from() == {"n": 2}
