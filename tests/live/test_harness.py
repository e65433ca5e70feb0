"""The harness itself: what it reports is what the servers did."""

import signal
from collections.abc import Callable

import pytest

from tests.live.servers import LiveServer, Opcode, RawSocket, ServerKind, SocketEnded, SocketTimeout
from tests.services import ServiceError

ECHO = "tests.live.echo:application"
StartServer = Callable[..., LiveServer]


@pytest.fixture
def echo(shared_server: StartServer, kind: ServerKind) -> LiveServer:
    return shared_server(kind, ECHO)


def test_text_binary_and_large_frames_come_back(echo: LiveServer) -> None:
    with echo.websocket("/echo") as raw:
        for payload in (b"hello", b"x" * 126, b"y" * 70_000):
            raw.send_frame(Opcode.BINARY, payload)
            frame = raw.read_message()
            assert (frame.opcode, frame.payload) == (Opcode.BINARY, payload)
        raw.send_text("grüß")
        assert raw.read_message().text() == "grüß"


def test_fragments_are_one_message(echo: LiveServer) -> None:
    with echo.websocket("/echo") as raw:
        raw.send_frame(Opcode.TEXT, b"one ", fin=False)
        raw.send_frame(Opcode.CONTINUATION, b"two")
        assert raw.read_message().text() == "one two"


def test_a_ping_is_answered_with_its_payload(echo: LiveServer) -> None:
    with echo.websocket("/echo") as raw:
        raw.ping(b"are you there")
        frame = raw.read_frame()
        assert (frame.opcode, frame.payload) == (Opcode.PONG, b"are you there")


def test_a_close_frame_is_told_from_its_absence(echo: LiveServer) -> None:
    with echo.websocket("/close") as raw:
        closing = raw.read_until_closed()
    # Daphne never sends the reason.
    assert (closing.how, closing.code, closing.reason) == ("close", 4001, "" if echo.kind == "daphne" else "bye")


def test_an_application_that_raises_ends_the_socket_as_each_server_does(echo: LiveServer) -> None:
    with echo.websocket("/raise") as raw:
        closing = raw.read_until_closed()
    assert (closing.how, closing.code) == (("close", 1011) if echo.kind == "daphne" else ("eof", None))
    echo.wait_for_log("asked to fail")


def test_an_unmasked_frame_ends_the_socket_as_each_server_does(echo: LiveServer) -> None:
    with echo.websocket("/echo") as raw:
        raw.send_frame(Opcode.TEXT, b"hello", mask=None)
        closing = raw.read_until_closed()
    assert (closing.how, closing.code) == (("reset", None) if echo.kind == "daphne" else ("close", 1002))


def test_a_refusal_is_reported_with_status_headers_and_body(echo: LiveServer) -> None:
    with echo.connect() as raw:
        response = raw.handshake("/reply")
    if echo.kind == "daphne":
        assert response.status == 403  # it has no extension for anything else
    else:
        assert (response.status, response.header("retry-after")) == (429, "7")
        assert response.json() == {"code": "rate_limited"}


def test_raw_header_bytes_reach_the_server_unchanged(echo: LiveServer) -> None:
    headers = [(b"X-Odd", b"caf\xc3\xa9"), (b"X-Odd", b"second")]
    with echo.websocket("/headers", headers=headers, origin="null") as raw:
        sent = raw.read_json()["headers"]
    odd = [value for name, value in sent if name == "x-odd"]
    assert odd == (["caf\xc3\xa9,second"] if echo.kind == "daphne" else ["caf\xc3\xa9", "second"])
    assert ["origin", "null"] in sent


def test_a_client_may_have_any_loopback_address(echo: LiveServer) -> None:
    with echo.websocket("/headers", source="127.9.8.7") as raw:
        assert raw.read_json()["client"] == "127.9.8.7"


def test_ordinary_headers_can_be_left_out(echo: LiveServer) -> None:
    with echo.connect() as raw:
        response = raw.handshake("/echo", replace={b"sec-websocket-key": None})
    assert 400 <= response.status < 500


def test_silence_is_a_timeout_and_loses_nothing(echo: LiveServer) -> None:
    with echo.websocket("/echo") as raw:
        with pytest.raises(SocketTimeout):
            raw.read_frame(timeout=0.05)
        assert raw.sent_nothing(within=0.05)
        raw.send_text("still here")
        assert raw.read_message().text() == "still here"


def test_a_dead_server_is_a_reset_or_an_end(server: StartServer, kind: ServerKind) -> None:
    started = server(kind, ECHO)
    with started.websocket("/echo") as raw:
        assert started.stop(first=signal.SIGKILL) == -signal.SIGKILL
        assert raw.read_until_closed().how in {"eof", "reset"}
        with pytest.raises(SocketEnded):
            raw.read_frame()


def test_equal_arguments_share_a_server_and_others_do_not(shared_server: StartServer) -> None:
    first = shared_server("uvicorn", ECHO, settings={"ERROR_BUDGET": None})
    assert shared_server("uvicorn", ECHO, settings={"ERROR_BUDGET": None}) is first
    assert shared_server("uvicorn", ECHO) is not first


def test_a_server_that_cannot_start_says_why(server: StartServer, kind: ServerKind) -> None:
    with pytest.raises(ServiceError, match="no_such_module"):
        server(kind, "tests.live.no_such_module:application")


def test_the_client_resets_when_told_to(echo: LiveServer) -> None:
    raw: RawSocket = echo.connect()
    raw.handshake("/echo")
    raw.reset()
    assert raw.connection.fileno() == -1
