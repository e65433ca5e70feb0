"""Real channel layers of Redis, shared with consumers of plain Channels: nobody is deafened, nothing stays behind."""

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis import asyncio as redis

from channels_secure.consumers import SecureJsonConsumer
from channels_secure.groups import broadcast, hub
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import Echo, ask, connect, kinds, logged, until

pytestmark = pytest.mark.django_db(transaction=True)

CORE, PUBSUB = "channels_redis.core.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer"


class Secure(SecureJsonConsumer):
    allow_anonymous = True
    groups = ["shared", "secure"]

    async def news(self, event: Any) -> None:
        await self.send_json({"news": event["n"]})


class Plain(AsyncJsonWebsocketConsumer):
    groups = ["shared", "plain"]

    async def news(self, event: Any) -> None:
        await self.send_json({"news": event["n"]})


class Hearing(Plain):
    """One that knows how the package's broadcasts look on the layer."""

    async def channels_secure_broadcast(self, event: Any) -> None:
        await self.send(text_data=event["text"])


@pytest.fixture(params=[CORE, PUBSUB])
async def layer(request: pytest.FixtureRequest, redis_url: str, settings: Any) -> AsyncIterator[Any]:
    async for made in layers(request.param, redis_url, settings):
        yield made


@pytest.fixture
async def subscriptions(redis_url: str, settings: Any) -> AsyncIterator[RedisPubSubChannelLayer]:
    async for made in layers(PUBSUB, redis_url, settings):
        yield made


async def layers(backend: str, url: str, settings: Any) -> AsyncIterator[Any]:
    """A layer of this test's own on a server that others use too."""
    config = {"hosts": [url], "prefix": f"test{token_hex(4)}"}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    settings.CHANNELS_SECURE = {"ALLOW_ANONYMOUS": True}
    made = get_channel_layer()
    yield made
    await made.flush()


def plain(consumer: type[Plain] = Plain) -> SecureCommunicator:
    return SecureCommunicator(guarded(consumer.as_asgi()), "/plain/")


async def hears(socket: SecureCommunicator, group: str, n: int) -> None:
    await get_channel_layer().group_send(group, {"type": "news", "n": n})
    assert await socket.receive_json_from(1) == {"news": n}


async def test_plain_and_secure_consumers_of_one_group_hear_at_once(layer: Any) -> None:
    async with plain() as other, connect(Secure) as own:
        for n in range(3):
            await layer.group_send("shared", {"type": "news", "n": n})
            for socket in (other, own):
                assert await socket.receive_json_from(1) == {"news": n}


async def test_who_waits_for_an_event_deafens_nobody_else(layer: Any) -> None:
    """channels_redis waits on one real channel at a time; an event for another one would lie there for seconds."""
    async with plain() as other, connect(Secure) as own:
        for socket, group in ((own, "secure"), (other, "plain"), (own, "secure")):
            await hears(socket, group, 1)
            await hears(socket, group, 2)


async def test_a_broadcast_reaches_plain_consumers_that_know_its_type(layer: Any) -> None:
    async with plain(Hearing) as other, connect(Secure) as own:
        await broadcast("shared", {"type": "said"})
        for socket in (other, own):
            assert await socket.receive_json_from(1) == {"type": "said"}


async def test_a_broadcast_ends_a_plain_consumer_that_does_not(layer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As every event without a handler does in Channels; the members of ours go on."""
    other = plain()
    assert (await other.shake_hands()).accepted
    async with connect(Secure) as own:
        await broadcast("shared", {"type": "said"})
        assert await own.receive_json_from(1) == {"type": "said"}
        assert await other.closing(1) == (4500, "internal_error")
    assert "No handler for message type channels_secure.broadcast" in caplog.text


# What is subscribed --------------------------------------------------------------------------------------------------


class Reads(Secure):
    """Listens on its own channel too."""

    async def connect(self) -> None:
        assert self.channel_name
        await self.accept()


async def nothing_is_subscribed(layer: RedisPubSubChannelLayer, url: str) -> None:
    async with asyncio.timeout(2):
        await until(lambda: layer.channels == {} and layer.groups == {})
        client = redis.Redis.from_url(url)
        try:
            while await client.pubsub_channels(f"{layer.prefix}*"):
                await asyncio.sleep(0)
        finally:
            await client.aclose()


@pytest.mark.parametrize("consumer", [Echo, Secure, Reads])
async def test_connections_that_ended_leave_no_subscription(
    subscriptions: RedisPubSubChannelLayer, redis_url: str, consumer: type[SecureJsonConsumer]
) -> None:
    for _ in range(20):
        async with connect(consumer):
            assert len(subscriptions.channels) >= 1
    assert hub()._groups == {}
    await nothing_is_subscribed(subscriptions, redis_url)


# A layer that is away ------------------------------------------------------------------------------------------------


class Away(InMemoryChannelLayer):
    """One whose `new_channel()` asks a server, as that of channels_redis.pubsub, and cannot reach it."""

    async def new_channel(self, prefix: str = "specific.") -> str:
        raise ConnectionError("the layer is away")


async def test_who_needs_no_channel_is_served_while_the_layer_is_away(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Away"}}
    async with connect(Echo) as socket:
        assert await ask(socket, 1) == 1
    assert logged(caplog) == ["layer.failed"]
    assert await kinds() == ["connection.accepted", "connection.closed"]


async def test_a_channel_that_could_not_be_had_is_said_to_be_missing(settings: Any) -> None:
    class Names(Echo):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            try:
                await self.send_json(self.channel_name)
            except AttributeError as error:
                await self.send_json(str(error))

    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Away"}}
    async with connect(Names) as socket:
        assert "away" in await ask(socket, 1)
