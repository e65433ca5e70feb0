"""Channels of a consumer's own on channels_redis.pubsub: nothing stays subscribed, whatever the listener was doing."""

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import pytest
from channels.exceptions import DenyConnection
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer

from channels_secure.consumers import SecureJsonConsumer
from channels_secure.policy.decisions import Denial, Reason
from tests.sockets import connect, only_connection, until

pytestmark = pytest.mark.django_db(transaction=True)


class Own(RedisPubSubChannelLayer):
    """A project's own, with metrics or the like."""


@pytest.fixture(params=["channels_redis.pubsub.RedisPubSubChannelLayer", f"{__name__}.Own"])
async def layer(request: pytest.FixtureRequest, redis_url: str, settings: Any) -> AsyncIterator[Any]:
    config = {"hosts": [redis_url], "prefix": f"test{token_hex(4)}"}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": request.param, "CONFIG": config}}
    made = get_channel_layer()
    yield made
    await made.flush()


class Named(SecureJsonConsumer):
    allow_anonymous = True

    async def authorize(self) -> bool:
        self.name = self.channel_name
        return True

    async def connect(self) -> None:
        await self.accept()
        await self.send_json(self.name)

    async def leave_now(self, event: Any) -> None:
        await self.close(4001)

    async def wait(self, event: Any) -> None:
        await self.send_json("waiting")
        await asyncio.Event().wait()


class Silent(Named):
    """Never asks for its channel."""

    async def authorize(self) -> bool:
        self.name = ""
        return True


class Denies(Named):
    """Refuses in the same breath in which it asks for its channel."""

    async def authorize(self) -> bool:
        return True

    async def connect(self) -> None:
        assert self.channel_name
        raise DenyConnection


async def left(layer: Any) -> None:
    async with asyncio.timeout(2):
        await until(lambda: layer.channels == {} and not layer._get_shard("")._subscribed_to)


async def test_one_that_never_listened(layer: Any) -> None:
    async with connect(Silent) as socket:
        assert await socket.receive_json_from() == ""
    await left(layer)


async def test_one_whose_listener_had_not_begun(layer: Any) -> None:
    assert not (await connect(Denies).shake_hands()).accepted
    await left(layer)


async def test_one_whose_event_ends_the_connection(layer: Any) -> None:
    socket = connect(Named)
    assert (await socket.shake_hands()).accepted
    await layer.send(await socket.receive_json_from(), {"type": "leave_now"})
    assert await socket.closing() == (4001, "")
    await left(layer)


async def test_one_that_is_ended_while_it_handles_an_event_and_others_wait(layer: Any) -> None:
    socket = connect(Named)
    assert (await socket.shake_hands()).accepted
    name = await socket.receive_json_from()
    for _ in range(3):
        await layer.send(name, {"type": "wait"})
    assert await socket.receive_json_from() == "waiting"
    await until(lambda: layer.channels[name].qsize() == 2)
    only_connection().sever(Denial(reason=Reason.DISCONNECTED))
    await socket.closing()
    await left(layer)


async def test_a_group_left_as_soon_as_it_was_joined(layer: Any) -> None:
    class Brief(Silent):
        async def connect(self) -> None:
            await self.join("lobby")
            await self.leave("lobby")
            await super().connect()

    async with connect(Brief) as socket:
        assert await socket.receive_json_from() == ""
    await left(layer)
