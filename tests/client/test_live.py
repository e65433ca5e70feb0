"""The client against real Daphne and uvicorn, which log in, restart, refuse, expire, block, limit and beat."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from time import time
from typing import Any
from urllib.error import HTTPError

import pytest
from django.contrib.auth.models import User

from channels_secure.blocklist import ablock
from channels_secure.client import (
    Backoff,
    Limits,
    MessageDenied,
    Refused,
    SecureSocket,
    SocketState,
)
from channels_secure.codecs import FernetCodec, JsonCodec
from channels_secure.connections import adisconnect
from channels_secure.models import AuditEvent
from tests.auth.tokens import token_for
from tests.benchmarks.project import log_in
from tests.client.app import KEY
from tests.client.restarting import Restarting
from tests.client.scripted import SOON, until
from tests.live.pages import DOCS, blocks, filled_in
from tests.live.servers import LiveServer, ServerKind
from tests.sockets import quiet  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)

APP = "tests.client.app:application"
ORIGIN = "https://chat.example.com"
SETTINGS: dict[str, Any] = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "ALLOW_MISSING_ORIGIN": "always",
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": None, "user": None},
    "POLICY_REFRESH_INTERVAL": 0.1,
}
ANSWER = {"type": "answered", "ref": "cs-1", "text": "Hello", "user": "alice"}
# One server for all that it limits.
STRICT: dict[str, Any] = {
    **SETTINGS,
    "MESSAGE_RATES": {"connection": "20/m"},
    "ERROR_BUDGET": "3/m",
    "MAX_CONNECTIONS": {"user": 1, "ip": None},
    "HEARTBEAT_INTERVAL": 0.5,
    "HEARTBEAT_TIMEOUT": 0.5,
    "SEND_HELLO": True,
}
StartServer = Callable[..., LiveServer]


@pytest.fixture
def live(shared_server: StartServer, kind: ServerKind) -> LiveServer:
    return shared_server(kind, APP, settings=SETTINGS)


@pytest.fixture
def strict(shared_server: StartServer, kind: ServerKind) -> LiveServer:
    return shared_server(kind, APP, settings=STRICT)


def socket_to(live: LiveServer, path: str = "/answering/", **options: Any) -> SecureSocket:
    options.setdefault("backoff", Backoff(**SOON))
    return SecureSocket(f"{live.url}{path}", proxy=None, **options)


async def ask(socket: SecureSocket) -> Any:
    return await socket.request({"type": "ask", "text": "Hello"})


async def ending_of(socket: SecureSocket) -> Refused:
    """How a socket is refused on entering."""
    with pytest.raises(Refused) as refused:
        await socket.__aenter__()
    assert socket.state is SocketState.CLOSED
    return refused.value


# Logging in ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["header", "subprotocol"])
async def test_a_token_gets_in(live: LiveServer, user: User, place: str) -> None:
    async with socket_to(live, token=token_for(user), by_subprotocol=place == "subprotocol") as socket:
        assert await ask(socket) == ANSWER


@pytest.fixture
def session(user: User) -> str:
    return log_in(user.get_username()).partition("=")[2]


async def test_a_session_gets_in_from_an_origin_that_is_allowed(live: LiveServer, session: str) -> None:
    async with socket_to(live, session=session, origin=ORIGIN) as socket:
        assert await ask(socket) == ANSWER


def fetch_ticket(live: LiveServer, token: str) -> str:
    request = urllib.request.Request(f"{live.http_url}/ws-auth/ticket/", method="POST")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            ticket: str = json.load(response)["ticket"]
            return ticket
    except HTTPError as error:
        raise Refused.from_response(error.code, error.headers, error.read()) from None


async def test_a_ticket_gets_in_and_another_the_next_time(live: LiveServer, user: User) -> None:
    fetched: list[str] = []

    async def fetch() -> str:
        fetched.append(await asyncio.to_thread(fetch_ticket, live, token_for(user)))
        return fetched[-1]

    async with socket_to(live, ticket=fetch, backoff=Backoff(retry_codes=[4001], **SOON)) as socket:
        await socket.send({"type": "finish", "text": "4001"})
        await until(lambda: len(fetched) == 2)
        await socket.opened()
        assert (await ask(socket))["user"] == "alice"
    assert fetched[0] != fetched[1]


async def test_a_ticket_that_is_refused_ends_it(live: LiveServer) -> None:
    refused = await ending_of(
        socket_to(live, ticket=lambda: asyncio.to_thread(fetch_ticket, live, "eyJhbGciOiJub25lIn0.e30.x"))
    )
    assert (refused.reason, refused.ending.status) == ("invalid_credentials", 401)


# Refusals ------------------------------------------------------------------------------------------------------------

REFUSALS = [
    ("/authorize/false/", True, "permission_denied", 403, 4403),
    ("/nowhere/", True, "not_found", 404, 4404),
    ("/answering/", False, "unauthenticated", 401, 4401),
]


@pytest.mark.parametrize(("path", "has_token", "reason", "status", "code"), REFUSALS)
async def test_a_refusal_is_final_where_its_reason_is_told(
    live: LiveServer, kind: ServerKind, user: User, path: str, has_token: bool, reason: str, status: int, code: int
) -> None:
    token = token_for(user) if has_token else None
    backoff = Backoff(doubtful=1, **SOON)
    refused = await ending_of(socket_to(live, path, token=token, backoff=backoff))
    # Daphne says the same to everybody.
    expected = (None, 403) if kind == "daphne" else (reason, status)
    assert (refused.reason, refused.ending.status) == expected


@pytest.mark.parametrize(("path", "has_token", "reason", "status", "code"), REFUSALS)
async def test_with_an_origin_every_server_tells_the_reason(
    live: LiveServer, user: User, path: str, has_token: bool, reason: str, status: int, code: int
) -> None:
    states: list[str] = []
    token = token_for(user) if has_token else None
    refused = await ending_of(socket_to(live, path, token=token, origin=ORIGIN, on_state=states.append))
    assert (refused.reason, refused.ending.code) == (reason, code)
    assert states == ["connecting", "closed"]


async def test_a_wrong_origin_is_final(live: LiveServer, user: User, kind: ServerKind) -> None:
    backoff = Backoff(doubtful=0, **SOON)
    origin = "https://evil.example"
    refused = await ending_of(socket_to(live, token=token_for(user), origin=origin, backoff=backoff))
    assert refused.reason == (None if kind == "daphne" else "origin_not_allowed")


# Restarts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "how"), [("uvicorn", SIGTERM), ("daphne", SIGKILL)])
async def test_it_comes_back_after_a_restart_and_brings_what_waited(
    kind: ServerKind, how: Signals, tmp_path: Path, user: User
) -> None:
    server = Restarting(kind, APP, tmp_path, SETTINGS)
    try:
        await asyncio.to_thread(server.start)
        socket = SecureSocket(f"{server.url}/answering/", proxy=None, token=token_for(user), backoff=Backoff(**SOON))
        async with socket:
            assert await ask(socket) == ANSWER
            await asyncio.to_thread(server.stop, how)
            await until(lambda: socket.state is not SocketState.OPEN)
            await socket.send({"type": "tell", "count": 1})
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(30):
                assert await anext(socket) == {"type": "number", "number": 0}
            assert (await ask(socket))["user"] == "alice"
    finally:
        await asyncio.to_thread(server.stop)


# Expiry --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_a_newer_token_is_brought_to_the_open_socket(live: LiveServer, user: User) -> None:
    lives = iter((6, 300))
    states: list[str] = []

    def fetch() -> str:
        return token_for(user, exp=int(time()) + next(lives))

    async with socket_to(live, token=fetch, on_state=states.append) as socket:
        await until_row(kind="credentials.refreshed")
        assert await ask(socket)
    assert states == ["connecting", "open", "closed"]


async def until_row(**which: Any) -> None:
    async with asyncio.timeout(30):
        while not await AuditEvent.objects.filter(**which).aexists():
            await asyncio.sleep(0.05)  # asks again, until the deadline


async def test_a_socket_whose_token_ended_comes_back_with_a_newer_one(live: LiveServer, user: User) -> None:
    asked: list[int] = []

    def fetch() -> str:
        asked.append(len(asked))
        if len(asked) == 1:
            return token_for(user, exp=int(time()) + 2)
        if len(asked) == 2:
            raise OSError("the server of tokens is away")
        return token_for(user)

    async with socket_to(live, token=fetch) as socket:
        await until(lambda: len(asked) == 3)
        await socket.opened()
        assert socket.ending is not None
        assert (socket.ending.reason, socket.ending.code) == ("credentials_expired", 4419)
        assert (await ask(socket))["user"] == "alice"


async def test_a_token_that_stays_the_same_is_not_brought_for_ever(live: LiveServer, user: User) -> None:
    states: list[str] = []
    options: dict[str, Any] = {
        "token": token_for(user, exp=int(time()) - 60),
        "origin": ORIGIN,
        "on_state": states.append,
    }
    refused = await ending_of(socket_to(live, **options))
    assert refused.reason == "credentials_expired"
    assert states.count("connecting") == 2


# Blocks, operators, limits -------------------------------------------------------------------------------------------


async def test_a_block_is_final(live: LiveServer, user: User) -> None:
    async with socket_to(live, token=token_for(user)) as socket:
        await ablock(user=user)
        await until(lambda: socket.state is SocketState.CLOSED)
        with pytest.raises(Refused) as refused:
            await socket.send({"type": "late"})
    assert (refused.value.reason, refused.value.ending.code) == ("blocked", 4423)


async def test_a_block_that_ends_is_waited_out(live: LiveServer, user: User) -> None:
    async with socket_to(live, token=token_for(user)) as socket:
        await ablock(user=user, duration=1.5)
        await until(lambda: socket.state is SocketState.WAITING)
        assert socket.ending is not None
        assert socket.ending.reason == "blocked"
        assert 0 < (socket.ending.retry_after or 0) <= (socket.retry_in or 0) <= 1.52
        await socket.opened()
        assert (await ask(socket))["user"] == "alice"


async def test_an_operators_disconnection_is_final(live: LiveServer, user: User) -> None:
    async with socket_to(live, token=token_for(user)) as socket:
        await adisconnect(user=user)
        await until(lambda: socket.state is SocketState.CLOSED)
        with pytest.raises(Refused, match="disconnected"):
            await anext(socket)


async def test_messages_over_their_rate_are_denied_and_the_socket_stays(strict: LiveServer) -> None:
    denied: list[MessageDenied] = []
    async with socket_to(strict, "/answering/open/", on_denied=denied.append) as socket:
        for _ in range(22):
            await socket.send({"type": "ask", "text": "Hello"})
        await until(lambda: denied)
        assert socket.state is SocketState.OPEN
    assert denied[0].reason == "rate_limited"
    assert 0 < (denied[0].retry_after or 0) <= 60


async def test_what_is_wrong_with_a_message_is_told(live: LiveServer) -> None:
    async with socket_to(live, "/answering/open/") as socket:
        with pytest.raises(MessageDenied) as error:
            await socket.request({"type": "ask", "text": 7})
        with pytest.raises(MessageDenied, match="unknown_type"):
            await socket.request({"type": "dance"})
    assert (error.value.reason, error.value.errors[0]["path"]) == ("invalid_message", "text")


async def test_too_many_errors_are_final(strict: LiveServer) -> None:
    async with socket_to(strict, "/answering/open/") as socket:
        for _ in range(4):
            await socket.send({"type": "dance"})
        await until(lambda: socket.state is SocketState.CLOSED)
        with pytest.raises(Refused, match="too_many_errors"):
            await socket.opened()


async def test_who_finds_no_place_waits_for_one(strict: LiveServer, kind: ServerKind, user: User) -> None:
    backoff = Backoff(doubtful=None, **SOON)
    second = socket_to(strict, token=token_for(user), backoff=backoff)
    async with socket_to(strict, token=token_for(user)) as first:
        entering = asyncio.create_task(second.__aenter__())
        await until(lambda: second.ending is not None)
        assert second.ending is not None
        if kind == "uvicorn":
            assert (second.ending.reason, second.ending.status) == ("connection_limit", 429)
            assert (second.ending.retry_after or 0) > 0
        assert first.state is SocketState.OPEN
    async with asyncio.timeout(20):
        await entering
    assert (await ask(second))["user"] == "alice"
    await second.close()


# The application -----------------------------------------------------------------------------------------------------


class Counting(JsonCodec):
    """The plain codec, which counts the server's heartbeats."""

    def __init__(self) -> None:
        self.pings = 0

    def decode(self, frame: str, /) -> str:
        self.pings += json.loads(frame).get("type") == "ping"
        return frame


async def test_heartbeats_are_answered(strict: LiveServer) -> None:
    codec, states = Counting(), list[str]()
    async with socket_to(strict, "/answering/open/", codec=codec, on_state=states.append) as socket:
        await until(lambda: codec.pings == 3)
        assert socket.hello is not None
        assert socket.hello["heartbeat_interval"] == 0.5
    assert states == ["connecting", "open", "closed"]


async def test_who_only_listens_is_not_idle(shared_server: StartServer, kind: ServerKind) -> None:
    live = shared_server(kind, APP, settings={**SETTINGS, "IDLE_TIMEOUT": 1})
    states: list[str] = []
    asking = Limits(heartbeat_interval=0.1)
    silent = Limits(heartbeat_interval=0.1, heartbeat_frames=False)
    async with (
        socket_to(live, "/answering/open/", limits=asking, on_state=states.append),
        socket_to(live, "/answering/open/", limits=silent) as other,
    ):
        await until(lambda: other.ending)
        assert other.ending is not None
        assert other.ending.reason == "idle_timeout"
        assert states == ["connecting", "open"]


async def test_an_encrypted_consumer_is_talked_to_in_its_own_codec(live: LiveServer) -> None:
    async with socket_to(live, "/answering/encrypted/", codec=FernetCodec(keys=[KEY])) as socket:
        assert (await ask(socket))["text"] == "Hello"
        with pytest.raises(MessageDenied, match="unknown_type"):
            await socket.request({"type": "dance"})


async def test_with_another_key_nothing_is_understood_and_nothing_breaks(live: LiveServer) -> None:
    other = FernetCodec(keys=["A" * 43 + "="])
    async with socket_to(live, "/answering/encrypted/", codec=other) as socket:
        with pytest.raises(TimeoutError):
            await socket.request({"type": "ask", "text": "Hello"}, timeout=0.2)


async def test_an_application_that_finishes_ends_the_iteration(live: LiveServer) -> None:
    async with socket_to(live, "/answering/open/") as socket:
        await socket.send({"type": "tell", "count": 2})
        await socket.send({"type": "finish", "text": "1000"})
        assert [message["number"] async for message in socket] == [0, 1]


async def test_a_close_code_of_the_applications_own_is_final(live: LiveServer) -> None:
    async with socket_to(live, "/answering/open/") as socket:
        await socket.send({"type": "finish", "text": "4001"})
        await until(lambda: socket.state is SocketState.CLOSED)
        assert socket.ending is not None
        assert socket.ending.code == 4001


# The page ------------------------------------------------------------------------------------------------------------

PAGE = DOCS / "howto" / "python-client.md"


async def test_the_pages_first_program_listens(
    live: LiveServer, user: User, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"fetch_token": lambda: token_for(user)}
    exec(filled_in(blocks(PAGE, "python")[0], {"wss://chat.example.com/ws/chat/lobby/": f"{live.url}/echo/"}), names)
    listening = asyncio.create_task(names["listen"]())
    printed = ""
    async with asyncio.timeout(20):
        while "Good morning" not in printed:
            await asyncio.sleep(0.01)  # asks again, until the deadline
            printed += capsys.readouterr().out
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


async def test_the_pages_ticket_gets_in(live: LiveServer, user: User) -> None:
    names: dict[str, Any] = {
        "fetch_token": lambda: token_for(user),
        "TICKETS": f"{live.http_url}/ws-auth/ticket/",
        "URL": f"{live.url}/answering/",
    }
    exec(blocks(PAGE, "python")[1], names)
    async with names["socket"] as socket:
        assert await ask(socket) == ANSWER
