"""The deployment that docs/howto/deploy.md prints: nginx with TLS, and behind it every server it names."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from channels_secure.models import AuditEvent
from tests.live.nginx import CLIENT, HEADER_TIMEOUT, HOSTNAME, READ_TIMEOUT, STACKS, Deployment, Stack, deploy
from tests.live.raw import Header, RawSocket, SocketEnded
from tests.live.servers import HOST

pytestmark = [pytest.mark.nginx, pytest.mark.live, pytest.mark.django_db(transaction=True)]

ORIGIN = f"https://{HOSTNAME}"
SPOOFED = "203.0.113.9"
CANARY = "canary-5f1d"
# A JWT's shape is what makes a text in a disabled place a leaked token.
TOKEN = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{CANARY}"
SETTINGS: dict[str, Any] = {"AUDIT_FLUSH_INTERVAL": 0.1, "HANDSHAKE_RATES": {"ip": None, "user": None}}


@pytest.fixture(scope="module", params=STACKS, ids=str)
def deployed(request: pytest.FixtureRequest, nginx: str, django_db_setup: None) -> Iterator[Deployment]:
    stack: Stack = request.param
    # A UNIX socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="cs-") as name, deploy(stack, nginx, Path(name), SETTINGS) as running:
        yield running


def let_in(raw: RawSocket, path: str = "/who/", **handshake: Any) -> dict[str, Any]:
    """Shake hands, and return what the application says of its client."""
    response = raw.handshake(path, **{"origin": ORIGIN, **handshake})
    assert response.status == 101, response
    told: dict[str, Any] = raw.read_json()
    return told


def refusal(deployed: Deployment) -> tuple[str, str | None]:
    """The reason of the one handshake that was refused, and its address, as the audit trail has them."""
    denied = AuditEvent.objects.filter(kind__in=("handshake.denied", "credentials.failed"))
    deployed.until(denied.exists)
    event = denied.get()
    return event.reason, event.ip


def ends(raw: RawSocket) -> float:
    """How many seconds it takes until the other side ends the connection without a word."""
    began = time.monotonic()
    with pytest.raises(SocketEnded):
        raw.read_exactly(1)
    return time.monotonic() - began


# Who is it? -----------------------------------------------------------------------------------------------------------


def test_a_client_is_seen_through_the_proxy(deployed: Deployment) -> None:
    with deployed.connect() as raw:
        told = let_in(raw)
        assert (told["address"], told["secure"]) == (CLIENT, True)
        raw.send_json("hello")
        assert raw.read_json() == "hello"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Forwarded-For", SPOOFED.encode())],
        [(b"X-Forwarded-For", b"127.0.0.1"), (b"X-Forwarded-For", SPOOFED.encode())],
        [(b"X-Forwarded-For", b"<script>, not an address")],
        [(b"X_Forwarded_For", SPOOFED.encode()), (b"X-Real-Ip", SPOOFED.encode()), (b"Forwarded", b"for=203.0.113.9")],
    ],
    ids=["one", "two", "odd", "others"],
)
def test_what_a_client_says_of_its_address_is_not_believed(deployed: Deployment, headers: list[Header]) -> None:
    with deployed.connect() as raw:
        assert let_in(raw, headers=headers)["address"] == CLIENT


def test_a_client_that_reaches_the_server_itself_is_not_believed(deployed: Deployment) -> None:
    if deployed.stack.unix:
        # Nobody but this machine's own processes can: the socket is a file.
        assert (deployed.directory / "asgi.sock").is_socket()
        return
    headers = [(b"X-Forwarded-For", SPOOFED.encode()), (b"X-Forwarded-Proto", b"https")]
    with RawSocket.open(HOST, deployed.server_port, source=CLIENT) as raw:
        raw.authority = HOSTNAME
        assert raw.handshake("/who/", origin=ORIGIN, headers=headers).status == 403
    assert refusal(deployed) == ("wss_required", CLIENT)


# Encrypted? -----------------------------------------------------------------------------------------------------------


def test_the_plain_port_passes_nothing_on(deployed: Deployment) -> None:
    with deployed.connect(deployed.plain_port) as raw:
        response = raw.handshake("/who/", origin=ORIGIN)
    assert (response.status, response.header("location")) == (301, f"https://{HOSTNAME}/who/")
    with deployed.connect() as raw:
        let_in(raw)
    deployed.until(AuditEvent.objects.exists)
    assert not AuditEvent.objects.filter(kind="handshake.denied").exists()


@pytest.mark.parametrize("claim", [None, b"https", b"wss"])
def test_a_plain_port_that_passes_on_is_refused_whatever_the_client_says(
    deployed: Deployment, claim: bytes | None
) -> None:
    headers = [] if claim is None else [(b"X-Forwarded-Proto", claim)]
    with deployed.connect(deployed.open_port) as raw:
        assert raw.handshake("/who/", origin=ORIGIN, headers=headers).status == 403
    assert refusal(deployed) == ("wss_required", CLIENT)


# The rest of the handshake --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ("https://evil.example", "origin_not_allowed"),
        (f"http://{HOSTNAME}", "origin_not_allowed"),
        (f"https://{HOSTNAME}:8443", "origin_not_allowed"),
        (None, "origin_missing"),
    ],
)
def test_the_origin_is_checked(deployed: Deployment, origin: str | None, reason: str) -> None:
    with deployed.connect() as raw:
        assert raw.handshake("/who/", origin=origin).status == 403
    assert refusal(deployed) == (reason, CLIENT)


def test_a_token_of_ordinary_length_passes_and_a_line_too_long_does_not(deployed: Deployment) -> None:
    with deployed.connect() as raw:
        assert raw.handshake("/who/", origin=ORIGIN, headers=[(b"Cookie", b"c=" + b"x" * 7_000)]).status == 101
    with deployed.connect() as raw:
        assert raw.handshake("/who/", origin=ORIGIN, headers=[(b"Cookie", b"c=" + b"x" * 9_000)]).status == 400
    with deployed.connect() as raw:
        assert raw.handshake("/who/?q=" + "x" * 9_000, origin=ORIGIN).status == 414
    deployed.until(AuditEvent.objects.filter(kind="connection.accepted").exists)
    assert not AuditEvent.objects.filter(kind="handshake.denied").exists()


@pytest.mark.parametrize("sent", [b"", b"GET /who/ HTTP/1.1\r\nHost: chat.example.com\r\nX-Slow: "])
def test_a_handshake_that_is_not_finished_never_reaches_the_application(deployed: Deployment, sent: bytes) -> None:
    with deployed.connect() as raw:
        raw.send_raw(sent)
        assert ends(raw) < HEADER_TIMEOUT + 3
    with deployed.connect() as raw:
        let_in(raw)
    deployed.until(AuditEvent.objects.filter(kind="connection.accepted").exists)
    assert AuditEvent.objects.exclude(kind__startswith="connection.").count() == 0


def test_a_handshake_that_drips_is_ended_all_the_same(deployed: Deployment) -> None:
    with deployed.connect() as raw:
        raw.send_raw(b"GET /who/ HTTP/1.1\r\n")
        began = time.monotonic()
        while raw.sent_nothing(within=0.2):
            assert time.monotonic() - began < HEADER_TIMEOUT + 3
            raw.send_raw(b"X-Drip: 1\r\n")


# What it costs to be silent -------------------------------------------------------------------------------------------


def test_an_idle_socket_outlives_the_proxys_patience_only_with_a_heartbeat(deployed: Deployment) -> None:
    with deployed.connect() as silent, deployed.connect() as beating:
        let_in(silent)
        let_in(beating, "/beating/")
        assert ends(silent) < READ_TIMEOUT + 3
        for _ in range(READ_TIMEOUT + 1):
            assert beating.read_json() == {"type": "ping"}
            beating.send_json({"type": "pong"})
    deployed.until(lambda: AuditEvent.objects.filter(kind="connection.closed").count() == 2)


# What is written down -------------------------------------------------------------------------------------------------


def test_no_log_holds_a_token(deployed: Deployment) -> None:
    requests: list[dict[str, Any]] = [
        {"path": f"/who/?ticket={CANARY}"},
        {"path": f"/who/?token={TOKEN}"},
        {"path": "/who/", "subprotocols": ["channels-secure.v1", f"channels-secure.bearer.{TOKEN}"]},
        {"path": "/who/", "headers": [(b"Authorization", f"Bearer {TOKEN}".encode())]},
    ]
    for request in requests:
        with deployed.connect() as raw:
            raw.handshake(**request, origin=ORIGIN)
    deployed.until(lambda: deployed.logs().count('"GET /who/" ') >= len(requests))
    with deployed.connect(deployed.plain_port) as raw:
        raw.handshake(f"/who/?ticket={CANARY}", origin=ORIGIN)
    deployed.until(lambda: '"GET /who/" 301' in deployed.logs())
    assert CANARY not in deployed.logs()


def test_several_workers_serve(deployed: Deployment) -> None:
    expected = deployed.stack.workers or 1
    seen: set[int] = set()

    def another() -> bool:
        with deployed.connect() as raw:
            seen.add(let_in(raw)["process"])
        return len(seen) == expected

    deployed.until(another)
    assert len(seen) == expected


def test_an_error_log_holds_no_token_either(nginx: str, django_db_setup: None) -> None:
    with ended_server(nginx) as logs:
        assert CANARY not in logs()


# That these tests would notice ----------------------------------------------------------------------------------------


def test_an_error_log_of_everything_would_hold_a_token(nginx: str, django_db_setup: None) -> None:
    with ended_server(nginx, mistakes={".error.log crit;": ".error.log error;"}) as logs:
        assert CANARY in logs()


@contextmanager
def ended_server(nginx: str, **options: Any) -> Iterator[Callable[[], str]]:
    """A deployment whose server has died, and which was asked for a socket since."""
    with tempfile.TemporaryDirectory(prefix="cs-") as name, deploy(STACKS[1], nginx, Path(name), {}, **options) as here:
        here.server.kill()
        here.server.wait()
        with here.connect() as raw:
            assert raw.handshake(f"/who/?ticket={CANARY}", origin=ORIGIN).status == 502
        here.until(lambda: '"GET /who/" 502' in here.logs())
        yield here.logs


def test_other_configurations_would_believe_clients_and_write_tokens_down(nginx: str, django_db_setup: None) -> None:
    mistakes = {
        "X-Forwarded-For $proxy_add_x_forwarded_for;": "X-Forwarded-For $http_x_forwarded_for;",
        "X-Forwarded-Proto $scheme;": "X-Forwarded-Proto $http_x_forwarded_proto;",
        '"$request_method $uri"': '"$request"',
    }
    headers = [(b"X-Forwarded-For", SPOOFED.encode()), (b"X-Forwarded-Proto", b"https")]
    with (
        tempfile.TemporaryDirectory(prefix="cs-") as name,
        deploy(STACKS[0], nginx, Path(name), SETTINGS, mistakes=mistakes) as wrong,
    ):
        with wrong.connect(wrong.open_port) as raw:
            told = let_in(raw, f"/who/?mark={CANARY}", headers=headers)
        assert (told["address"], told["secure"]) == (SPOOFED, True)
        wrong.until(lambda: CANARY in wrong.logs())
