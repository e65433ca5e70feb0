"""The model of servers, compared with the servers."""

import asyncio
import json
from typing import Any

import pytest

from channels_secure.testing import Outcome, SecureCommunicator
from tests.live.servers import LiveServer, ServerKind, SocketEnded
from tests.testing import odd

APP = "tests.testing.odd:application"
OFFERED = ("chat.v1",)
TWICE = ((b"x-twice", b"1"), (b"x-twice", b"2"), (b"x_under_score", b"1"))

pytestmark = pytest.mark.django_db(transaction=True)


def met(server: LiveServer, name: str) -> dict[str, Any]:
    """What a client of a real server sees."""
    with server.connect() as raw:
        try:
            response = raw.handshake(f"/{name}/", subprotocols=OFFERED)
        except SocketEnded:
            return {"status": None, "code": 1006}
        if response.status != 101:
            body = json.loads(response.body) if response.body.startswith(b"{") else {}
            return {"status": response.status, "error": body, "retry-after": response.header("retry-after")}
        ending = raw.read_until_closed()
        texts = [frame.text() for frame in ending.frames]
        code = ending.code if ending.how == "close" else 1006
        return {
            "texts": texts,
            "code": code,
            "reason": ending.reason,
            "own": response.header("x-own"),
            "subprotocol": response.header("sec-websocket-protocol"),
        }


async def modelled(kind: Any, name: str) -> dict[str, Any]:
    """What the model shows."""
    socket = SecureCommunicator(odd.application, f"/{name}/", server=kind, subprotocols=OFFERED)
    outcome = await socket.shake_hands()
    if not outcome.accepted and outcome.code == 1006:
        return {"status": None, "code": 1006}
    if not outcome.accepted:
        retry = outcome.headers.get("retry-after")
        return {"status": outcome.status, "error": outcome.error, "retry-after": retry}
    texts = []
    while (event := await socket.receive_output())["type"] == "websocket.send":
        texts.append(event["text"])
    own = dict(socket.response_headers).get(b"x-own")
    return {
        "texts": texts,
        "code": event["code"],
        "reason": event["reason"],
        "own": own and own.decode(),
        "subprotocol": outcome.subprotocol,
    }


def start(shared_server: Any, kind: ServerKind) -> LiveServer:
    arguments = ["--websocket_connect_timeout", "2"] if kind == "daphne" else []
    server: LiveServer = shared_server(kind, APP, arguments=arguments)
    return server


@pytest.mark.parametrize("name", [*odd.SCRIPTS, *odd.SLOW_ON_DAPHNE])
async def test_a_client_of_the_model_sees_what_a_client_of_the_server_sees(
    kind: ServerKind, name: str, shared_server: Any
) -> None:
    server = await asyncio.to_thread(start, shared_server, kind)
    real = await asyncio.to_thread(met, server, name)
    assert await modelled(kind, name) == real


async def test_daphne_leaves_a_socket_open_whose_application_has_returned_and_uvicorn_does_not(
    kind: ServerKind, shared_server: Any
) -> None:
    server = await asyncio.to_thread(start, shared_server, kind)
    with server.websocket("/return-after/", origin=None) as raw:
        if kind == "daphne":
            raw.ping(b"still there")
            assert (await asyncio.to_thread(raw.read_frame)).payload == b"still there"
        else:
            assert (await asyncio.to_thread(raw.read_until_closed)).how == "eof"
    socket = SecureCommunicator(odd.application, "/return-after/", server=kind)
    assert (await socket.shake_hands()).accepted
    await socket.wait()
    if kind == "daphne":
        assert socket.output_queue.empty()
    else:
        assert (await socket.closing())[0] == 1006


async def test_a_scope_of_the_model_has_the_shape_of_the_server_s(kind: ServerKind, shared_server: Any) -> None:
    server = await asyncio.to_thread(start, shared_server, kind)
    with server.websocket("/scope/", headers=TWICE) as raw:
        real = await asyncio.to_thread(raw.read_json)
    async with SecureCommunicator(odd.application, "/scope/", server=kind, headers=TWICE, scheme="ws") as socket:
        assert await socket.receive_json_from() == real


# A page in a browser -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deny", "deny-with-code", "http-response", "raise-first", "foreign-subprotocol"])
async def test_a_page_sees_of_a_handshake_that_fails_only_that_it_failed(name: str) -> None:
    outcome = await SecureCommunicator(odd.application, f"/{name}/", server="browser").shake_hands()
    assert outcome == Outcome(accepted=False, code=1006)
    assert str(outcome) == "failed: the client sees nothing but 1006"


async def test_a_page_that_offered_subprotocols_and_got_none_fails() -> None:
    offering = SecureCommunicator(odd.application, "/close-plain/", server="browser", subprotocols=["chat.v1"])
    assert (await offering.shake_hands()).code == 1006
    plain = SecureCommunicator(odd.application, "/close-plain/", server="browser")
    assert (await plain.shake_hands()).accepted
    await plain.wait()


async def test_a_page_sees_close_codes_and_reasons() -> None:
    async with SecureCommunicator(odd.application, "/close-own-code/", server="browser") as socket:
        assert await socket.closing() == (4403, "bye")


def test_what_no_browser_can_do_is_refused() -> None:
    with pytest.raises(ValueError, match="always sends an Origin"):
        SecureCommunicator(odd.application, server="browser", origin=None)
    with pytest.raises(ValueError, match="no header of a script's own"):
        SecureCommunicator(odd.application, server="browser", headers=[(b"x-own", b"1")])


async def test_what_an_application_raises_is_logged_and_not_raised_where_a_server_would_catch_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcome = await SecureCommunicator(odd.application, "/raise-first/", server="uvicorn").shake_hands()
    assert outcome.status == 500
    (record,) = [each for each in caplog.records if each.getMessage() == "testing.application_failed"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
    with pytest.raises(LookupError):
        await SecureCommunicator(odd.application, "/raise-first/").shake_hands()
