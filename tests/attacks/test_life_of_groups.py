"""Groups under load and over time: nobody healthy is cut, nothing is lost, and no group depends on another."""

import asyncio
import time
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import InMemoryChannelLayer, channel_layers
from django.test import override_settings

from channels_secure import groups
from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.testing import SecureCommunicator, guarded

pytestmark = pytest.mark.django_db(transaction=True)

FREE = {"HANDSHAKE_RATES": {"ip": None, "user": None}, "MAX_CONNECTIONS": {"user": None, "ip": None}}


class Room(SecureJsonConsumer):
    allow_anonymous = True

    async def connect(self) -> None:
        await self.join("room")
        await self.accept()

    @handles("say")
    async def say(self, message: dict[str, Any]) -> None:
        await self.broadcast("room", {"type": "said"})

    async def tick(self, event: dict[str, Any]) -> None:
        await self.send_json({"type": "tick"})


def room(**options: Any) -> SecureCommunicator:
    return SecureCommunicator(guarded(Room.as_asgi()), **options)


class StalledLayer(InMemoryChannelLayer):
    """A layer of which one group hangs, as one slow command of Redis does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reached = asyncio.Event()

    async def group_add(self, group: str, channel: str) -> None:
        if group == "stalled":
            self.reached.set()
            await asyncio.Event().wait()
        await super().group_add(group, channel)


async def test_many_broadcasts_of_one_moment_cut_no_healthy_reader() -> None:
    with override_settings(CHANNELS_SECURE=FREE):
        async with room(client="192.0.2.7") as socket:
            # As when a hundred sockets are read in one pass of the loop and each handler broadcasts.
            await asyncio.gather(*(groups.broadcast("room", {"type": "said", "n": n}) for n in range(100)))
            for n in range(100):
                assert await socket.receive_json_from() == {"type": "said", "n": n}


async def test_a_hundred_broadcasts_in_a_row_reach_a_healthy_reader() -> None:
    async with room() as socket:
        for n in range(100):
            await groups.broadcast("room", {"type": "said", "n": n})
        for n in range(100):
            assert (await socket.receive_json_from())["n"] == n


def unread(app: Any) -> Any:
    """The application behind a server whose peer reads nothing after the handshake."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def full(event: Any) -> None:
            await send(event)
            if event["type"] != "websocket.accept":
                await asyncio.Event().wait()

        await app(scope, receive, full)

    return application


async def test_a_member_that_does_not_read_is_cut_and_delays_nobody() -> None:
    stuck = SecureCommunicator(unread(guarded(Room.as_asgi())))
    assert (await stuck.shake_hands()).accepted
    [connection] = registry()
    async with room() as healthy:
        n = 0
        while not connection.ended and n < 100_000:
            await groups.broadcast("room", {"type": "said", "n": n})
            assert (await healthy.receive_json_from())["n"] == n
            n += 1
        assert connection.ended
        await asyncio.wait({stuck.future}, timeout=3)
        assert connection not in registry()


async def test_a_group_is_still_heard_after_the_layers_group_expiry() -> None:
    """Channels forgets a membership after `group_expiry`, a day; a busy room never empties, so nobody joins it anew."""
    layer = channel_layers["default"]
    async with room():
        for channel in layer.groups["room"]:
            layer.groups["room"][channel] = time.time() - layer.group_expiry - 10
        async with room() as newcomer:
            await layer.group_send("room", {"type": "tick"})
            assert await newcomer.receive_json_from(2) == {"type": "tick"}


@pytest.mark.parametrize("event", [{"type": groups.BROADCAST}, {"type": groups.BROADCAST, "text": 5}])
async def test_a_malformed_event_does_not_deafen_a_group(event: dict[str, Any]) -> None:
    layer = channel_layers["default"]
    async with room() as socket:
        await layer.group_send("room", event)
        await asyncio.sleep(0)
        await layer.group_send("room", {"type": "tick"})
        assert await socket.receive_json_from(2) == {"type": "tick"}


async def test_a_group_that_hangs_in_the_layer_holds_up_no_other_group() -> None:
    stalled = {"default": {"BACKEND": f"{__name__}.StalledLayer"}}
    with override_settings(CHANNEL_LAYERS=stalled):
        layer = channel_layers["default"]
        async with asyncio.timeout(5):
            async with room() as first:
                [connection] = registry()
                member = next(iter(groups.hub()._groups["room"].members))
                stuck = asyncio.create_task(groups.hub().join(member, "stalled"))
                await layer.reached.wait()
                try:
                    async with asyncio.timeout(1):
                        await groups.hub().join(member, "other")
                finally:
                    stuck.cancel()
                    await asyncio.wait({stuck})
                assert not connection.ended
                await groups.hub().leave(member, "other")
                await groups.hub().leave(member, "stalled")
                await first.send_json_to({"type": "say"})
                assert await first.receive_json_from() == {"type": "said"}


async def test_a_broadcast_between_join_and_accept_is_not_lost() -> None:
    """Join first, read the history, then accept: that order exists so that nothing falls in between."""

    class Careful(Room):
        async def connect(self) -> None:
            await self.join("room")
            await groups.broadcast("room", {"type": "said", "when": "meanwhile"})
            await self.accept()

    async with SecureCommunicator(guarded(Careful.as_asgi())) as socket:
        assert await socket.receive_json_from(2) == {"type": "said", "when": "meanwhile"}


async def test_a_layer_event_between_join_and_accept_waits_for_connect() -> None:
    class Careful(Room):
        async def connect(self) -> None:
            await self.join("room")
            await self.channel_layer.group_send("room", {"type": "tick"})
            for _ in range(10):
                await asyncio.sleep(0)
            await self.accept()

    async with SecureCommunicator(guarded(Careful.as_asgi())) as socket:
        assert await socket.receive_json_from(2) == {"type": "tick"}


async def test_groups_are_forgotten_with_their_last_member_however_it_ends() -> None:
    for end in ("disconnect", "sever"):
        socket = room()
        assert (await socket.shake_hands()).accepted
        if end == "sever":
            [connection] = registry()
            connection.sever(Denial(reason=Reason.DISCONNECTED))
            connection.sever(Denial(reason=Reason.BLOCKED))
            assert await socket.closing() == (4440, "disconnected")
        else:
            await socket.disconnect()
        assert groups.hub()._groups == {}
        assert "room" not in channel_layers["default"].groups
        assert len(registry()) == 0


async def test_a_busy_group_silences_none_of_its_members() -> None:
    """Events that come faster than they are handled must leave the message loop its turns."""

    class Busy(Room):
        async def tick(self, event: dict[str, Any]) -> None:
            for _ in range(5):
                await asyncio.sleep(0)

    async def tell() -> None:
        while True:
            await channel_layers["default"].group_send("room", {"type": "tick"})
            await asyncio.sleep(0)

    async with SecureCommunicator(guarded(Busy.as_asgi())) as socket:
        telling = asyncio.create_task(tell())
        try:
            for _ in range(50):
                await asyncio.sleep(0)
            await socket.send_json_to({"type": "say"})
            assert await socket.receive_json_from(2) == {"type": "said"}
            await socket.send_input({"type": "websocket.disconnect", "code": 1000})
            done, _ = await asyncio.wait({socket.future}, timeout=2)
            assert done
        finally:
            telling.cancel()
            await asyncio.wait({telling})


async def test_synchronous_code_broadcasts_to_open_sockets() -> None:
    async with room() as socket:
        await sync_to_async(async_to_sync(groups.broadcast))("room", {"type": "said", "by": "a view"})
        assert await socket.receive_json_from(3) == {"type": "said", "by": "a view"}
