"""Changes are told over the channel layer at once, and found by polling when that fails; with a real Valkey."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.contrib.auth.models import User
from redis import Redis

from channels_secure import blocklist, listening
from channels_secure.connections import adisconnect
from channels_secure.models import policy_change
from channels_secure.supervisor import push
from channels_secure.testing import SecureCommunicator
from tests.live.servers import environment
from tests.sockets import Echo, ask, calm, connect, logged, quiet, told, until  # noqa: F401
from tests.test_revocation import unannounced

pytestmark = [pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).resolve().parents[1]
# So seldom does a process look by itself that what it learns in time was told.
NEVER = {"POLICY_REFRESH_INTERVAL": 600.0, "AUDIT_FLUSH_INTERVAL": 0.05}
OFTEN = {"POLICY_REFRESH_INTERVAL": 0.1, "AUDIT_FLUSH_INTERVAL": 0.05}


def layers(url: str, prefix: str, **more: Any) -> dict[str, Any]:
    config = {"hosts": [url], "prefix": prefix, **more}
    return {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}


class Valkey:
    """The server behind the layer, as an operator sees it."""

    def __init__(self, url: str) -> None:
        self.prefix = uuid4().hex
        self.url = url
        self.client = Redis.from_url(url)

    def keys(self) -> list[bytes]:
        return list(self.client.scan_iter(f"{self.prefix}*"))

    def members(self) -> int:
        return sum(self.client.zcard(key) for key in self.keys() if push.GROUP.encode() in key)

    def forget(self) -> None:
        """FLUSHALL, for this test's keys alone."""
        for key in self.keys():
            self.client.delete(key)


@pytest.fixture
def valkey(redis_url: str, settings: Any, quiet: None) -> Iterator[Valkey]:  # noqa: F811
    server = Valkey(redis_url)
    settings.CHANNEL_LAYERS = layers(redis_url, server.prefix)
    yield server
    server.forget()
    server.client.close()


async def opened(**options: Any) -> SecureCommunicator:
    socket = connect(Echo, **options)
    assert (await socket.shake_hands()).accepted
    return socket


async def attended(valkey: Valkey) -> None:
    """This process listens."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(valkey.members):
            await asyncio.sleep(0.01)


def command(*arguments: str, valkey: Valkey) -> str:
    """Run a management command in a process of its own."""
    extra = {"CHANNELS_SECURE_TEST_CHANNEL_LAYERS": json.dumps(layers(valkey.url, valkey.prefix))}
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        cwd=ROOT,
        env=environment({}, extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Between processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason", "code"),
    [
        (["ws_disconnect", "--user", "alice"], "disconnected", 4440),
        (["ws_block", "--user", "alice"], "blocked", 4423),
        (["shell", "-c", "from django.contrib.auth.models import User; User.objects.all().delete()"],
         "session_ended", 4401),
    ],
    ids=["disconnect", "block", "shell"],
)  # fmt: skip
async def test_a_command_tells_the_servers_before_it_ends(
    valkey: Valkey, user: User, settings: Any, arguments: list[str], reason: str, code: int
) -> None:
    settings.CHANNELS_SECURE = NEVER
    socket, other = await opened(user=user), await opened()
    await attended(valkey)
    await asyncio.to_thread(command, *arguments, valkey=valkey)
    assert await told(socket) == (reason, code)
    assert await ask(other, 1) == 1
    await other.disconnect()


async def elsewhere(user: User) -> None:
    """Another process changes the policy and cannot tell anybody."""
    with unannounced():
        await adisconnect(user=user)


async def test_a_push_that_a_flushed_layer_lost_is_found_by_polling(valkey: Valkey, user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = OFTEN
    socket = await opened(user=user)
    await attended(valkey)
    await asyncio.to_thread(valkey.forget)
    await asyncio.to_thread(command, "ws_disconnect", "--user", "alice", valkey=valkey)
    assert await told(socket) == ("disconnected", 4440)


@pytest.fixture
def looks_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[bool]]:
    """From the call on, the listener hangs after its next look; returns the list of all looks that are begun."""

    def begin() -> list[bool]:
        looks, real = list[bool](), blocklist.refresh

        async def counting(*, full: bool = False) -> bool:
            looks.append(full)
            return await real(full=full)

        monkeypatch.setattr(push, "PAUSE", 3600.0)
        monkeypatch.setattr(blocklist, "refresh", counting)
        return looks

    return begin


async def test_a_full_channel_is_found_by_polling(
    valkey: Valkey, user: User, settings: Any, looks_once: Callable[[], list[bool]]
) -> None:
    """The listener hangs after the first message, so that the layer drops what comes later."""
    settings.CHANNEL_LAYERS = layers(valkey.url, valkey.prefix, capacity=1)
    settings.CHANNELS_SECURE = OFTEN
    socket = await opened(user=user)
    await attended(valkey)
    looks = looks_once()
    for _ in range(5):
        await get_channel_layer().group_send(push.GROUP, push.LOOK)
    await elsewhere(user)
    assert await told(socket) == ("disconnected", 4440)
    assert looks


async def test_a_membership_that_was_lost_comes_back(
    valkey: Valkey, user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "RENEW_INTERVAL", 0.05)
    settings.CHANNELS_SECURE = NEVER
    socket = await opened(user=user)
    await attended(valkey)
    await asyncio.to_thread(valkey.forget)
    await attended(valkey)
    await asyncio.to_thread(command, "ws_disconnect", "--user", "alice", valkey=valkey)
    assert await told(socket) == ("disconnected", 4440)


async def test_who_has_no_sockets_left_listens_no_more(valkey: Valkey, settings: Any) -> None:
    settings.CHANNELS_SECURE = NEVER
    socket = await opened()
    await attended(valkey)
    await socket.disconnect()
    await calm()
    assert await asyncio.to_thread(valkey.members) == 0


async def test_with_the_layer_away_sockets_open_and_changes_are_found(
    user: User,
    settings: Any,
    quiet: None,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.CHANNEL_LAYERS = layers("redis://127.0.0.1:1/0", "x")
    settings.CHANNELS_SECURE = OFTEN
    socket = await opened(user=user)
    began = time.monotonic()
    await adisconnect(user=user)
    assert time.monotonic() - began < push.SEND_TIMEOUT
    assert await told(socket) == ("disconnected", 4440)
    await asyncio.to_thread(push.finish)
    assert logged(caplog).count("push.failed") == 1


# What a message can do ------------------------------------------------------------------------------------------------


class Relay:
    """A layer that is not the in-memory one, in memory: it counts, and fails as it is told to."""

    sent: list[Any]
    failing: bool
    gate: threading.Event | None

    def __init__(self, **_: Any) -> None:
        self._layer = InMemoryChannelLayer()
        type(self).sent, type(self).failing, type(self).gate = [], False, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    async def group_send(self, group: str, message: Any) -> None:
        if group == push.GROUP:
            self.sent.append(message)
        if self.failing:
            raise ConnectionError("away")
        if self.gate is not None:
            await asyncio.sleep(3600)
        await self._layer.group_send(group, message)


@pytest.fixture
def relay(settings: Any, quiet: None) -> type[Relay]:  # noqa: F811
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_push.Relay"}}
    settings.CHANNELS_SECURE = NEVER
    get_channel_layer()
    return Relay


def change() -> None:
    with policy_change():
        pass


@pytest.mark.parametrize(
    "message",
    [{"type": "channels_secure.look", "user": 7}, {"type": "websocket.disconnect"}, {"type": None}, {"x": "y" * 9999}],
    ids=lambda message: str(message)[:30],
)
async def test_whatever_a_message_says_it_means_look(
    relay: type[Relay], message: Any, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    socket, other = await opened(user=user), await opened()
    await until(lambda: push.GROUP in get_channel_layer().groups)
    await elsewhere(user)
    await get_channel_layer()._layer.group_send(push.GROUP, message)
    assert await told(socket) == ("disconnected", 4440)
    assert await ask(other, 1) == 1
    await other.disconnect()
    assert "layer.bad_event" not in logged(caplog)


async def test_a_flood_of_messages_makes_few_looks(relay: type[Relay], looks_once: Callable[[], list[bool]]) -> None:
    socket = await opened()
    await until(lambda: push.GROUP in get_channel_layer().groups)
    looks = looks_once()
    for _ in range(90):
        await get_channel_layer()._layer.group_send(push.GROUP, push.LOOK)
    await until(lambda: len(looks) > 0)
    assert await ask(socket, 1) == 1
    assert len(looks) == 1
    await socket.disconnect()


def test_a_burst_of_changes_is_few_messages(relay: type[Relay]) -> None:
    began = time.monotonic()
    for _ in range(200):
        change()
    took = time.monotonic() - began
    push.finish()
    assert 1 <= len(relay.sent) <= took / push.PAUSE + 2
    assert all(message == push.LOOK for message in relay.sent)


def test_the_last_change_of_a_burst_is_told_too(relay: type[Relay]) -> None:
    change()
    push.finish()
    sent = len(relay.sent)
    change()
    push.finish()
    assert len(relay.sent) == sent + 1


def test_what_is_rolled_back_is_not_told(relay: type[Relay]) -> None:
    with pytest.raises(KeyError), policy_change():
        raise KeyError
    push.finish()
    assert relay.sent == []


def test_a_layer_that_fails_is_logged_once_and_the_change_stands(
    relay: type[Relay], caplog: pytest.LogCaptureFixture
) -> None:
    relay.failing = True
    for _ in range(3):
        change()
        push.finish()
    assert logged(caplog) == ["push.failed"]
    relay.failing = False
    change()
    push.finish()
    relay.failing = True
    change()
    push.finish()
    assert logged(caplog) == ["push.failed", "push.failed"]


def test_a_layer_that_hangs_holds_up_nobody(relay: type[Relay], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "SEND_TIMEOUT", 0.2)
    relay.gate = threading.Event()
    began = time.monotonic()
    change()
    assert time.monotonic() - began < 0.2
    push.finish(10)
    assert threading_names().count("channels_secure.push") == 0


def threading_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_where_no_layer_is_shared_there_is_no_thread(
    settings: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    cried: list[bool] = []
    monkeypatch.setattr(push._crier, "cry", lambda: cried.append(True))
    for configured in ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, {}):
        settings.CHANNEL_LAYERS = configured
        change()
    assert cried == []
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_push.Relay"}}
    change()
    assert cried == [True]


def test_a_layer_that_cannot_be_made_is_no_error_of_the_change(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}
    change()
    assert logged(caplog) == ["push.failed"]


async def test_a_listener_outlives_a_layer_that_fails(
    relay: type[Relay], user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "RETRY_FIRST", 0.001)
    monkeypatch.setattr(listening, "RETRY_LAST", 0.002)
    layer, fails = get_channel_layer(), iter([True] * 5)
    real: Callable[[str], Any] = layer._layer.receive

    async def receive(channel: str) -> Any:
        if next(fails, False):
            raise ConnectionError("blip")
        return await real(channel)

    layer.receive = receive
    socket = await opened(user=user)
    await until(lambda: "layer.failed" in logged(caplog))
    await elsewhere(user)
    await layer._layer.group_send(push.GROUP, push.LOOK)
    assert await told(socket) == ("disconnected", 4440)
    assert logged(caplog).count("layer.failed") == 1


def test_a_child_process_has_a_crier_of_its_own() -> None:
    before = push._crier
    push._forget()
    assert push._crier is not before
