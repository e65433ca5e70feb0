"""A room over two server processes, which share a database, and a channel layer or none."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from channels_secure.rooms import moderation
from channels_secure.rooms.models import Attendance, Membership, Room
from channels_secure.rooms.roles import Role
from channels_secure.testing import log_in
from tests.live.servers import LiveServer, RawSocket
from tests.test_push import layers

pytestmark = pytest.mark.django_db(transaction=True)

APP = "tests.rooms.chatting:application"
ORIGIN = "https://chat.example.com"
SETTINGS: dict[str, Any] = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": None, "user": None},
    "POLICY_REFRESH_INTERVAL": 0.5,
}
# Of the short leases: until the others know that a process is dead, and what a busy machine adds.
PATIENCE = 20.0

Start = Callable[..., list[LiveServer]]


@pytest.fixture
def start(server: Callable[..., LiveServer], settings: Any, request: pytest.FixtureRequest) -> Start:
    """Two servers: with `pushed` they and the test share a channel layer, with `store` what is counted."""

    def begin(*, pushed: bool = False, store: bool = False) -> list[LiveServer]:
        environ, own = {}, dict(SETTINGS)
        if pushed:
            layer = layers(request.getfixturevalue("redis_url"), uuid4().hex)
            settings.CHANNEL_LAYERS = layer
            environ["CHANNELS_SECURE_TEST_CHANNEL_LAYERS"] = json.dumps(layer)
        if store:
            url = request.getfixturevalue("redis_url")
            own["STORE"] = {
                "BACKEND": "channels_secure.stores.redis.RedisStore", "LOCATION": url, "PREFIX": uuid4().hex
            }  # fmt: skip
        return [server(kind, APP, settings=own, environ=environ) for kind in ("uvicorn", "daphne")]

    return begin


@pytest.fixture
def people(transactional_db: None) -> dict[str, User]:
    return {name: User.objects.create_user(name) for name in ("alice", "bob", "carol")}


@contextlib.contextmanager
def inside(server: LiveServer, user: User, room: str = "lobby") -> Iterator[RawSocket]:
    cookie = [(b"cookie", f"sessionid={log_in(user)}".encode())]
    with server.websocket(f"/ws/{quote(room)}/", origin=ORIGIN, headers=cookie) as socket:
        assert heard(socket, "room.entered")
        yield socket


def heard(socket: RawSocket, kind: str, **facts: Any) -> dict[str, Any]:
    """The next message of a type with these facts; others are passed over."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        frame: dict[str, Any] = socket.read_json(timeout=PATIENCE)
        if frame["type"] == kind and all(frame.get(name) == value for name, value in facts.items()):
            return frame
    raise AssertionError(f"no {kind} was heard")


def asked(socket: RawSocket, kind: str, **facts: Any) -> dict[str, Any]:
    socket.send_json({"type": kind, "id": "q", **facts})
    while True:
        frame: dict[str, Any] = socket.read_json(timeout=PATIENCE)
        if frame.get("ref") == "q":
            return frame


def a_room(owner: User, **fields: Any) -> Room:
    room = Room(slug="lobby", title="Lobby", owner=owner, **{"visibility": "public", **fields})
    room.save()
    return room


@pytest.mark.parametrize("pushed", [False, True])
def test_order_is_kept_in_every_process(start: Start, people: dict[str, User], pushed: bool) -> None:
    room, servers = a_room(people["alice"]), start(pushed=pushed)
    bob = people["bob"]
    with inside(servers[0], people["alice"]) as alice, contextlib.ExitStack() as stack:
        bobs = [stack.enter_context(inside(server, bob)) for server in servers]
        assert asked(alice, "room.mute", user=bob.pk, seconds=60)["type"] == "room.done"
        for socket in bobs:
            assert heard(socket, "room.changed")["muted"] in (59, 60)
            assert asked(socket, "room.say", text="hello")["message"] == "You are muted."
        moderation.unmute(room, bob)
        for socket in bobs:
            assert heard(socket, "room.changed")["muted"] == 0
        Membership.objects.get(user=bob).delete()
        moderation.promote(room, bob, Role.MODERATOR)
        for socket in bobs:
            assert heard(socket, "room.changed")["role"] == "moderator"
        moderation.set_slow_mode(room, 60)
        for socket in bobs:
            assert heard(socket, "room.changed")["slow"] == 60
        assert asked(alice, "room.ban", user=bob.pk)["type"] == "room.done"
        for socket in bobs:
            closing = socket.read_until_closed()
            assert closing.json_frames()[-1]["code"] == "permission_denied"


def test_what_is_said_in_one_process_is_heard_in_the_other(start: Start, people: dict[str, User]) -> None:
    room, servers = a_room(people["alice"]), start(pushed=True)
    with inside(servers[0], people["alice"]) as alice, inside(servers[1], people["bob"]) as bob:
        name = asked(alice, "room.say", text="hello \U0001f600")["message"]
        said = heard(bob, "room.said")
        assert (said["text"], said["id"], said["user"]["name"]) == ("hello \U0001f600", name, "alice")
        moderation.delete_message(room, name)
        assert heard(bob, "room.deleted")["id"] == name


@pytest.mark.parametrize("pushed", [False, True])
def test_a_killed_process_takes_those_with_it_who_were_nowhere_else(
    start: Start, people: dict[str, User], pushed: bool
) -> None:
    room, (killed, other) = a_room(people["alice"]), start(pushed=pushed)
    with inside(other, people["alice"]) as alice, contextlib.ExitStack() as stack:
        bobs = [stack.enter_context(inside(server, people["bob"])) for server in (killed, other)]
        heard(alice, "room.joined", count=2)
        stack.enter_context(inside(killed, people["carol"]))
        heard(alice, "room.joined", count=3)
        assert asked(alice, "room.who")["count"] == 3
        killed.stop(first=signal.SIGKILL)
        left = heard(alice, "room.left")
        assert (left["user"]["name"], left["count"]) == ("carol", 2)
        assert {each["name"] for each in asked(alice, "room.who")["members"]} == {"alice", "bob"}
        assert asked(bobs[1], "room.say", text="still here")["type"] == "room.done"
        # The rows that it left behind mean nothing.
        assert Attendance.objects.filter(room=room, user=people["carol"]).count() == 1


def test_a_paused_process_is_missed_and_comes_back(start: Start, people: dict[str, User]) -> None:
    _, (paused, other) = a_room(people["alice"]), start()
    with inside(other, people["alice"]) as alice, inside(paused, people["bob"]) as bob:
        heard(alice, "room.joined", count=2)
        paused.process.send_signal(signal.SIGSTOP)
        try:
            assert heard(alice, "room.left")["user"]["name"] == "bob"
        finally:
            paused.process.send_signal(signal.SIGCONT)
        assert heard(alice, "room.joined")["user"]["name"] == "bob"
        assert asked(bob, "room.who")["count"] == 2


def test_slow_mode_and_the_rooms_rate_are_counted_over_all_processes(start: Start, people: dict[str, User]) -> None:
    room, servers = a_room(people["alice"], slow_mode=60), start(store=True)
    with contextlib.ExitStack() as stack:
        bobs = [stack.enter_context(inside(server, people["bob"])) for server in servers]
        first, second = [asked(socket, "room.say", text="hello") for socket in bobs]
        assert (first["type"], second["code"], second["message"]) == (
            "room.done", "rate_limited", "Slow mode is on."
        )  # fmt: skip
    room.slow_mode, room.message_rate = 0, "6/m"
    room.save()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(inside(server, people[name])) for server in servers for name in ("bob", "carol")]
        answers = [asked(socket, "room.say", text="hello") for _ in range(4) for socket in sockets]
        admitted = sum(answer["type"] == "room.done" for answer in answers)
        assert admitted == 6
