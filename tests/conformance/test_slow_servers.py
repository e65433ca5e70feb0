"""Rows about waiting, on real servers: peers that vanish or drip, handlers that block a thread, a locked database."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import connection, transaction

from channels_secure import blocklist
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import Reason
from tests.conformance.table import ALLOWED_ORIGIN, LIVE_SETTINGS
from tests.conformance.test_servers import check_closing, row, wait_for_row
from tests.conformance.visiting import Visit, check_log, cookie, measure_echo, upgrade, wait_for_count, wait_until
from tests.conformance.world import World
from tests.live.raw import encode_frame
from tests.live.servers import LiveServer, Opcode, RawSocket, ServerKind, SocketEnded, SocketTimeout

pytestmark = pytest.mark.django_db(transaction=True)
APP = "tests.conformance.live_app:application"
WAITING = [
    "tests.conformance.live_app.WaitingAuthenticator",
    "channels_secure.auth.session.SessionAuthenticator",
]
HANDSHAKE_TIMEOUT = 1.5
Start = Callable[..., LiveServer]


# Row 20 ---------------------------------------------------------------------------------------------------------------


@row(
    "live-reset-while-authenticating",
    20,
    "20 peers send a RST while an authenticator waits for ever, and 3 while authorize() does",
    "every task gone within HANDSHAKE_TIMEOUT, no connection registered, no slot taken, one row each",
)
def test_a_reset_while_an_authenticator_waits_leaves_nothing(kind: ServerKind, server: Start, visit: Visit) -> None:
    limits = {"MAX_CONNECTIONS": {"ip": 3, "user": None}, "HANDSHAKE_TIMEOUT": HANDSHAKE_TIMEOUT}
    quick = {"POLICY_REFRESH_INTERVAL": 0.1, "AUDIT_FLUSH_INTERVAL": 0.1}
    host = server(kind, APP, settings={**LIVE_SETTINGS, **limits, **quick, "AUTHENTICATORS": WAITING})
    watcher = visit(host, "/status/", source="127.9.9.9")
    for path, source, count in (("/open/?wait=1", "127.3.2.1", 20), ("/authorize/hang/", "127.3.2.2", 3)):
        began = time.monotonic()
        peers = [visit.connect(host, source) for _ in range(count)]
        for raw in peers:
            raw.send_raw(upgrade(path))
        wait_until(watcher, lambda status, count=count: status["serving"] == count, within=1.2)  # type: ignore[misc]
        for raw in peers:
            raw.reset()
        wait_until(watcher, lambda status: status == {"connections": 0, "serving": 0}, within=HANDSHAKE_TIMEOUT + 1)
        assert time.monotonic() - began < HANDSHAKE_TIMEOUT + 1
        again = [visit(host, "/open/", source=source) for _ in range(3)]
        for raw in again:
            raw.connection.close()
        # Before the next begin: the count of those must not be mistaken for theirs.
        wait_until(watcher, lambda status: status == {"connections": 0, "serving": 0}, within=5)
        wait_for_count(host, count, ip=source, kind="handshake.denied", reason="handshake_timeout")
    check_log(host)


# Rows 19, 60 and 62 ---------------------------------------------------------------------------------------------------


@row(
    "live-authenticator-hangs",
    19,
    "an authenticator that waits for ever, from a browser and from a program",
    "handshake_timeout at HANDSHAKE_TIMEOUT: 4408, and 503; the task is gone",
)
def test_an_authenticator_that_hangs_is_a_refusal(kind: ServerKind, server: Start, visit: Visit) -> None:
    quick = {"HANDSHAKE_TIMEOUT": 1, "POLICY_REFRESH_INTERVAL": 0.1, "AUDIT_FLUSH_INTERVAL": 0.1}
    host = server(kind, APP, settings={**LIVE_SETTINGS, **quick, "AUTHENTICATORS": WAITING})
    watcher = visit(host, "/status/", source="127.9.9.9")
    began = time.monotonic()
    browser = visit(host, "/open/?wait=1", source="127.3.3.1")
    check_closing(browser.read_until_closed(timeout=2), Reason.HANDSHAKE_TIMEOUT, kind)
    with host.connect(source="127.3.3.2") as program:
        assert program.handshake("/open/?wait=1").status == (403 if kind == "daphne" else 503)
    assert 2 <= time.monotonic() - began < 4
    wait_until(watcher, lambda status: status == {"connections": 0, "serving": 0}, within=1)
    for source in ("127.3.3.1", "127.3.3.2"):
        wait_for_row(host, kind="handshake.denied", reason="handshake_timeout", ip=source)
    check_log(host)


@row("live-idle", 60, "no frame at all, on a server, to consumers of ours and of others", "4408 idle_timeout")
def test_an_idle_peer_is_cut(kind: ServerKind, server: Start, visit: Visit) -> None:
    quick = {"IDLE_TIMEOUT": 1, "POLICY_REFRESH_INTERVAL": 0.1, "ALLOW_ANONYMOUS": True}
    host = server(kind, APP, settings={**LIVE_SETTINGS, **quick})
    for raw in [visit(host, path) for path in ("/open/", "/echo/", "/foreign/", "/plain/", "/unread/")]:
        check_closing(raw.read_until_closed(timeout=3), Reason.IDLE_TIMEOUT, kind)
    check_log(host)


@row(
    "live-fragments",
    62,
    "a message of 20,000 fragments of one byte, 20,000 pings, 20,000 empty fragments",
    "out of reach of the package: the process lives, a bystander is served again within 10 s",
)
def test_fragments_and_pings_do_not_end_the_process(kind: ServerKind, server: Start, visit: Visit) -> None:
    host = server(kind, APP, settings=LIVE_SETTINGS)
    bystander = visit(host, "/echo/")
    start = encode_frame(Opcode.TEXT, b'"', fin=False, mask=bytes(4))
    for each in (
        start + encode_frame(Opcode.CONTINUATION, b"a", fin=False, mask=bytes(4)) * 20_000,
        encode_frame(Opcode.PING, b"", mask=bytes(4)) * 20_000,
        start + encode_frame(Opcode.CONTINUATION, b"", fin=False, mask=bytes(4)) * 20_000,
    ):
        raw = visit(host, "/echo/")
        with suppress(SocketEnded, SocketTimeout):
            raw.send_raw(each)
        assert measure_echo(bystander) < 10
        raw.reset()
    assert host.process.poll() is None
    visit(host, "/open/").connection.close()
    check_log(host)


# Row 78 ---------------------------------------------------------------------------------------------------------------


@contextmanager
def locked_database() -> Iterator[None]:
    """Nobody else may write while this lasts."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {AuditEvent._meta.db_table} IN ACCESS EXCLUSIVE MODE")
        yield


def seconds_until_blocked(raw: RawSocket, kind: ServerKind, block: Callable[[], Any]) -> float:
    """From the commit of a block to the close frame on the socket."""
    block()
    committed = time.monotonic()
    check_closing(raw.read_until_closed(timeout=3), Reason.BLOCKED, kind)
    return time.monotonic() - committed


@row(
    "live-sync-handler-sleeps",
    78,
    "two handlers sleep for 4 s each through database_sync_to_async, with the default intervals",
    "others echo within 250 ms, new handshakes within a second; a blocked user is cut within a second of the commit, in"
    " a handler that sleeps too",
)
def test_a_handler_in_a_thread_delays_nobody(kind: ServerKind, server: Start, visit: Visit, world: World) -> None:
    host = server(kind, APP, settings=LIVE_SETTINGS)
    bystander = visit(host, "/echo/")
    bob = visit(host, "/typed/", headers=cookie(world, world.bob))
    sleepers = [visit(host, "/slow/", headers=cookie(world, world.alice)) for _ in range(2)]
    began = time.monotonic()
    for raw in sleepers:
        raw.send_json({"type": "nap", "seconds": 4})
        assert raw.read_json() == {"type": "napping"}
    assert max(measure_echo(bystander) for _ in range(20)) < 0.25
    handshake_began = time.monotonic()
    visit(host, "/typed/", headers=cookie(world, world.alice)).connection.close()
    assert time.monotonic() - handshake_began < 1
    assert seconds_until_blocked(bob, kind, lambda: blocklist.block(user=world.bob)) < 1.1
    assert seconds_until_blocked(sleepers[1], kind, lambda: blocklist.block(user=world.alice)) < 1.1
    check_closing(sleepers[0].read_until_closed(timeout=1), Reason.BLOCKED, kind)
    assert max(measure_echo(bystander) for _ in range(20)) < 0.25
    assert time.monotonic() - began < 4, "nobody slept any more when that was measured"
    check_log(host)


@row(
    "live-database-locked",
    78,
    "another process holds the database's write lock for 3 s",
    "others echo within 250 ms, and a block that is committed at its end cuts within a second",
)
def test_a_locked_database_delays_nobody(kind: ServerKind, server: Start, visit: Visit, world: World) -> None:
    host = server(kind, APP, settings=LIVE_SETTINGS)
    bystander = visit(host, "/echo/")
    bob = visit(host, "/typed/", headers=cookie(world, world.bob))
    carrier = cookie(world, world.alice)
    with locked_database():
        blocklist.block(user=world.bob)
        began = time.monotonic()
        while time.monotonic() - began < 3:
            # Who comes and who leaves is to be written now, and cannot be.
            visit(host, "/typed/", headers=carrier).reset()
            assert bystander.sent_nothing(within=0.1)
            assert measure_echo(bystander) < 0.25
    assert seconds_until_blocked(bob, kind, lambda: None) < 1.1
    wait_for_row(host, kind="connection.closed", reason="blocked", within=10)
    check_log(host)


# Row 48 ---------------------------------------------------------------------------------------------------------------

FORWARDED = {
    b"6.6.6.1": "6.6.6.1",
    b"9.9.9.9, 6.6.6.2": "6.6.6.2",
    b"6.6.6.3, 127.7.1.1": "6.6.6.3",
    b"::ffff:6.6.6.4": "6.6.6.4",
    b"[2001:db8::1]:99": "2001:db8::1",
    b"fe80::1%eth0": "fe80::1",
}


@row(
    "live-forwarded",
    48,
    "X-Forwarded-For from a trusted proxy, in several spellings; nonsense; the same from a stranger",
    "the audit row names the rightmost untrusted entry; bad_request; the stranger's own address",
)
def test_the_row_has_the_address_that_the_proxy_names(kind: ServerKind, server: Start, visit: Visit) -> None:
    settings = {**LIVE_SETTINGS, "TRUSTED_PROXIES": ["127.7.0.0/16"], "AUDIT_FLUSH_INTERVAL": 0.1}
    host = server(kind, APP, settings=settings)
    for value, address in FORWARDED.items():
        visit(host, "/open/", source="127.7.7.7", headers=[(b"X-Forwarded-For", value)]).connection.close()
        wait_for_row(host, kind="connection.accepted", ip=address)
    with host.connect(source="127.7.7.7") as raw:
        response = raw.handshake("/open/", origin=ALLOWED_ORIGIN, headers=[(b"X-Forwarded-For", b"6.6.6.5, nonsense")])
    assert response.status == (403 if kind == "daphne" else 400)
    wait_for_row(host, kind="handshake.denied", reason="bad_request", ip="127.7.7.7")
    visit(host, "/open/", source="127.8.7.7", headers=[(b"X-Forwarded-For", b"6.6.6.6")]).connection.close()
    wait_for_row(host, kind="connection.accepted", ip="127.8.7.7")
    assert not AuditEvent.objects.filter(ip__in=["9.9.9.9", "127.7.1.1", "6.6.6.5", "6.6.6.6"]).exists()
    check_log(host)
