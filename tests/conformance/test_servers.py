"""Every row that a server can carry, through raw sockets on Daphne and uvicorn."""
# ruff: noqa: E501 - a table is read line by line

import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Set
from typing import Any

import psutil
import pytest
from pytest_django import DjangoDbBlocker

from channels_secure.consumers import ahead
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import RULES, Reason
from tests.conformance import drive
from tests.conformance.conftest import Judge
from tests.conformance.table import (
    ALLOWED_ORIGIN,
    CANARY,
    LIVE_SETTINGS,
    SERVERS,
    Handshake,
    Message,
    Program,
    Refresh,
    Request,
    Verdict,
    add,
)
from tests.conformance.test_table import by_row
from tests.conformance.world import World
from tests.live.app import INTERNAL_TEXT
from tests.live.servers import (
    HOST,
    Closing,
    LiveServer,
    Opcode,
    RawSocket,
    ServerKind,
    ServerPool,
    SocketEnded,
    SocketTimeout,
)

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = ("daphne", "uvicorn")
QUICK = {
    "ALLOW_ANONYMOUS": True,
    "HANDLER_TIMEOUT": 1,
    "HANDSHAKE_TIMEOUT": 1,
    "SEND_TIMEOUT": 1,
    "DISCONNECT_TIMEOUT": 1,
    "POLICY_REFRESH_INTERVAL": 0.1,
    "AUDIT_FLUSH_INTERVAL": 0.1,
}
DEFAULTS = {"ALLOWED_ORIGINS": [ALLOWED_ORIGIN], "TRUSTED_PROXIES": [], "AUDIT_FLUSH_INTERVAL": 0.1}
TROUBLE = ("Traceback (most recent call last)", "ERROR", "Exception in ASGI", "Unhandled", "CRITICAL")


class Host:
    """A server with a bystander on it, who must be served whatever the others do."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.read = 0
        self.bystander: RawSocket | None = None

    def invite_bystander(self) -> None:
        """Let a bystander in, afresh for each test: one that is left alone answers no pings, and servers drop it."""
        self.dismiss_bystander()
        self.bystander = self.server.connect(source="127.8.8.8")
        assert self.bystander.handshake("/echo/", origin=ALLOWED_ORIGIN).status == 101

    def dismiss_bystander(self) -> None:
        if self.bystander is not None:
            self.bystander.connection.close()
        self.bystander = None

    def check_bystander(self, *, within: float = 1.0) -> None:
        if self.bystander is None:
            return
        began = time.monotonic()
        self.bystander.send_text("1")
        assert self.bystander.read_message().payload == b"1"
        assert time.monotonic() - began < within

    def take_log(self) -> str:
        log = self.server.log()
        fresh, self.read = log[self.read :], len(log)
        return fresh

    def check_log(self, secrets: Set[str] = frozenset(), *, troubled: bool = False) -> None:
        fresh = self.take_log()
        for word in () if troubled else TROUBLE:
            assert word not in fresh, fresh[-1500:]
        for secret in {*secrets, CANARY}:
            assert secret not in fresh, f"a secret is in the log: {fresh[-800:]}"


Hosts = Callable[..., Host]


@pytest.fixture(scope="module")
def hosts(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[Hosts]:
    """Servers of this module alone: ended with it, so that none of their rows turns up in another's tests."""
    found: dict[str, Host] = {}
    with ServerPool(tmp_path_factory.mktemp("conformance")) as pool:

        def host(kind: ServerKind, settings: Any) -> Host:
            key = json.dumps([kind, settings], sort_keys=True)
            if key not in found or found[key].server.process.poll() is not None:
                found[key] = Host(pool.start(kind, settings=settings))
            if not settings.get("REQUIRE_WSS"):
                found[key].invite_bystander()
            return found[key]

        yield host
        for each in found.values():
            each.dismiss_bystander()
    with django_db_blocker.unblock():
        AuditEvent.objects.all().delete()


def shake(raw: RawSocket, request: Request) -> Any:
    return raw.handshake(
        request.path, headers=request.raw_headers(), origin=request.origin, subprotocols=request.subprotocols
    )


def check_closing(closing: Closing, reason: Reason, kind: str) -> None:
    """An error frame and a close frame, whose reason Daphne never sends."""
    assert (closing.how, closing.code, closing.reason) == (
        "close",
        RULES[reason].close,
        "" if kind == "daphne" else reason.value,
    ), closing
    drive.check_error_frame(closing.json_frames()[-1], reason, fatal=True)


def check_response(raw: RawSocket, request: Request, verdict: Verdict, kind: str) -> None:
    try:
        response = shake(raw, request)
    except (SocketEnded, SocketTimeout):
        # uvicorn leaves some requests that it does not like without any answer.
        assert verdict.or_server
        return
    if verdict.or_server and 400 <= response.status < 600:
        return
    if verdict.reason is None or verdict.told == "socket":
        assert response.status == 101, response
        offered = response.header("sec-websocket-protocol")
        assert offered == verdict.subprotocol
        if verdict.reason is not None:
            check_closing(raw.read_until_closed(timeout=3), verdict.reason, kind)
        else:
            raw.send_close()
        return
    assert response.status == (403 if kind == "daphne" else RULES[verdict.reason].status), response
    if kind != "daphne":
        assert response.header("content-type") == "application/json"
        drive.check_error_frame(response.json(), verdict.reason, fatal=True)


def on_both(rows: Callable[[str], list[Any]]) -> list[Any]:
    return [pytest.param(kind, *param.values, id=f"{kind}-{param.id}") for kind in KINDS for param in rows(kind)]


@pytest.mark.parametrize(("kind", "cases"), on_both(lambda kind: by_row(Handshake, kind)))
def test_handshakes_end_as_the_table_says(
    kind: ServerKind, cases: list[Handshake], hosts: Hosts, judge: Judge, world: World
) -> None:
    used: dict[str, Host] = {}
    for case in cases:
        key = str(case.settings)
        if key not in used:
            used[key] = hosts(kind, {**LIVE_SETTINGS, **case.settings})
        host = used[key]
        with judge.case(case.id, kind):
            world = World()
            request = case.request(world)
            asked = [*([request.after] if request.after is not None else []), (request, case.required)]
            for each, required in asked:
                with host.server.connect(timeout=1 if required.or_server else 4) as raw:
                    check_response(raw, each, required, kind)
            host.check_log(world.secrets, troubled=case.required.or_server)
            host.check_bystander()
        host.take_log()


@pytest.mark.parametrize(("kind", "cases"), on_both(lambda kind: by_row(Message, kind)))
def test_messages_are_answered_as_the_table_says(
    kind: ServerKind, cases: list[Message], hosts: Hosts, judge: Judge
) -> None:
    host = hosts(kind, LIVE_SETTINGS)
    sockets: dict[str, RawSocket] = {}
    all_sockets: list[RawSocket] = []
    for case in cases:
        with judge.case(case.id, kind):
            if case.path not in sockets:
                sockets[case.path] = host.server.connect(timeout=5)
                all_sockets.append(sockets[case.path])
                assert sockets[case.path].handshake(case.path, origin=ALLOWED_ORIGIN).status == 101
            raw = sockets.pop(case.path)
            speak(raw, case, kind)
            if case.required.close is None:
                sockets[case.path] = raw
            host.check_log()
            host.check_bystander()
        host.take_log()
    for raw in all_sockets:
        raw.connection.close()


@pytest.mark.parametrize(("kind", "cases"), on_both(lambda kind: by_row(Refresh, kind)))
def test_refreshes_end_as_the_table_says(
    kind: ServerKind, cases: list[Refresh], hosts: Hosts, judge: Judge, world: World
) -> None:
    host = hosts(kind, LIVE_SETTINGS)
    for case in cases:
        with judge.case(case.id, kind):
            world = World()
            request, text = case.opened(world), case.frame(world)
            with host.server.connect(timeout=5) as raw:
                assert shake(raw, request).status == 101
                refresh(raw, case, text, kind)
            host.check_log(world.secrets)
            host.check_bystander()
        host.take_log()


def refresh(raw: RawSocket, case: Refresh, text: str, kind: str) -> None:
    for _ in range(case.earlier):
        raw.send_text(text)
        raw.read_json()
    raw.send_text(text)
    if case.required.close is not None:
        check_closing(raw.read_until_closed(), case.required.close, kind)
        return
    frame = raw.read_json()
    if case.required.error is None:
        drive.check_refreshed(frame, case)
    else:
        drive.check_answer(frame, case.required)
    raw.send_text(drive.PROBE["/open/"][0])
    assert raw.read_json() == drive.PROBE["/open/"][1]


def speak(raw: RawSocket, case: Message, kind: str) -> None:
    raw.send_text(case.frame) if isinstance(case.frame, str) else raw.send_binary(case.frame)
    if case.required.close is not None:
        check_closing(raw.read_until_closed(), case.required.close, kind)
        return
    drive.check_answer(raw.read_json(), case.required)
    text, value = drive.PROBE[case.path]
    raw.send_text(text)
    assert raw.read_json() == value


# Programs -------------------------------------------------------------------------------------------------------------


def row(id: str, number: int, given: str, required: str) -> pytest.MarkDecorator:  # noqa: A002
    add(Program(id=id, row=number, given=given, required=required, on=SERVERS))
    return pytest.mark.row(id)


def wait_for_row(server: LiveServer, *, within: float = 5.0, **filters: Any) -> AuditEvent:
    deadline = time.monotonic() + within
    while (event := AuditEvent.objects.filter(**filters).first()) is None:
        if time.monotonic() > deadline:
            raise AssertionError(
                f"no row {filters}; there are {list(AuditEvent.objects.values_list('kind', 'reason', 'path', 'detail'))}"
            )
        assert server.process.poll() is None
        try:
            server.process.wait(timeout=0.05)
        except Exception:  # noqa: BLE001 - still running, as it must
            continue
    return event


def opened(host: Host, path: str, *, source: str = HOST, **more: Any) -> RawSocket:
    raw = host.server.connect(source=source, timeout=8)
    try:
        response = raw.handshake(path, origin=ALLOWED_ORIGIN, **more)
        assert response.status == 101, response
    except BaseException:
        raw.connection.close()
        raise
    return raw


FAULTS = {
    "raise": "internal_error",
    "exit": "internal_error",
    "cancel": "internal_error",
    "denied.blocked": "blocked",
    "accept.again": "internal_error",
    "hang": "handler_timeout",
    "ask.permission": "internal_error",
}


@row(
    "live-handler-fails",
    76,
    "a handler raises, exits, is cancelled or hangs, on a server",
    "error frame and close code; the only traceback is the package's own; the process lives",
)
def test_handlers_that_fail(kind: ServerKind, hosts: Hosts, judge: Judge) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    for fault, reason in FAULTS.items():
        with judge.case(f"live-handler-fails {fault}", kind):
            with opened(host, "/odd/") as raw:
                raw.send_json({"type": fault})
                check_closing(raw.read_until_closed(), Reason(reason), kind)
            host.check_bystander()
            log = host.take_log()
            assert "Exception in ASGI application" not in log
            assert log.count("Traceback (most recent call last)") <= 1, log


@row(
    "live-after-close",
    76,
    "a handler raises, sends or closes again after close(), on a server",
    "the application's close code, no traceback but the package's",
)
def test_nothing_follows_a_close(kind: ServerKind, hosts: Hosts, judge: Judge) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    for how in ("close.and.raise", "close.and.send", "close.twice"):
        with judge.case(f"live-after-close {how}", kind):
            with opened(host, "/odd/") as raw:
                raw.send_json({"type": how})
                assert raw.read_until_closed().code == 4001
            host.check_bystander()
    log = host.take_log()
    assert "Exception in ASGI application" not in log
    assert log.count("Traceback (most recent call last)") <= 1, log


@row(
    "live-close-codes",
    76,
    "close() with 1001, 1008, 1011, 1005, 5000, None and a reason of 400 bytes, on a server",
    "a close frame with a code that every server sends",
)
def test_close_codes_of_applications(kind: ServerKind, hosts: Hosts, judge: Judge) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    for code, sent in {
        1000: 1000,
        3000: 3000,
        4999: 4999,
        None: 1000,
        1001: 4505,
        1008: 4403,
        1011: 4500,
        1005: 4500,
        5000: 4500,
        999: 4500,
        "x": 4500,
    }.items():
        with judge.case(f"live-close-codes {code}", kind):
            with opened(host, "/odd/") as raw:
                raw.send_json({"type": "close", "code": code, "reason": "ü" * 200})
                closing = raw.read_until_closed()
            assert (closing.how, closing.code) == ("close", sent)
            assert closing.reason == ("" if kind == "daphne" else "ü" * 61)
            host.check_log()


@row(
    "live-fails-before-accept",
    76,
    "authorize() or connect() raises, exits, hangs or refuses, on a server",
    "a browser is told on an accepted socket",
)
def test_application_code_that_fails_before_accept(kind: ServerKind, hosts: Hosts, judge: Judge) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    for path, reason in {
        "/authorize/raise/": Reason.INTERNAL_ERROR, "/authorize/exit/": Reason.INTERNAL_ERROR, "/authorize/cancel/": Reason.INTERNAL_ERROR, "/authorize/hang/": Reason.HANDSHAKE_TIMEOUT,
        "/authorize/false/": Reason.PERMISSION_DENIED, "/connect/raise/": Reason.INTERNAL_ERROR, "/connect/exit/": Reason.INTERNAL_ERROR, "/connect/cancel/": Reason.INTERNAL_ERROR,
        "/connect/close/": Reason.PERMISSION_DENIED, "/connect/hang/": Reason.HANDSHAKE_TIMEOUT, "/connect/stop/": Reason.PERMISSION_DENIED, "/connect/send-first/": Reason.INTERNAL_ERROR,
    }.items():  # fmt: skip
        with judge.case(f"live-fails-before-accept {path}", kind):
            with opened(host, path) as raw:
                check_closing(raw.read_until_closed(), reason, kind)
            assert "Exception in ASGI application" not in host.take_log()
            host.check_bystander()


@row("live-reset-in-handshake", 20, "a RST while authorize() waits", "the task is gone at HANDSHAKE_TIMEOUT, one row")
def test_a_reset_while_authorize_waits(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    raw = host.server.connect(source="127.3.1.1")
    raw.send_raw(
        f"GET /authorize/hang/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: {ALLOWED_ORIGIN}\r\n\r\n".encode()
    )
    with pytest.raises(SocketTimeout):
        raw.read_until(b"\r\n\r\n", timeout=0.2)
    raw.reset()
    wait_for_row(host.server, ip="127.3.1.1", reason="handshake_timeout", within=4)
    host.check_bystander()
    host.check_log()


@row("live-reset-while-handled", 54, "a RST while a handler waits", "the task is gone, one closing row")
def test_a_reset_while_a_handler_waits(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    raw = opened(host, "/odd/?row=reset")
    raw.send_json({"type": "hang"})
    assert raw.sent_nothing(within=0.1)
    raw.reset()
    wait_for_row(host.server, kind="connection.closed", path="/odd/", within=4)
    host.check_log()


@row(
    "live-unread",
    59,
    "a peer that never reads while the handler sends for ever",
    "slow_consumer or handler_timeout; the task is gone; memory is bounded",
)
def test_a_peer_that_never_reads_is_cut(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK, "HANDLER_TIMEOUT": 3})
    before = psutil.Process(host.server.process.pid).memory_info().rss
    with opened(host, "/odd/") as raw:
        raw.send_json({"type": "flood"})
        event = wait_for_row(host.server, kind="connection.closed", path="/odd/", within=8)
    assert event.reason in ("slow_consumer", "handler_timeout")
    if kind == "uvicorn":
        assert event.reason == "slow_consumer"
    grown = psutil.Process(host.server.process.pid).memory_info().rss - before
    assert grown < 256 << 20, grown
    host.check_bystander()
    host.check_log()


def read_until_quiet(raw: RawSocket) -> list[Any]:
    frames = []
    try:
        while True:
            frames.append(raw.read_json(timeout=2))
    except SocketTimeout:
        return frames


@row(
    "live-flood",
    56,
    "20,000 frames at once on one socket, with the default settings",
    "few answers, one strike a second; a bystander is served; the trail counts exactly; memory is bounded",
)
def test_a_flood_is_closed_and_harms_nobody(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, DEFAULTS)
    before = psutil.Process(host.server.process.pid).memory_info().rss
    frame = b"\x81\x92\x00\x00\x00\x00" + b'{"type":"nothing"}'
    # An address of its own: a sum goes on for a minute, and would have what another test was refused.
    source = "127.7.7.7"
    with opened(host, "/open/", source=source) as raw:
        for _ in range(20):
            raw.send_raw(frame * 1000)
        host.check_bystander(within=2)
        frames = read_until_quiet(raw)
        raw.send_close()
        raw.read_until_closed()
    refused = [frame for frame in frames if frame["type"] == "error"]
    handled = [frame for frame in frames if frame["type"] == "answer"]
    assert {frame["code"] for frame in refused} == {"rate_limited"}
    assert len(refused) <= 101 * 10
    event = wait_for_row(host.server, kind="connection.closed", ip=source, within=20)
    denied = AuditEvent.objects.filter(kind="message.denied", ip=source)
    assert sum(denied.values_list("count", flat=True)) == event.detail["received"] - len(handled)
    host.check_bystander(within=2)
    grown = psutil.Process(host.server.process.pid).memory_info().rss - before
    assert grown < (256 << 20 if kind == "daphne" else 64 << 20), grown
    host.check_log()


@row(
    "live-busy-flood",
    56,
    "2,000 frames while a handler runs, without rates",
    "all are read, 16 are kept and the rest refused, few answers; a bystander is served",
)
def test_a_flood_while_a_handler_runs_is_read_and_refused(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK, "HANDLER_TIMEOUT": 4})
    with opened(host, "/odd/?row=busy") as raw:
        raw.send_json({"type": "hang"})
        for number in range(2_000):
            raw.send_json({"type": "say", "id": number, "text": "hello"})
        host.check_bystander()
        closing = raw.read_until_closed()
    check_closing(closing, Reason.HANDLER_TIMEOUT, kind)
    refused = closing.json_frames()[:-1]
    assert {frame["code"] for frame in refused} == {"rate_limited"}
    assert len(refused) <= 101 * 3
    event = wait_for_row(host.server, kind="connection.closed", reason="handler_timeout", ip="127.0.0.1")
    assert event.detail["received"] == 2_001
    denied = AuditEvent.objects.filter(kind="message.denied", connection_id=event.connection_id)
    assert sum(denied.values_list("count", flat=True)) == 2_000 - ahead.MAX_FRAMES
    host.check_log()


@row(
    "live-handshake-flood",
    55,
    "300 handshakes of one address, with the default settings",
    "60 accepted, the rest 429 with Retry-After; another address is served",
)
def test_a_flood_of_handshakes_is_refused(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, DEFAULTS)
    statuses = []
    for _ in range(300):
        with host.server.connect(source="127.4.4.4") as raw:
            response = raw.handshake("/open/", origin=ALLOWED_ORIGIN)
            statuses.append(response.status)
            if response.status == 429:
                assert int(response.header("retry-after") or 0) >= 1
    refused = 403 if kind == "daphne" else 429
    assert 55 <= statuses.count(101) <= 75
    assert statuses.count(101) + statuses.count(refused) == 300
    host.check_bystander()
    began = time.monotonic()
    with host.server.connect(source="127.4.4.5") as raw:
        assert raw.handshake("/open/", origin=ALLOWED_ORIGIN).status == 101
    assert time.monotonic() - began < 1
    host.check_log()


@row("live-oversize", 65, "a frame over the server's own limit", "whatever the server does; a closing row")
def test_a_frame_over_the_servers_limit(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    with opened(host, "/echo/?row=oversize") as raw:
        try:
            raw.send_text(b"a" * ((1 << 20) + 10 if kind == "daphne" else (16 << 20) + 10))
            raw.read_until_closed(timeout=5)
        except SocketEnded:
            pass
    wait_for_row(host.server, kind="connection.closed", path="/echo/")
    host.check_bystander()
    assert "Exception in ASGI" not in host.take_log()


@row("live-1-MB", 64, "a text of 1 MB less one byte, which the server lets pass", "4413 without parsing")
def test_a_megabyte_of_text(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    for path in ("/open/", "/echo/", "/foreign/"):
        with opened(host, path) as raw:
            raw.send_text(b"[" * ((1 << 20) - 1))
            check_closing(raw.read_until_closed(), Reason.MESSAGE_TOO_BIG, kind)
    host.check_log()


@row("live-utf-8", 66, "a text frame that is no UTF-8", "the server closes; a closing row, no traceback")
def test_text_that_is_no_utf_8(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    with opened(host, "/echo/") as raw:
        raw.send_text(b'"\xff\xfe\xed\xa0\x80"')
        closing = raw.read_until_closed(timeout=5)
    assert closing.code in (None, 1007)
    wait_for_row(host.server, kind="connection.closed", path="/echo/")
    host.check_bystander()
    host.check_log(troubled=kind == "uvicorn")  # which logs a traceback of its own


@row("live-peer-closes", 54, "a peer closes with 1000, 4999, no code, a FIN, a RST", "one closing row, no traceback")
def test_every_way_to_leave(kind: ServerKind, hosts: Hosts, judge: Judge) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    ways: dict[str, Callable[[RawSocket], Any]] = {
        "1000": lambda raw: raw.send_close(1000), "4999": lambda raw: raw.send_close(4999, "x"), "none": lambda raw: raw.send_close(None), "fin": lambda raw: raw.shut_down_writing(),
        "rst": lambda raw: raw.reset(), "1005": lambda raw: raw.send_close(1005), "reason-bytes": lambda raw: raw.send_frame(Opcode.CLOSE, struct.pack("!H", 1000) + b"\xff\xfe"),
        "reserved-bits": lambda raw: raw.send_frame(Opcode.TEXT, b"1", rsv=7), "opcode": lambda raw: raw.send_frame(0x3, b"1"), "unmasked": lambda raw: raw.send_frame(Opcode.TEXT, b"1", mask=None),
    }  # fmt: skip
    for number, (name, leave) in enumerate(ways.items()):
        with judge.case(f"live-peer-closes {name}", kind):
            raw = host.server.connect(source=f"127.5.5.{number + 1}")
            assert raw.handshake("/echo/", origin=ALLOWED_ORIGIN).status == 101
            leave(raw)
            wait_for_row(host.server, kind="connection.closed", ip=f"127.5.5.{number + 1}")
            raw.connection.close()
            host.check_bystander()
            host.check_log()


@row(
    "live-spoofed-address", 47, "X-Forwarded-For from a peer that is no trusted proxy", "the row has the peer's address"
)
def test_the_row_has_the_peers_address(kind: ServerKind, hosts: Hosts) -> None:
    # uvicorn itself believes 127.0.0.1; any other loopback address is a stranger to it.
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    with host.server.connect(source="127.6.6.6") as raw:
        assert raw.handshake("/open/", origin=ALLOWED_ORIGIN, headers=[(b"X-Forwarded-For", b"6.6.6.6")]).status == 101
    wait_for_row(host.server, kind="connection.accepted", ip="127.6.6.6")
    assert not AuditEvent.objects.filter(ip="6.6.6.6").exists()


@row("live-heartbeat", 60, "no answer to the heartbeat, on a server", "4408 heartbeat_timeout")
def test_a_silent_peer_is_cut(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(
        kind, {**LIVE_SETTINGS, "HEARTBEAT_INTERVAL": 1, "HEARTBEAT_TIMEOUT": 1, "POLICY_REFRESH_INTERVAL": 0.1}
    )
    with opened(host, "/open/") as raw:
        assert raw.read_json() == {"type": "ping"}
        check_closing(raw.read_until_closed(timeout=5), Reason.HEARTBEAT_TIMEOUT, kind)
    host.take_log()


@row(
    "live-busy-heartbeat",
    60,
    "a handler runs three times as long as a heartbeat may take, and the peer answers",
    "its pings are answered, and it is not cut for its silence",
)
def test_a_busy_socket_is_not_cut_for_its_silence(kind: ServerKind, hosts: Hosts) -> None:
    beat = {"HEARTBEAT_INTERVAL": 1, "HEARTBEAT_TIMEOUT": 0.5, "HANDLER_TIMEOUT": 4.5}
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK, **beat})
    with opened(host, "/odd/") as raw:
        raw.send_json({"type": "hang"})
        for number in range(3):
            raw.send_json({"type": "ping", "id": number})
            assert raw.read_json() == {"type": "pong", "ref": number}
            raw.sent_nothing(within=0.8)
        check_closing(raw.read_until_closed(timeout=5), Reason.HANDLER_TIMEOUT, kind)
    host.check_log()


@row(
    "live-ignored-close",
    56,
    "a peer that ignores the close and keeps sending",
    "the application has ended within a second; a bystander is served",
)
def test_a_peer_that_ignores_the_close(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    with opened(host, "/open/?row=ignored") as raw:
        raw.send_binary(b"x")
        try:
            for _ in range(200):
                raw.send_frame(Opcode.TEXT, b'{"type":"nothing"}' * 100)
        except (SocketEnded, SocketTimeout):
            pass
        wait_for_row(host.server, kind="connection.closed", reason="unsupported_data", within=2)
        host.check_bystander()
    host.check_log()


@row("live-deflate-bomb", 63, "15 kB that inflate to 15 MB", "4413, or no deflate at all; a bystander is served")
def test_a_deflate_bomb(kind: ServerKind, hosts: Hosts) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    with host.server.connect(timeout=8) as raw:
        response = raw.handshake(
            "/open/", origin=ALLOWED_ORIGIN, headers=[(b"Sec-WebSocket-Extensions", b"permessage-deflate")]
        )
        if "permessage-deflate" not in (response.header("sec-websocket-extensions") or ""):
            assert kind == "daphne"
            return
        compress = zlib.compressobj(wbits=-15)
        bomb = compress.compress(b"[" * (15 << 20)) + compress.flush(zlib.Z_SYNC_FLUSH)
        raw.send_frame(Opcode.TEXT, bomb[:-4], rsv=4)
        while (frame := raw.read_frame()).opcode is not Opcode.CLOSE:
            continue
        assert (frame.close_code, frame.close_reason) == (4413, "message_too_big")
    host.check_bystander()
    host.check_log()


@row(
    "live-foreign-fails",
    76,
    "a consumer that is not ours raises, is denied, closes with 1011, floods",
    "codes that every server sends, no traceback but the package's",
)
def test_other_consumers_that_fail(kind: ServerKind, hosts: Hosts, judge: Judge) -> None:
    host = hosts(kind, {**LIVE_SETTINGS, **QUICK})
    for text, code in {"raise": 4500, "denied": 4403, "close": 4500, "close.and.send": 4001}.items():
        with judge.case(f"live-foreign-fails {text}", kind):
            with opened(host, "/odd-foreign/") as raw:
                raw.send_text(text)
                closing = raw.read_until_closed()
            assert (closing.how, closing.code) == ("close", code)
            log = host.take_log()
            assert "Exception in ASGI application" not in log
            assert INTERNAL_TEXT not in json.dumps(closing.json_frames())
            host.check_bystander()
    with judge.case("live-foreign-fails flood", kind):
        with opened(host, "/odd-foreign/?row=flood") as raw:
            raw.send_text("flood")
            began = time.monotonic()
            host.check_bystander()
            assert time.monotonic() - began < 1
        wait_for_row(host.server, kind="connection.closed", path="/odd-foreign/")
        host.check_bystander()
        assert "Exception in ASGI application" not in host.take_log()
