"""The tools for other people's tests, tested."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.urls import path
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure import audit, blocklist, database
from channels_secure.conf import get_settings
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.exceptions import Denied
from channels_secure.policy.rates import Rate
from channels_secure.stores import get_store
from channels_secure.testing import Outcome, SecureCommunicator, guarded, reset
from tests.sockets import Echo, ask, ask_raw, connect, quiet, told  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]
ROOT = Path(__file__).resolve().parents[1]


class WhoAmI(SecureJsonConsumer):
    """Tells what the handshake brought."""

    async def connect(self) -> None:
        await self.accept()
        scope = self.scope
        await self.send_json(
            {
                "user": scope["user"].get_username(),
                "kind": self.connection.identity.kind if self.connection.identity else None,
                "address": str(self.connection.handshake.address),
                "origin": self.connection.handshake.origin_text,
                "secure": self.connection.handshake.secure,
                "cookies": scope["cookies"],
                "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
                "subprotocols": scope["subprotocols"],
                "room": self.kwargs.get("room"),
                "query": scope["query_string"].decode(),
            }
        )


class WhoIsAnybody(WhoAmI):
    allow_anonymous = True


async def facts(consumer: type[SecureJsonConsumer] = WhoIsAnybody, where: str = "/ws/", **options: Any) -> Any:
    async with connect(consumer, where, **options) as socket:
        return await socket.receive_json_from()


async def test_a_communicator_comes_from_nowhere_special_by_default() -> None:
    found = await facts(where="/ws/?a=1")
    assert found["user"] == ""
    assert found["kind"] == "anonymous"
    assert found["address"] == "192.0.2.1"
    assert found["origin"] == "https://testserver"
    assert found["secure"] is True
    assert found["query"] == "a=1"


async def test_it_comes_as_a_user_with_a_real_session(user: User) -> None:
    found = await facts(WhoAmI, user=user)
    assert (found["user"], found["kind"]) == ("alice", "session")
    assert set(found["cookies"]) == {"sessionid"}


async def test_it_comes_with_a_token(user: User) -> None:
    found = await facts(WhoAmI, token=str(AccessToken.for_user(user)), origin=None)
    assert (found["user"], found["kind"], found["origin"]) == ("alice", "jwt", None)


@pytest.mark.parametrize(("client", "address"), [("198.51.100.7", "198.51.100.7"), (("2001:db8::5", 1), "2001:db8::5")])
async def test_it_comes_from_an_address(client: Any, address: str) -> None:
    assert (await facts(client=client))["address"] == address


async def test_it_may_come_from_no_address_as_over_a_unix_socket() -> None:
    assert (await facts(client=None))["address"] == "None"


async def test_it_brings_cookies_headers_and_subprotocols() -> None:
    found = await facts(
        cookies={"theme": "dark", "lang": "de"}, headers=[(b"x-extra", b"1")], subprotocols=["chat.v1", "chat.v2"]
    )
    assert found["cookies"] == {"theme": "dark", "lang": "de"}
    assert ["x-extra", "1"] in found["headers"]
    assert found["subprotocols"] == ["chat.v1", "chat.v2"]


async def test_it_may_come_without_encryption(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"REQUIRE_WSS": True}
    outcome = await connect(Echo, scheme="ws").shake_hands()
    assert (outcome.accepted, outcome.status, outcome.error["code"]) == (False, 403, "wss_required")


async def test_the_default_origin_is_one_that_the_settings_allow(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"ALLOWED_ORIGINS": ["https://*.example.com", "https://chat.example.org"]}
    assert (await facts())["origin"] in {"https://www.example.com", "https://chat.example.org"}


async def test_a_router_of_several_consumers_can_be_guarded() -> None:
    app = guarded(URLRouter([path("ws/<slug:room>/", WhoIsAnybody.as_asgi()), path("echo/", Echo.as_asgi())]))
    async with SecureCommunicator(app, "/ws/lobby/") as socket:
        assert (await socket.receive_json_from())["room"] == "lobby"
    async with SecureCommunicator(app, "/echo/") as socket:
        assert await ask(socket, 5) == 5
    outcome = await SecureCommunicator(app, "/nothing/", origin=None).shake_hands()
    assert (outcome.status, outcome.error["code"]) == (404, "not_found")


async def test_a_refusal_before_accept_is_an_http_response() -> None:
    outcome = await connect(WhoAmI, origin=None).shake_hands()
    assert not outcome.accepted
    assert outcome.status == 401
    assert outcome.headers["content-type"] == "application/json"
    assert outcome.headers["cache-control"] == "no-store"
    assert outcome.error["code"] == "unauthenticated"
    assert outcome.code is None


async def test_a_server_without_http_responses_sees_a_plain_403() -> None:
    outcome = await connect(WhoAmI, origin=None, http_response=False).shake_hands()
    assert outcome == Outcome(accepted=False, status=403)


async def test_a_refusal_that_a_browser_is_told_has_a_code_and_a_reason() -> None:
    outcome = await connect(WhoAmI, subprotocols=["channels-secure.v1"]).shake_hands()
    assert not outcome.accepted
    assert outcome.status is None
    assert (outcome.code, outcome.reason, outcome.error["code"]) == (4401, "unauthenticated", "unauthenticated")
    assert outcome.subprotocol == "channels-secure.v1"


async def test_connect_answers_as_channels_own_does(user: User) -> None:
    socket = connect(WhoAmI, user=user, subprotocols=["channels-secure.v1"])
    assert await socket.connect() == (True, "channels-secure.v1")
    await socket.disconnect()
    assert await connect(WhoAmI).connect() == (False, 4401)
    assert await connect(WhoAmI, origin=None).connect() == (False, 401)
    assert await connect(WhoAmI, origin=None, http_response=False).connect() == (False, 403)


async def test_a_socket_that_is_refused_cannot_be_entered() -> None:
    with pytest.raises(AssertionError, match="unauthenticated"):
        async with connect(WhoAmI):
            raise RuntimeError("never reached")


class Greeter(SecureJsonConsumer):
    """Says something and closes, of its own accord."""

    allow_anonymous = True
    greeting: Any = {"type": "error", "fatal": False}

    async def connect(self) -> None:
        await self.accept()
        await self.send_json(self.greeting)
        await self.close(4001, "bye")


@pytest.mark.parametrize("greeting", [{"hello": 1}, {"type": "error", "fatal": False}, ["error"], "x"])
async def test_an_application_that_greets_and_closes_has_accepted(greeting: Any) -> None:
    class Own(Greeter):
        pass

    Own.greeting = greeting
    socket = connect(Own)
    assert (await socket.shake_hands()).accepted
    assert await socket.receive_json_from() == greeting
    assert await socket.closing() == (4001, "bye")


async def test_an_application_that_sends_other_than_json_and_closes_has_accepted() -> None:
    class Own(Greeter):
        async def connect(self) -> None:
            await self.accept()
            await self.send(text_data="<plain>", close=4001)

    class Binary(Greeter):
        async def connect(self) -> None:
            await self.accept()
            await self.send(bytes_data=b"\x00", close=True)

    socket = connect(Own)
    assert (await socket.shake_hands()).accepted
    assert await socket.receive_from() == "<plain>"
    assert await socket.closing() == (4001, "")
    socket = connect(Binary)
    assert (await socket.shake_hands()).accepted
    assert await socket.receive_from() == b"\x00"
    assert await socket.closing() == (1000, "")


async def test_a_refusal_after_accept_is_no_refused_handshake() -> None:
    class Late(Greeter):
        async def connect(self) -> None:
            await self.accept()
            raise Denied("permission_denied")

    socket = connect(Late)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output())["type"] == "websocket.accept"
    assert await told(socket) == ("permission_denied", 4403)


async def test_an_empty_text_can_be_sent() -> None:
    async with connect(Echo) as socket:
        assert (await ask_raw(socket, ""))["code"] == "invalid_message"


async def test_closing_waits_past_the_frames_before_the_close() -> None:
    socket = connect(Greeter)
    assert (await socket.shake_hands()).accepted
    assert await socket.closing() == (4001, "bye")


async def test_other_peoples_consumers_can_be_guarded(user: User) -> None:
    class Plain(AsyncWebsocketConsumer):
        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            await self.send(text_data=text_data, bytes_data=bytes_data)

    async with SecureCommunicator(guarded(Plain.as_asgi()), "/ws/", user=user) as socket:
        await socket.send_to(text_data="not json")
        assert await socket.receive_from() == "not json"
        await socket.send_to(bytes_data=b"\x00")
        assert await socket.receive_from() == b"\x00"


async def test_channels_own_communicator_works_too() -> None:
    """It has no client, and no Origin unless told so; both are cases of their own."""
    headers = [(b"host", b"testserver"), (b"origin", b"https://testserver")]
    communicator = WebsocketCommunicator(guarded(Echo.as_asgi()), "/ws/", headers=headers)
    connected, subprotocol = await communicator.connect(timeout=10)
    assert (connected, subprotocol) == (True, None)
    await communicator.send_json_to([1])
    assert await communicator.receive_json_from(timeout=10) == [1]
    await communicator.disconnect(timeout=10)


async def test_the_scopes_of_other_protocols_pass_unchanged() -> None:
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope, receive, send = {"type": "http"}, object(), object()
    await guarded(inner)(scope, receive, send)  # type: ignore[arg-type]
    assert seen == [(scope, receive, send)]


async def test_reset_forgets_what_the_process_knew() -> None:
    await get_store().take("key", Rate.parse("1/d"))
    audit.record("policy.would_deny")
    await blocklist.refresh()
    store, read = get_store(), get_settings()
    assert audit.pending()
    await asyncio.to_thread(reset)
    assert not audit.pending()
    assert blocklist.current() is None
    assert get_store() is not store
    assert get_settings() is not read
    assert not database.is_running()


SPENT_IN_ONE_TEST = """
import pytest
from channels_secure import audit, blocklist
from channels_secure.policy.rates import Rate
from channels_secure.stores import get_store

@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.django_db(transaction=True)
async def test_every_test_begins_anew(time):
    assert await get_store().take("key", Rate.parse("1/d")) == 0
    assert blocklist.current() is None
    assert not audit.pending()
    audit.record("policy.would_deny")
    await blocklist.refresh()
"""
WITHOUT_DJANGO = """
import sys

def test_a_project_without_django_is_left_alone():
    assert "channels_secure.conf" not in sys.modules
    assert "channels_secure.testing" not in sys.modules
"""


def run_pytest(folder: Path, source: str, *options: str) -> str:
    (folder / "test_it.py").write_text(source)
    arguments = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options, str(folder)]
    # A database of its own: this run's may be the one server that both would use.
    environ = {**os.environ, "DATABASE": "sqlite"}
    done = subprocess.run(arguments, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plugin_lets_every_test_begin_anew(tmp_path: Path) -> None:
    assert "2 passed" in run_pytest(tmp_path, SPENT_IN_ONE_TEST, "-c", "pyproject.toml")


def test_the_plugin_leaves_projects_alone_that_do_not_use_the_package(tmp_path: Path) -> None:
    assert "1 passed" in run_pytest(tmp_path, WITHOUT_DJANGO, "-c", "/dev/null", "-p", "no:django", "-p", "no:asyncio")


async def test_a_fixture_of_ours_would_notice_a_task_that_is_left() -> None:
    """The negative control of `quiet`."""
    from tests import sockets

    task = asyncio.get_running_loop().create_task(asyncio.Event().wait())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockets, "PATIENCE", 0.01)
        with pytest.raises(TimeoutError):
            await sockets.calm()
    task.cancel()
