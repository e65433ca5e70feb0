"""A real channel layer that is stopped, paused, flushed and full under real servers, as failure-modes.md says."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import psutil
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from redis import Redis
from redis.exceptions import ConnectionError as LayerAway

from channels_secure import blocklist, groups
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import RULES, Reason
from channels_secure.supervisor import push
from channels_secure.testing import log_in
from tests.conftest import MakeUser
from tests.live.servers import LiveServer, RawSocket, ServerPool
from tests.live.swallowing import relay
from tests.services import OwnRedis, own_redis
from tests.sockets import logged
from tests.test_push import layers, threading_names

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]

ORIGIN = "https://chat.example.com"
ROOMS, BRIEF = "tests.live.rooms:application", "tests.live.brief_layer:application"
SETTINGS: dict[str, Any] = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": None, "user": None},
    "MESSAGE_RATES": {"connection": None, "user": None},
    "HANDSHAKE_TIMEOUT": 3,
    # Nobody is to be cut for reading slowly before the block cuts them.
    "SEND_TIMEOUT": 60,
    "REJECTION": "http",
}
# Two look for themselves; the third would not for ten minutes, and so shows what was told and what was not.
LOOKS, NEVER = {"POLICY_REFRESH_INTERVAL": 0.5}, {"POLICY_REFRESH_INTERVAL": 600.0}
CAPACITY = 20
# Seconds. Longer than channels_redis waits for a message, which is five.
EXPIRY, PATIENCE = 3, 6
# A loaded machine's seconds.
SLACK = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Processes on one database and one layer."""

    valkey: OwnRedis
    prefix: str
    servers: Sequence[LiveServer]

    @property
    def looking(self) -> Sequence[LiveServer]:
        return self.servers[:-1]

    @property
    def told(self) -> LiveServer:
        return self.servers[-1]

    def listeners(self, group: str) -> list[tuple[bytes, float]]:
        """The channels that the layer knows in a group, and when it was last told of them."""
        with Redis.from_url(self.valkey.url) as client:
            found: Any = client.zrange(f"{self.prefix}:group:{group}", 0, -1, withscores=True)
        return list(found)

    def wait_for_listeners(self, name: str, since: float = 0.0) -> None:
        """Every process listens to the group and to changes, and has said so since then."""
        for group in (name, push.GROUP):
            until(partial(self.all_listen, group, since), f"all listen to {group}")

    def all_listen(self, group: str, since: float) -> bool:
        return sum(told_at >= since for _, told_at in self.listeners(group)) == len(self.servers)

    def full(self) -> int:
        """How many processes have as many messages waiting for them as there is room for."""
        with Redis.from_url(self.valkey.url) as client:
            keys: Any = client.scan_iter(f"{self.prefix}specific.*")
            return sum(client.zcard(key) >= CAPACITY for key in keys)

    def flush(self) -> None:
        with Redis.from_url(self.valkey.url) as client:
            client.flushall()


def until(condition: Callable[[], bool], what: str) -> None:
    """Ask again until something holds: the layer announces nothing."""
    deadline, pause = time.monotonic() + SLACK, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {SLACK} s: {what}"
        pause.wait(0.05)


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnRedis]:
    with own_redis() as server:
        yield server


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[ServerPool]:
    with ServerPool(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


def deploy(
    pool: ServerPool, valkey: OwnRedis, app: str, prefix: str, kinds: dict[str, Any], **layer: Any
) -> Deployment:
    """Start each process once for the module; `kinds` are their settings."""
    environ = {"CHANNELS_SECURE_TEST_CHANNEL_LAYERS": json.dumps(layers(valkey.url, prefix, **layer))}
    servers = [
        pool.shared(kind, app, settings={**SETTINGS, **own}, environ={**environ, "CHANNELS_SECURE_TEST_NUMBER": name})
        for name, (kind, own) in kinds.items()
    ]
    return Deployment(valkey=valkey, prefix=prefix, servers=servers)


@pytest.fixture
def deployment(pool: ServerPool, valkey: OwnRedis, settings: Any) -> Iterator[Deployment]:
    """Three processes, and this one, from which the changes come."""
    kinds = {"here": ("uvicorn", LOOKS), "there": ("daphne", LOOKS), "told": ("uvicorn", NEVER)}
    deployment = deploy(pool, valkey, BRIEF, "brief", kinds, capacity=CAPACITY)
    settings.CHANNEL_LAYERS = layers(valkey.url, deployment.prefix, capacity=CAPACITY)
    yield deployment
    valkey.resume()
    if valkey.process is None or valkey.process.poll() is not None:
        valkey.start()


@dataclass(slots=True, kw_only=True)
class Room:
    """A room with alice and bob in each process, and alice's sockets whose handler hangs and that read nothing."""

    deployment: Deployment
    stack: contextlib.ExitStack
    alice: User
    bob: User
    name: str = field(default_factory=lambda: f"room-{uuid4().hex}")
    cookies: dict[User, Any] = field(default_factory=dict)
    members: dict[LiveServer, dict[User, RawSocket]] = field(default_factory=dict)
    inattentive: dict[LiveServer, list[RawSocket]] = field(default_factory=dict)
    # What a layer that was away may still bring.
    late: list[str] = field(default_factory=list)

    def fill(self) -> None:
        self.cookies = {person: f"sessionid={log_in(person)}".encode() for person in (self.alice, self.bob)}
        for server in self.deployment.servers:
            self.members[server] = {person: self.enter(server, person) for person in (self.alice, self.bob)}
            self.inattentive[server] = [self.enter(server, self.alice, "/odd/") for _ in range(2)]
            for socket, demand in zip(self.inattentive[server], ("hang", "flood"), strict=True):
                socket.send_json({"type": demand})
        self.deployment.wait_for_listeners(self.name)

    def open(self, server: LiveServer, person: User | None, path: str) -> RawSocket:
        """A socket that is open until the test ends."""
        headers = [(b"Cookie", self.cookies[person])] if person else []
        socket: RawSocket = self.stack.enter_context(server.websocket(path, origin=ORIGIN, headers=headers))
        return socket

    def enter(self, server: LiveServer, person: User | None = None, path: str = "") -> RawSocket:
        """One that is served, in the room or elsewhere."""
        socket = self.open(server, person, path or f"/room/{self.name}/")
        answer(socket)
        return socket

    def tell(self, server: LiveServer, text: str, speaker: RawSocket | None = None) -> None:
        """Broadcast from one process; bob's members speak unless somebody else is named."""
        (speaker or self.members[server][self.bob]).send_json({"type": "tell", "text": text})

    def hear(self, servers: Sequence[LiveServer], text: str) -> None:
        """The next that every member in these processes hears."""
        for server in servers:
            for socket in self.members[server].values():
                heard = socket.read_json(timeout=SLACK)
                while heard.get("text") in self.late:
                    heard = socket.read_json(timeout=SLACK)
                assert heard == told(text)

    def meet_elsewhere(self) -> list[RawSocket]:
        """Newcomers in each process, in a room that nobody was in."""
        return [self.enter(server, path=f"/room/{self.name}-empty/") for server in self.deployment.servers]

    def talk(self, text: str) -> None:
        """Broadcasts from every process, each of which is the next that everybody hears."""
        for number, server in enumerate(self.deployment.servers):
            self.tell(server, f"{text} {number}")
            self.hear(self.deployment.servers, f"{text} {number}")
            assert self.members[server][self.bob].read_json() == {"type": "done"}

    def answer(self, person: User, servers: Sequence[LiveServer]) -> None:
        """The member's socket is open and served at once, whatever waits for the layer."""
        for server in servers:
            answer(self.members[server][person])

    def is_ended(self, person: User, servers: Sequence[LiveServer]) -> None:
        """The members' sockets close as blocked, and of alice those too that hang or do not read."""
        for server in servers:
            assert fatal(self.members[server].pop(person)) == Reason.BLOCKED
            if person == self.alice:
                hanging, flooded = self.inattentive[server]
                assert fatal(hanging) == Reason.BLOCKED
                assert flooded.read_until_closed(timeout=SLACK).how in {"close", "eof", "reset"}


@contextlib.contextmanager
def filled_room(deployment: Deployment, alice: User, bob: User) -> Iterator[Room]:
    with contextlib.ExitStack() as stack:
        room = Room(deployment=deployment, stack=stack, alice=alice, bob=bob)
        room.fill()
        yield room
        push.finish()


@pytest.fixture
def room(deployment: Deployment, user: User, make_user: MakeUser) -> Iterator[Room]:
    with filled_room(deployment, user, make_user("bob")) as room:
        yield room


def told(text: str) -> dict[str, str]:
    return {"type": "told", "text": text}


def answer(socket: RawSocket) -> None:
    socket.send_json({"type": "say", "text": "here"})
    assert socket.read_json(timeout=5)["type"] == "said"


def fatal(socket: RawSocket) -> Reason:
    """Why a socket was closed; what came before the reason does not matter."""
    closing = socket.read_until_closed(timeout=SLACK)
    reason = Reason(closing.json_frames()[-1]["code"])
    assert closing.code == RULES[reason].close
    return reason


def is_stopped(server: LiveServer) -> bool:
    return bool(psutil.Process(server.process.pid).status() == psutil.STATUS_STOPPED)


@contextlib.contextmanager
def stopped_clock(servers: Sequence[LiveServer]) -> Iterator[None]:
    """Processes that do nothing for a while: what is sent to them meanwhile has to be kept by the layer, or is lost."""
    # While this process has SQLite's lock none of them has it, and takes it along.
    with transaction.atomic():
        for server in servers:
            os.kill(server.process.pid, signal.SIGSTOP)
            # Not at once: on another core it may still run for a while.
            until(partial(is_stopped, server), "the process has stopped")
    try:
        yield
    finally:
        for server in servers:
            os.kill(server.process.pid, signal.SIGCONT)


def audited(count: int, **which: Any) -> None:
    rows = AuditEvent.objects.filter(**which)
    until(lambda: sum(rows.values_list("count", flat=True)) == count, f"{count} rows of {which}")


def block(person: User, room: Room, servers: Sequence[LiveServer]) -> None:
    """These processes find it; the others may not be told."""
    blocklist.block(user=person)
    room.is_ended(person, servers)
    push.finish()


def is_as_before(deployment: Deployment, room: Room) -> None:
    """Of themselves all hear all again, and the process that does not look is told, of what it missed as well."""
    deployment.wait_for_listeners(room.name, since=time.time())
    room.talk("after")
    block(room.bob, room, deployment.servers)
    room.is_ended(room.alice, [server for server in deployment.servers if room.alice in room.members[server]])


def test_stopped_it_costs_what_others_would_hear_and_started_again_nothing(
    deployment: Deployment, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.talk("before")
    said = {server: len(server.log()) for server in deployment.servers}
    plain = [room.open(server, room.bob, "/foreign/") for server in deployment.servers]
    deployment.valkey.stop()
    for server in deployment.servers:
        room.enter(server, path="/odd/")
        speaker = room.enter(server)
        room.tell(server, "lost", speaker)
        assert [speaker.read_json() for _ in range(2)] == [told("lost"), {"type": "done"}]
        room.hear([server], "lost")
        assert "layer.failed" in server.log()[said[server] :]
    newcomers = room.meet_elsewhere()
    with pytest.raises(LayerAway):
        asyncio.run(groups.broadcast(room.name, told("from outside")))
    assert [socket.read_until_closed().code for socket in plain] == [RULES[Reason.INTERNAL_ERROR].close] * 3
    block(room.alice, room, deployment.looking)
    room.answer(room.alice, [deployment.told])
    room.answer(room.bob, deployment.servers)
    assert logged(caplog) == ["push.failed"]
    deployment.valkey.start()
    is_as_before(deployment, room)
    # Groups that the layer could not be told of are told when it is back.
    deployment.wait_for_listeners(f"{room.name}-empty")
    room.tell(deployment.servers[0], "there", newcomers[0])
    assert [other.read_json(timeout=SLACK) for other in newcomers] == [told("there")] * len(newcomers)
    audited(len(plain), kind="connection.closed", reason="internal_error")
    assert not AuditEvent.objects.filter(kind="handshake.denied").exists()
    assert not AuditEvent.objects.filter(kind__startswith="store.").exists()


def test_paused_it_holds_up_who_joins_or_broadcasts_for_a_second_and_nobody_else(
    deployment: Deployment, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.talk("before")
    deployment.valkey.pause()
    speakers = [room.enter(server) for server in deployment.servers]
    for server, speaker in zip(deployment.servers, speakers, strict=True):
        room.enter(server, path="/odd/")
        room.tell(server, "held up", speaker)
        room.hear([server], "held up")
        assert [speaker.read_json() for _ in range(2)] == [told("held up"), {"type": "done"}]
    room.meet_elsewhere()
    blocklist.block(user=room.alice)
    # Whoever makes a change does not wait for the layer: the thread that does has yet to give up.
    assert "channels_secure.push" in threading_names()
    room.is_ended(room.alice, deployment.looking)
    push.finish()
    room.answer(room.alice, [deployment.told])
    assert logged(caplog) == ["push.failed"]
    here, *others = deployment.servers
    room.tell(here, "late")
    room.hear([here], "late")
    assert room.members[here][room.bob].read_json() == {"type": "done"}
    room.answer(room.bob, others)
    room.late += ["held up", "late"]
    deployment.valkey.resume()
    is_as_before(deployment, room)
    assert not AuditEvent.objects.filter(kind="handshake.denied").exists()


def test_flushed_it_forgets_who_listens_until_they_say_it_again(deployment: Deployment, room: Room) -> None:
    room.talk("before")
    for server in deployment.servers:
        # The others cannot say it again before the broadcast is over.
        with stopped_clock([other for other in deployment.servers if other is not server]):
            deployment.flush()
            room.tell(server, "lost")
            room.hear([server], "lost")
            assert room.members[server][room.bob].read_json() == {"type": "done"}
        room.enter(server, path=f"/room/{room.name}-empty/")
    with stopped_clock([deployment.told]):
        deployment.flush()
        block(room.alice, room, deployment.looking)
    room.answer(room.alice, [deployment.told])
    room.answer(room.bob, deployment.servers)
    is_as_before(deployment, room)


def test_full_it_drops_broadcasts_and_pushes_and_no_block(deployment: Deployment, room: Room) -> None:
    here, there, behind = deployment.servers
    texts = [f"many {number}" for number in range(CAPACITY + 10)]
    with stopped_clock([there, behind]):
        for text in texts:
            room.tell(here, text)
            room.hear([here], text)
            assert room.members[here][room.bob].read_json() == {"type": "done"}
        assert deployment.full() >= 2
        room.enter(here, path=f"/room/{room.name}-empty/")
        room.enter(here)
        block(room.alice, room, [here])
        assert deployment.full() >= 2
    room.is_ended(room.alice, [there])
    # What is sent to one that has not caught up yet would be dropped too.
    until(lambda: not deployment.full(), "they have caught up")
    room.tell(here, "after")
    for socket in (room.members[there][room.bob], *room.members[behind].values()):
        heard = [message["text"] for message in iter(socket.read_json, told("after"))]
        # One more than there is room for may have been on its way when the clock stopped.
        assert heard in (texts[:CAPACITY], texts[: CAPACITY + 1])
    room.answer(room.alice, [behind])
    for server in (there, behind):
        room.enter(server, path=f"/room/{room.name}-empty/")
    room.hear([here], "after")
    assert room.members[here][room.bob].read_json() == {"type": "done"}
    is_as_before(deployment, room)


def test_gone_without_a_word_it_is_found_out_by_its_socket_timeout(
    pool: ServerPool, valkey: OwnRedis, settings: Any, user: User, make_user: MakeUser
) -> None:
    with relay(valkey.port) as wire:
        host = {"address": f"redis://127.0.0.1:{wire.port}/0", "socket_timeout": PATIENCE}
        kinds = {"here": ("uvicorn", LOOKS), "there": ("daphne", NEVER)}
        deployment = deploy(pool, valkey, BRIEF, "gone", kinds, hosts=[host])
        settings.CHANNEL_LAYERS = layers(valkey.url, deployment.prefix)
        with filled_room(deployment, user, make_user("bob")) as room:
            room.talk("before")
            wire.swallow()
            began = time.time()
            room.answer(room.bob, deployment.servers)
            block(room.alice, room, deployment.looking)
            room.answer(room.alice, [deployment.told])
            # What told of it may have been kept by the layer, and arrive now.
            last = room.members[deployment.told].pop(room.alice)
            deployment.wait_for_listeners(room.name, since=began + PATIENCE)
            is_as_before(deployment, room)
            assert fatal(last) == Reason.BLOCKED
        for server in deployment.servers:
            assert "layer.failed" in server.log()
            server.stop()


def test_sockets_older_than_group_expiry_are_reached_and_severed(
    pool: ServerPool, valkey: OwnRedis, settings: Any, user: User, make_user: MakeUser
) -> None:
    kinds = {"here": ("uvicorn", NEVER), "there": ("daphne", NEVER)}
    deployment = deploy(pool, valkey, ROOMS, "rooms", kinds, group_expiry=EXPIRY)
    settings.CHANNEL_LAYERS = layers(valkey.url, deployment.prefix, group_expiry=EXPIRY)
    with filled_room(deployment, user, make_user("bob")) as room:
        old = time.time() + EXPIRY
        until(partial(deployment.all_listen, room.name, old), "every process has said again that it listens")
        assert deployment.all_listen(push.GROUP, old - EXPIRY / 2)
        room.talk("later")
        for server in deployment.servers:
            room.enter(server)
        block(room.alice, room, deployment.servers)
        block(room.bob, room, deployment.servers)
