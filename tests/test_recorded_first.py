"""With a spool, what a peer can see of a decision has been written down before: a crash comes too late to hide it."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import path

from channels_secure import audit
from channels_secure.audit import lines
from channels_secure.middleware import SecureMiddlewareStack
from tests.conformance import drive
from tests.conformance.table import Request
from tests.live.app import routes
from tests.sockets import quiet, rows

__all__ = ["quiet"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

ORIGIN, EVIL = "https://example.com", "https://evil.test"
SETTINGS = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "MESSAGE_RATES": {"connection": "15/m"},
    # Nothing leaves the spool while it is looked at.
    "AUDIT_FLUSH_INTERVAL": 60,
}
REFUSAL = "websocket.http.response.start"
FOREIGN = ("handshake.denied", "origin_not_allowed")
NOBODY = ("handshake.denied", "unauthenticated")
ACCEPTED, CLOSED = ("connection.accepted", ""), ("connection.closed", "")


async def turns_away(scope: Any, receive: Any, send: Any) -> None:
    """An application that refuses by an HTTP answer of its own."""
    await receive()
    await send({"type": REFUSAL, "status": 451, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"no"})


application = SecureMiddlewareStack(URLRouter([path("away/", turns_away), *routes.routes]))


class Server:
    """The ASGI server of one connection, which looks into the spool whenever something is handed to it."""

    def __init__(self, spool: Path, *events: dict[str, Any], fails_at: str = "") -> None:
        disconnect = {"type": "websocket.disconnect", "code": 1006}
        self.spool, self.fails_at = spool, fails_at
        self.events = [{"type": "websocket.connect"}, *events, disconnect]
        self.sent: list[tuple[dict[str, Any], Counter[tuple[str, str]]]] = []

    async def receive(self) -> dict[str, Any]:
        if not self.events:
            await asyncio.Event().wait()
        return self.events.pop(0)

    async def send(self, event: dict[str, Any]) -> None:
        self.sent.append((event, spooled(self.spool)))
        if event["type"] == self.fails_at:
            raise OSError("the peer has left")

    def known_at(self, kind: str) -> Counter[tuple[str, str]]:
        """What stood in the spool when the first event of a type was sent."""
        return next(known for event, known in self.sent if event["type"] == kind)


def spooled(directory: Path) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for file in directory.glob("*/*.jsonl"):
        with file.open("rb") as content:
            for row in lines.read(content)[0].values():
                found[row.kind, row.reason] += row.count
    return found


async def serve(server: Server, *, way: str, origin: str = ORIGIN, http_response: bool = True, **settings: Any) -> None:
    scope = drive.communicator(Request(path=way, origin=origin), http_response=http_response).scope
    with override_settings(CHANNELS_SECURE={**SETTINGS, "AUDIT_SPOOL_DIR": str(server.spool), **settings}):
        await asyncio.wait_for(application(scope, server.receive, server.send), 10)


def text(content: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": content}


@pytest.mark.parametrize(
    ("way", "sent", "expected", "options"),
    [
        ("/open/", "websocket.accept", ACCEPTED, {}),
        ("/open/", REFUSAL, FOREIGN, {"origin": EVIL}),
        ("/open/", "websocket.close", FOREIGN, {"origin": EVIL, "http_response": False}),
        ("/typed/", "websocket.accept", NOBODY, {}),
        ("/typed/", REFUSAL, NOBODY, {"REJECTION": "http"}),
        ("/typed/", "websocket.close", NOBODY, {"REJECTION": "http", "http_response": False}),
        ("/connect/close/", REFUSAL, ("handshake.denied", "permission_denied"), {"REJECTION": "http"}),
        ("/away/", REFUSAL, ("handshake.denied", "permission_denied"), {}),
    ],
)  # fmt: skip
async def test_how_a_handshake_ends_is_recorded_before_the_peer_knows(
    tmp_path: Path, way: str, sent: str, expected: tuple[str, str], options: dict[str, Any]
) -> None:
    server = Server(tmp_path)
    await serve(server, way=way, **options)
    assert server.known_at(sent) == {expected: 1}


async def test_a_refused_message_is_recorded_before_it_is_answered(tmp_path: Path) -> None:
    server = Server(tmp_path, text('{"type":"no.such.type"}'), text("{"))
    await serve(server, way="/open/")
    first, second = (known for event, known in server.sent if '"error"' in event.get("text", ""))
    assert first == {ACCEPTED: 1, ("message.denied", "unknown_type"): 1}
    assert second == first + Counter({("message.denied", "invalid_message"): 1})


async def test_each_frame_over_its_rate_is_recorded_before_it_is_answered(tmp_path: Path) -> None:
    server = Server(tmp_path, *[text('{"type":"chat.say","text":"hello"}')] * 50)
    await serve(server, way="/open/", ERROR_BUDGET=None)
    answers = [known for event, known in server.sent if '"rate_limited"' in event.get("text", "")]
    assert len(answers) > 30
    assert [known["message.denied", "rate_limited"] for known in answers] == list(range(1, len(answers) + 1))


async def test_an_end_by_the_policy_is_recorded_before_the_peer_knows(tmp_path: Path) -> None:
    server = Server(tmp_path, {"type": "websocket.receive", "bytes": b"\0"})
    await serve(server, way="/open/")
    (known,) = (known for event, known in server.sent if '"unsupported_data"' in event.get("text", ""))
    assert known["connection.closed", "unsupported_data"] == known["message.denied", "unsupported_data"] == 1


async def test_an_end_by_the_application_is_recorded_before_the_peer_knows(tmp_path: Path) -> None:
    server = Server(tmp_path, text('{"type":"close","code":4001}'))
    await serve(server, way="/odd/")
    assert server.known_at("websocket.close")[CLOSED] == 1
    (closed,) = [row for row in await rows() if row.kind == "connection.closed"]
    assert (closed.detail["by"], closed.detail["code"]) == ("application", 4001)


@pytest.mark.parametrize(
    ("way", "fails_at", "expected", "options"),
    [
        ("/open/", "websocket.accept", ["connection.accepted", "connection.closed"], {}),
        ("/open/", REFUSAL, ["handshake.denied"], {"origin": EVIL}),
        ("/typed/", "websocket.accept", ["handshake.denied"], {}),
        ("/typed/", "websocket.close", ["handshake.denied"], {}),
        ("/away/", REFUSAL, ["handshake.denied"], {}),
        ("/odd/", "websocket.close", ["connection.accepted", "connection.closed"], {}),
    ],
)
async def test_a_peer_that_leaves_meanwhile_has_one_beginning_and_one_end(
    tmp_path: Path, way: str, fails_at: str, expected: list[str], options: dict[str, Any]
) -> None:
    server = Server(tmp_path, text('{"type":"close","code":4001}'), fails_at=fails_at)
    await serve(server, way=way, **options)
    assert any(event["type"] == fails_at for event, _ in server.sent)
    assert [row.kind for row in await rows()] == expected


async def test_without_a_spool_a_flood_is_recorded_with_its_like(tmp_path: Path) -> None:
    server = Server(tmp_path, *[text('{"type":"chat.say","text":"hello"}')] * 50)
    await serve(server, way="/open/", ERROR_BUDGET=None, AUDIT_SPOOL_DIR=None)
    assert spooled(tmp_path) == {}
    (flood,) = [row for row in await rows() if row.reason == "rate_limited"]
    assert flood.count > 30


@pytest.fixture(autouse=True)
def let_go() -> Any:
    yield
    audit.reset()
