"""Rows that take more than one request or frame, through the ASGI communicator: faults of application code, odd scopes,
early ends, floods and timeouts. A row's id is its mark."""
# ruff: noqa: E501 - a table is read line by line

import asyncio
import json
import time
from typing import Any

import pytest
from django.test import override_settings

from channels_secure import audit, database
from channels_secure.policy.decisions import RULES, Reason
from tests.conformance import drive
from tests.conformance.conftest import Judge, QuietLog, audit_rows
from tests.conformance.table import ALLOWED_ORIGIN, SETTINGS, Program, Request, add
from tests.conformance.world import World
from tests.live.app import INTERNAL_TEXT

pytestmark = pytest.mark.django_db(transaction=True)
BOTH = pytest.mark.parametrize("http_response", [True, False], ids=["uvicorn-like", "daphne-like"])


def row(id: str, number: int, given: str, required: str) -> pytest.MarkDecorator:  # noqa: A002
    """Add a program to the table; returns the mark of its test."""
    add(Program(id=id, row=number, given=given, required=required, on=("communicator",)))
    return pytest.mark.row(id)


def settings(**changes: Any) -> Any:
    return override_settings(CHANNELS_SECURE={**SETTINGS, **changes})


async def rows_of(kind: str | None = None) -> list[tuple[str, str, int]]:
    await audit.flush()
    return [(r["kind"], r["reason"], r["count"]) for r in await database.run(audit_rows) if kind in (None, r["kind"])]


# Application code that fails before accept ----------------------------------------------------------------------------

REFUSALS = {
    ("authorize", "raise"): Reason.INTERNAL_ERROR,
    ("authorize", "denied"): Reason.PERMISSION_DENIED,
    ("authorize", "denied-later"): Reason.RATE_LIMITED,
    ("authorize", "exit"): Reason.INTERNAL_ERROR,
    ("authorize", "cancel"): Reason.INTERNAL_ERROR,
    ("authorize", "false"): Reason.PERMISSION_DENIED,
    ("authorize", "hang"): Reason.HANDSHAKE_TIMEOUT,
    ("connect", "raise"): Reason.INTERNAL_ERROR,
    ("connect", "denied"): Reason.PERMISSION_DENIED,
    ("connect", "exit"): Reason.INTERNAL_ERROR,
    ("connect", "cancel"): Reason.INTERNAL_ERROR,
    ("connect", "deny-connection"): Reason.PERMISSION_DENIED,
    ("connect", "close"): Reason.PERMISSION_DENIED,
    ("connect", "send-first"): Reason.INTERNAL_ERROR,
    ("connect", "hang"): Reason.HANDSHAKE_TIMEOUT,
    ("connect", "never"): Reason.HANDSHAKE_TIMEOUT,
}


@row(
    "fails-before-accept",
    76,
    "authorize() or connect() raises, refuses, exits, is cancelled or hangs",
    "a refusal by the table, told to browsers on an accepted socket, and one row",
)
async def test_application_code_that_fails_before_accept_is_a_refusal(judge: Judge, quiet: QuietLog) -> None:
    for (method, how), reason in REFUSALS.items():
        for origin, http_response in ((ALLOWED_ORIGIN, True), (ALLOWED_ORIGIN, False)):
            with judge.case(f"fails-before-accept {method} {how}", "communicator"), settings(HANDSHAKE_TIMEOUT=0.3):
                peer = drive.communicator(Request(path=f"/{method}/{how}/", origin=origin), http_response=http_response)
                outcome = await peer.shake_hands(3)
                rule = RULES[reason]
                assert (outcome.accepted, outcome.code, outcome.reason) == (False, rule.close, reason.value), outcome
                drive.check_error_frame(outcome.error, reason, fatal=True)
                assert not quiet.foreign_errors()
            found = [(r["kind"], r["reason"]) for r in await drive.take_rows()]
            with judge.case(f"fails-before-accept {method} {how} audit", "communicator"):
                assert found == [("handshake.denied", reason.value)]


@row(
    "connects-oddly",
    76,
    "connect() accepts twice, chooses a subprotocol nobody offered, or raises AcceptConnection",
    "4500 for the first; the others open",
)
async def test_odd_ways_to_accept(judge: Judge, quiet: QuietLog) -> None:
    with settings():
        with judge.case("accept-twice", "communicator"):
            peer = drive.communicator(Request(path="/connect/accept-twice/"))
            outcome = await peer.shake_hands()
            code = outcome.code if not outcome.accepted else (await peer.closing())[0]
            assert code == 4500
        for how in ("wrong-subprotocol", "accept-connection"):
            with judge.case(how, "communicator"):
                peer = drive.communicator(Request(path=f"/connect/{how}/"))
                outcome = await peer.shake_hands()
                assert (outcome.accepted, outcome.subprotocol) == (True, None)
                await peer.disconnect()
        with judge.case("close-and-raise", "communicator"):
            peer = drive.communicator(Request(path="/connect/close-and-raise/"))
            await peer.shake_hands()
            assert (await peer.closing())[0] == 4001


@row("stop-consumer", 76, "StopConsumer in connect()", "the handshake is refused at once, not left without an answer")
async def test_stop_consumer_in_connect_is_answered() -> None:
    with settings(HANDSHAKE_TIMEOUT=2):
        peer = drive.communicator(Request(path="/connect/stop/"))
        outcome = await peer.shake_hands(1)
        assert not outcome.accepted


# Handlers that fail ----------------------------------------------------------------------------------------------------

HANDLERS = {
    "raise": Reason.INTERNAL_ERROR,
    "exit": Reason.INTERNAL_ERROR,
    "cancel": Reason.INTERNAL_ERROR,
    "denied.blocked": Reason.BLOCKED,
    "accept.again": Reason.INTERNAL_ERROR,
}


@row(
    "handler-fails",
    76,
    "a handler raises, exits, is cancelled, accepts again, or is denied for good",
    "an error frame without its text, the close code, one row",
)
async def test_a_handler_that_fails_ends_its_socket_and_no_other(judge: Judge, quiet: QuietLog) -> None:
    with settings():
        for kind, reason in HANDLERS.items():
            with judge.case(f"handler-fails {kind}", "communicator"):
                bystander = drive.communicator(Request(path="/echo/"))
                assert (await bystander.shake_hands()).accepted
                peer = drive.communicator(Request(path="/odd/"))
                assert (await peer.shake_hands()).accepted
                await drive.send(peer, json.dumps({"type": kind, "id": 7}))
                frame = await drive.receive(peer)
                drive.check_error_frame(frame, reason, fatal=True)
                assert await peer.closing() == (RULES[reason].close, reason.value)
                await drive.send(bystander, "1")
                assert await drive.receive(bystander) == 1
                await bystander.disconnect()
                assert not quiet.foreign_errors()
            rows = [(r["kind"], r["reason"]) for r in await drive.take_rows()]
            with judge.case(f"handler-fails {kind} audit", "communicator"):
                assert ("connection.closed", reason.value) in rows


@row(
    "handler-denies",
    76,
    "a handler or its permission raises Denied('permission_denied')",
    "an error frame with the id; the socket stays open",
)
@pytest.mark.parametrize("kind_of", ["denied", "ask.denied"])
async def test_a_denied_message_leaves_the_socket_open(kind_of: str) -> None:
    with settings():
        peer = drive.communicator(Request(path="/odd/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, json.dumps({"type": kind_of, "id": 7}))
        frame = await drive.receive(peer)
        drive.check_error_frame(frame, Reason.PERMISSION_DENIED, fatal=False)
        assert frame["ref"] == 7
        await drive.send(peer, '{"type":"say","text":"hi"}')
        assert await drive.receive(peer) == {"type": "said"}
        await peer.disconnect()


@row("permission-fails", 76, "a permission raises", "4500, no exception text")
async def test_a_permission_that_raises_is_an_internal_error() -> None:
    with settings():
        peer = drive.communicator(Request(path="/odd/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, '{"type":"ask.permission"}')
        drive.check_error_frame(await drive.receive(peer), Reason.INTERNAL_ERROR, fatal=True)
        assert (await peer.closing())[0] == 4500


@row(
    "after-close",
    76,
    "a handler raises, sends or closes again after close()",
    "one close with the application's code, nothing after it, no traceback of a server",
)
@pytest.mark.parametrize("how", ["close.and.raise", "close.and.send", "close.twice"])
async def test_nothing_follows_a_close(how: str, quiet: QuietLog) -> None:
    with settings():
        peer = drive.communicator(Request(path="/odd/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, json.dumps({"type": how}))
        event = await peer.receive_output(3)
        assert (event["type"], event["code"]) == ("websocket.close", 4001)
        await drive.send(peer, '{"type":"say","text":"hi"}')
        await peer.send_input({"type": "websocket.disconnect", "code": 4001})
        await peer.wait(3)
        assert await peer.receive_nothing(0.01)
        assert not quiet.foreign_errors()


CODES = {
    1000: 1000,
    3000: 3000,
    4999: 4999,
    None: 1000,
    1001: 4505,
    1008: 4403,
    1011: 4500,
    1012: 4505,
    999: 4500,
    1005: 4500,
    5000: 4500,
    2999: 4500,
    0: 4500,
    -1: 4500,
    "x": 4500,
    4000.0: 4500,
    True: 1000,
}


@row(
    "close-codes",
    76,
    "close() with codes that servers cannot send: 1001, 1008, 1011, 1005, 5000, 'x', None",
    "1000 and 3000-4999 unchanged, others by their meaning",
)
async def test_close_codes_of_applications_are_sendable(judge: Judge) -> None:
    with settings():
        for code, sent in CODES.items():
            with judge.case(f"close-codes {code!r}", "communicator"):
                peer = drive.communicator(Request(path="/odd/"))
                assert (await peer.shake_hands()).accepted
                await drive.send(peer, json.dumps({"type": "close", "code": code}))
                event = await peer.receive_output(3)
                assert (event["type"], event["code"]) == ("websocket.close", sent)
                await peer.disconnect()


@row("close-reason", 76, "close() with a reason of 200 two-byte characters", "cut to 123 bytes between characters")
async def test_a_long_close_reason_is_cut_between_characters() -> None:
    with settings():
        peer = drive.communicator(Request(path="/odd/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, json.dumps({"type": "close", "code": 4001, "reason": "a" + "ü" * 200}))
        event = await peer.receive_output(3)
        assert event["reason"] == "a" + "ü" * 61
        await peer.disconnect()


@row(
    "handler-hangs",
    77,
    "a handler awaits for ever, or swallows its cancellation once",
    "4500 handler_timeout at HANDLER_TIMEOUT, the task gone",
)
@pytest.mark.parametrize("how", ["hang", "hang.stubbornly"])
async def test_a_handler_that_hangs_is_cut(how: str, quiet: QuietLog) -> None:
    with settings(HANDLER_TIMEOUT=0.2, POLICY_REFRESH_INTERVAL=0.05):
        peer = drive.communicator(Request(path="/odd/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, json.dumps({"type": how}))
        drive.check_error_frame(json.loads((await peer.receive_output(4))["text"]), Reason.HANDLER_TIMEOUT, fatal=True)
        assert await peer.closing() == (4500, "handler_timeout")
        assert not quiet.foreign_errors()
        assert ("connection.closed", "handler_timeout", 1) in await rows_of()


@row("disconnect-fails", 76, "disconnect() hangs or raises", "ends within DISCONNECT_TIMEOUT; the row is written")
@pytest.mark.parametrize("how", ["hang", "raise"])
async def test_a_disconnect_that_fails_ends_anyway(how: str) -> None:
    with settings(DISCONNECT_TIMEOUT=0.2):
        peer = drive.communicator(Request(path=f"/odd/?disconnect={how}"))
        assert (await peer.shake_hands()).accepted
        await peer.send_input({"type": "websocket.disconnect", "code": 1000})
        await peer.wait(3)
        assert [kind for kind, _, _ in await rows_of()] == ["connection.accepted", "connection.closed"]


@row(
    "foreign-fails",
    76,
    "a consumer that is not ours raises, is denied, or closes with 1011 and a reason of 400 bytes",
    "4500, 4403 and codes every server sends; never a traceback of a server",
)
async def test_other_consumers_that_fail_are_contained(judge: Judge, quiet: QuietLog) -> None:
    expected = {"raise": 4500, "denied": 4403, "close": 4500, "close.and.send": 4001}
    with settings(ALLOW_ANONYMOUS=True):
        for text, code in expected.items():
            with judge.case(f"foreign-fails {text}", "communicator"):
                peer = drive.communicator(Request(path="/odd-foreign/"))
                assert (await peer.shake_hands()).accepted
                await drive.send(peer, text)
                sent, reason = await peer.closing(3)
                assert sent == code
                assert len(reason.encode()) <= 123
                assert not quiet.foreign_errors()


@row("foreign-exits", 76, "a consumer that is not ours raises SystemExit", "4500; the process lives on")
async def test_another_consumer_cannot_end_the_process() -> None:
    with settings(ALLOW_ANONYMOUS=True):
        peer = drive.communicator(Request(path="/odd-foreign/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, "exit")
        assert (await peer.closing(3))[0] == 4500


@row(
    "flood-out",
    59,
    "a handler that sends for ever, to a peer that reads all",
    "cut at HANDLER_TIMEOUT; a bystander is served meanwhile",
)
async def test_a_handler_that_sends_for_ever_is_cut_and_starves_nobody() -> None:
    with settings(HANDLER_TIMEOUT=0.5):
        bystander = drive.communicator(Request(path="/echo/"))
        assert (await bystander.shake_hands()).accepted
        peer = drive.communicator(Request(path="/odd/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, '{"type":"flood"}')
        await drive.send(bystander, "1")
        began = time.monotonic()
        assert await drive.receive(bystander) == 1
        assert time.monotonic() - began < 0.5
        await peer.wait(5)
        assert ("connection.closed", "handler_timeout", 1) in await rows_of()
        await bystander.disconnect()


# Early ends and odd events ----------------------------------------------------------------------------------------------


@row(
    "gone-before-accept",
    20,
    "the peer is gone while authorize() waits",
    "the task ends at HANDSHAKE_TIMEOUT at the latest, one row",
)
async def test_a_peer_that_leaves_before_accept_is_let_go(quiet: QuietLog) -> None:
    with settings(HANDSHAKE_TIMEOUT=0.3):
        peer = drive.communicator(Request(path="/authorize/hang/"))
        await peer.send_input({"type": "websocket.connect"})
        await peer.send_input({"type": "websocket.disconnect", "code": 1006})
        await peer.wait(3)
        assert await rows_of() == [("handshake.denied", "handshake_timeout", 1)]
        assert not quiet.errors()


@row("first-event-odd", 20, "the first event is no connect", "nothing is sent, the application ends")
@pytest.mark.parametrize(
    "event",
    [{"type": "websocket.disconnect", "code": 1006}, {"type": "websocket.receive", "text": "x"}],
    ids=lambda e: e["type"],
)
async def test_an_odd_first_event_ends_the_connection(event: dict[str, Any]) -> None:
    with settings():
        peer = drive.communicator(Request())
        await peer.send_input(event)
        await peer.wait(3)
        assert await peer.receive_nothing(0.01)


@row(
    "cancelled",
    54,
    "the server cancels the task while a handler waits",
    "the cancellation leaves the application, one closing row, nothing stays registered",
)
async def test_a_cancellation_by_the_server_is_obeyed() -> None:
    with settings():
        peer = drive.communicator(Request(path="/odd/"))
        assert (await peer.shake_hands()).accepted
        await drive.send(peer, '{"type":"hang"}')
        await asyncio.sleep(0)
        await peer.send_input({"type": "websocket.receive", "text": "later"})
        peer.future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(peer.future, 3)
        assert [kind for kind, _, _ in await rows_of()] == ["connection.accepted", "connection.closed"]


class Broken:
    """A server whose `send` raises at the nth call."""

    def __init__(self, fail_at: int, error: BaseException) -> None:
        self.fail_at, self.error, self.sent = fail_at, error, 0
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(self, event: dict[str, Any]) -> None:
        self.sent += 1
        if self.sent >= self.fail_at:
            raise self.error

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()


@row(
    "send-fails",
    54,
    "the server's send raises OSError or RuntimeError: at accept, at the answer, at a refusal",
    "the application ends quietly, one terminal row, nothing stays registered",
)
async def test_a_send_that_fails_ends_the_connection_once(judge: Judge, quiet: QuietLog) -> None:
    with settings():
        for error in (OSError("gone"), RuntimeError("gone"), ConnectionResetError("gone")):
            for path, fail_at, frames in (
                ("/open/", 1, 0),
                ("/open/", 2, 1),
                ("/nowhere/", 1, 0),
                ("/nowhere/", 2, 0),
                ("/typed/", 1, 0),
                ("/foreign/", 1, 0),
                ("/odd/", 2, 1),
            ):
                with judge.case(f"send-fails {path} {fail_at} {type(error).__name__}", "communicator"):
                    server = Broken(fail_at, error)
                    scope = drive.communicator(Request(path=path)).scope
                    server.inbox.put_nowait({"type": "websocket.connect"})
                    for _ in range(frames):
                        server.inbox.put_nowait({"type": "websocket.receive", "text": '{"type":"nothing"}'})
                    async with asyncio.timeout(3):
                        await drive.app()(scope, server.receive, server.send)
                    assert not quiet.errors()
                rows = await drive.take_rows()
                with judge.case(f"send-fails {path} {fail_at} audit", "communicator"):
                    assert len([r for r in rows if r["kind"] in ("connection.closed", "handshake.denied")]) == 1, (
                        drive.brief(rows)
                    )


# Odd scopes ---------------------------------------------------------------------------------------------------------------

SCOPES: dict[str, dict[str, Any]] = {
    "client-none": {"client": None},
    "client-list": {"client": ["192.0.2.9", 1]},
    "client-port-text": {"client": ("192.0.2.9", "123")},
    "client-empty": {"client": []},
    "client-text": {"client": "192.0.2.9"},
    "client-script": {"client": ["<script>alert(1)</script>", 0]},
    "client-mapped": {"client": ("::ffff:192.0.2.9", 1)},
    "client-zone": {"client": ("fe80::1%eth0", 1)},
    "client-number": {"client": (5, 5)},
    "headers-tuple": {"headers": ((b"host", b"testserver"), (b"origin", ALLOWED_ORIGIN.encode()))},
    "headers-lists": {"headers": [[b"host", b"testserver"], [b"origin", ALLOWED_ORIGIN.encode()]]},
    "extensions-none": {"extensions": None},
    "extensions-absent": {"extensions": ...},
    "scheme-absent": {"scheme": ...},
    "subprotocols-absent": {"subprotocols": ...},
    "subprotocols-none": {"subprotocols": None},
    "query-absent": {"query_string": ...},
    "query-text": {"query_string": "a=b"},
    "asgi-daphne": {"asgi": {"version": "3.0"}},
    "state-present": {"state": {}},
    "root-path": {"root_path": "/app", "path": "/app/open/"},
}


@row(
    "odd-scopes",
    20,
    "scopes of different servers: client None, a list, port '123', headers as tuples, no extensions",
    "accepted, or refused by the table; never an exception",
)
async def test_odd_scopes_are_served(judge: Judge, quiet: QuietLog) -> None:
    with settings(TRUSTED_PROXIES=[]):
        for name, changes in SCOPES.items():
            with judge.case(f"odd-scopes {name}", "communicator"):
                peer = drive.communicator(Request())
                peer.scope.update({key: value for key, value in changes.items() if value is not ...})
                for key in [key for key, value in changes.items() if value is ...]:
                    peer.scope.pop(key, None)
                outcome = await peer.shake_hands()
                assert outcome.accepted, outcome
                await drive.send(peer, '{"type":"nothing"}')
                assert (await drive.receive(peer))["to"] == "nothing"
                await peer.disconnect()
                quiet.take()


ODD_FACTS: dict[str, dict[str, Any]] = {
    "str": {"headers": [("host", "testserver"), ("origin", ALLOWED_ORIGIN)]},
    "none": {"headers": None},
    "triples": {"headers": [(b"a", b"b", b"c")]},
    "number": {"headers": 5},
    "none-values": {"headers": [(b"host", None)]},
    "path-none": {"path": None},
    "path-bytes": {"path": b"/open/"},
    "path-absent": {"path": ...},
    "query-number": {"query_string": 5},
    "subprotocols-text": {"subprotocols": "abc"},
    "subprotocols-numbers": {"subprotocols": [1, 2]},
}


@row(
    "odd-headers", 20, "headers of str, None, or triples; a path that is no text", "400 bad_request, never an exception"
)
async def test_headers_that_are_none_are_a_bad_request(judge: Judge, quiet: QuietLog) -> None:
    with settings():
        for name, changes in ODD_FACTS.items():
            with judge.case(f"odd-headers {name}", "communicator"):
                peer = drive.communicator(Request())
                peer.scope.update({key: value for key, value in changes.items() if value is not ...})
                for key in [key for key, value in changes.items() if value is ...]:
                    peer.scope.pop(key, None)
                outcome = await peer.shake_hands()
                assert not outcome.accepted
                assert outcome.status in (400, 403), outcome
                quiet.take()


# 4.3 limits -----------------------------------------------------------------------------------------------------------


@row(
    "handshake-rate-ip",
    55,
    "more handshakes of one address than HANDSHAKE_RATES allows",
    "429 with Retry-After; another address is served; the trail counts exactly",
)
async def test_handshakes_over_the_rate_of_an_address_are_refused() -> None:
    with settings(HANDSHAKE_RATES={"ip": "5/m", "user": None}):
        statuses = []
        for _ in range(40):
            peer = drive.communicator(Request(), client="198.51.100.1")
            outcome = await peer.shake_hands()
            statuses.append(outcome.status)
            if outcome.accepted:
                await peer.disconnect()
            else:
                assert int(outcome.headers["retry-after"]) >= 1
        assert statuses == [None] * 5 + [429] * 35
        other = drive.communicator(Request(), client="198.51.100.2")
        assert (await other.shake_hands()).accepted
        await other.disconnect()
        denied = await rows_of("handshake.denied")
        assert sum(count for _, _, count in denied) == 35
        assert len(denied) == 21


@row("handshake-rate-foreign-origin", 55, "refusals of the Origin", "are never charged to the address")
async def test_origin_refusals_are_not_charged_to_the_address() -> None:
    with settings(HANDSHAKE_RATES={"ip": "2/m", "user": None}):
        for _ in range(10):
            outcome = await drive.communicator(Request(origin="https://evil.test"), client="198.51.100.3").shake_hands()
            assert outcome.status == 403
        peer = drive.communicator(Request(), client="198.51.100.3")
        assert (await peer.shake_hands()).accepted
        await peer.disconnect()


@row("ipv6-prefix", 50, "addresses of one /64, and IPv4-mapped ones", "one budget")
async def test_addresses_of_one_prefix_share_a_budget() -> None:
    with settings(HANDSHAKE_RATES={"ip": "3/m", "user": None}):
        for family in (
            ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:1", "2001:db8:0:0:1::"),
            ("203.0.113.9", "::ffff:203.0.113.9", "::ffff:cb00:7109", "203.0.113.9"),
        ):
            outcomes = []
            for address in family:
                peer = drive.communicator(Request(), client=address)
                outcome = await peer.shake_hands()
                outcomes.append(outcome.accepted)
                if outcome.accepted:
                    await peer.disconnect()
            assert outcomes == [True, True, True, False]


@row(
    "connection-limit",
    51,
    "one socket more than MAX_CONNECTIONS of a user",
    "429 connection_limit for a program, 4409 for a browser; a closed socket frees its slot",
)
async def test_the_connection_limit_holds_and_frees() -> None:
    with settings(MAX_CONNECTIONS={"user": 2, "ip": None}):
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        peers = [drive.communicator(Request(path="/typed/", cookies=cookies)) for _ in range(3)]
        outcomes = [await peer.shake_hands() for peer in peers]
        assert [outcome.accepted for outcome in outcomes] == [True, True, False]
        assert (outcomes[2].code, outcomes[2].reason) == (4409, "connection_limit")
        await peers[0].disconnect()
        again = drive.communicator(Request(path="/typed/", cookies=cookies))
        assert (await again.shake_hands()).accepted
        for peer in (peers[1], again):
            await peer.disconnect()


@row(
    "message-flood",
    56,
    "200 frames at once over a rate of 20/s",
    "about 20 handled, error frames with retry_after, one strike; the trail counts exactly",
)
@pytest.mark.parametrize("path", ["/open/", "/echo/", "/odd-foreign/"])
async def test_a_flood_is_one_episode(path: str) -> None:
    with settings(ALLOW_ANONYMOUS=True):
        peer = drive.communicator(Request(path=path))
        assert (await peer.shake_hands()).accepted
        for _ in range(200):
            await drive.send(peer, '{"type":"nothing"}')
        handled = refused = 0
        while not await peer.receive_nothing(0.2):
            frame = await drive.receive(peer)
            if frame.get("code") == "rate_limited":
                assert frame["retry_after"] > 0
                assert frame["fatal"] is False
                refused += 1
            else:
                handled += 1
        assert 20 <= handled <= 30
        assert 1 <= refused <= 180
        await peer.disconnect()
        denied = await rows_of("message.denied")
        assert sum(count for _, _, count in denied) == 200 - handled
        assert {reason for _, reason, _ in denied} == {"rate_limited"}


@row(
    "user-rate",
    57,
    "two sockets of one user, each under the connection's rate, together over the user's",
    "the excess is refused",
)
async def test_two_sockets_of_a_user_share_a_budget() -> None:
    with settings(MESSAGE_RATES={"connection": "20/s", "user": "15/m"}):
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        peers = [drive.communicator(Request(path="/typed/", cookies=cookies)) for _ in range(2)]
        for peer in peers:
            assert (await peer.shake_hands()).accepted
        codes = []
        for number in range(20):
            peer = peers[number % 2]
            await drive.send(peer, '{"type":"nothing"}')
            codes.append((await drive.receive(peer)).get("code"))
        assert codes == [None] * 15 + ["rate_limited"] * 5
        for peer in peers:
            await peer.disconnect()


@row(
    "handler-rate",
    57,
    "a handler's own rate of 2/m, on two sockets of one user",
    "the third message is refused with its id and retry_after; other types are not affected",
)
async def test_the_rate_of_a_handler_is_per_user() -> None:
    with settings():
        world = await database.run(World)
        cookies = await database.run(world.session, world.alice)
        first, second = (drive.communicator(Request(path="/typed/", cookies=cookies)) for _ in range(2))
        for peer in (first, second):
            assert (await peer.shake_hands()).accepted
            await drive.send(peer, '{"type":"rare"}')
            assert (await drive.receive(peer))["to"] == "rare"
        await drive.send(second, '{"type":"rare","id":9}')
        frame = await drive.receive(second)
        assert (frame.get("code"), frame.get("ref")) == ("rate_limited", 9)
        assert 0 < frame["retry_after"] <= 60
        await drive.send(second, '{"type":"nothing"}')
        assert (await drive.receive(second))["to"] == "nothing"
        for peer in (first, second):
            await peer.disconnect()


@row("handler-cost", 57, "a message of cost 15, twice, at 20/s", "the second is refused")
async def test_a_dear_message_costs_its_price() -> None:
    with settings():
        peer = drive.communicator(Request())
        assert (await peer.shake_hands()).accepted
        for expected in (None, "rate_limited"):
            await drive.send(peer, '{"type":"dear"}')
            assert (await drive.receive(peer)).get("code") == expected
        await peer.disconnect()


@row("error-budget", 73, "21 refused messages, ERROR_BUDGET is 20/m", "20 error frames, then 4400 too_many_errors")
async def test_the_error_budget_closes_the_socket() -> None:
    with settings(MESSAGE_RATES={"connection": None, "user": None}):
        peer = drive.communicator(Request())
        assert (await peer.shake_hands()).accepted
        for _ in range(20):
            await drive.send(peer, '{"type":"nope"}')
            drive.check_error_frame(await drive.receive(peer), Reason.UNKNOWN_TYPE, fatal=False)
        await drive.send(peer, '{"type":"nope"}')
        drive.check_error_frame(await drive.receive(peer), Reason.TOO_MANY_ERRORS, fatal=True)
        assert await peer.closing() == (4400, "too_many_errors")


@row(
    "auto-block",
    73,
    "AUTO_BLOCK_AFTER strikes of a user",
    "a block, the socket is cut with 4423, the next handshake refused",
)
async def test_strikes_end_in_a_block() -> None:
    with settings(AUTO_BLOCK_AFTER="5/h", ERROR_BUDGET=None, POLICY_REFRESH_INTERVAL=0.05):
        world = await database.run(World)
        cookies = await database.run(world.session, world.bob)
        peer = drive.communicator(Request(path="/typed/", cookies=cookies))
        assert (await peer.shake_hands()).accepted
        for _ in range(5):
            await drive.send(peer, '{"type":"nope"}')
            assert (await drive.receive(peer))["code"] == "unknown_type"
        frame = await drive.receive(peer)
        drive.check_error_frame(frame, Reason.BLOCKED, fatal=True)
        assert frame["reconnect"] is True
        assert 3500 < frame["retry_after"] <= 3600
        assert await peer.closing() == (4423, "blocked")
        again = await drive.communicator(Request(path="/typed/", cookies=cookies)).shake_hands()
        assert (again.accepted, again.code) == (False, 4423)


@row("hello", 60, "SEND_HELLO is on", "the first frame is hello, with its four members")
async def test_hello_comes_first() -> None:
    with settings(SEND_HELLO=True):
        peer = drive.communicator(Request())
        assert (await peer.shake_hands()).accepted
        frame = json.loads((await peer.receive_output(1))["text"])
        assert frame["type"] == "hello"
        assert {"connection_id", "heartbeat_interval", "max_message_size"} <= set(frame)
        assert frame["max_message_size"] == 65536
        await peer.disconnect()


@row("heartbeat", 60, "no answer to the heartbeat", "a ping frame, then 4408 heartbeat_timeout")
async def test_a_silent_peer_is_cut() -> None:
    with settings(HEARTBEAT_INTERVAL=0.2, HEARTBEAT_TIMEOUT=0.2, POLICY_REFRESH_INTERVAL=0.05):
        peer = drive.communicator(Request())
        assert (await peer.shake_hands()).accepted
        assert await drive.receive(peer) == {"type": "ping"}
        await drive.send(peer, '{"type":"pong"}')
        assert await drive.receive(peer) == {"type": "ping"}
        drive.check_error_frame(await drive.receive(peer), Reason.HEARTBEAT_TIMEOUT, fatal=True)
        assert await peer.closing() == (4408, "heartbeat_timeout")


@row("idle", 60, "no frame at all", "4408 idle_timeout")
@pytest.mark.parametrize("path", ["/open/", "/odd-foreign/"])
async def test_an_idle_peer_is_cut(path: str) -> None:
    with settings(IDLE_TIMEOUT=0.2, POLICY_REFRESH_INTERVAL=0.05, ALLOW_ANONYMOUS=True):
        peer = drive.communicator(Request(path=path))
        assert (await peer.shake_hands()).accepted
        drive.check_error_frame(await drive.receive(peer), Reason.IDLE_TIMEOUT, fatal=True)
        assert await peer.closing() == (4408, "idle_timeout")


@row(
    "expiry",
    45,
    "a token that expires while the socket is open",
    "token_expiring, then 4419 credentials_expired",
)
async def test_a_socket_ends_with_its_token() -> None:
    with settings(POLICY_REFRESH_INTERVAL=0.05):
        world = await database.run(World)
        token = await database.run(lambda: world.token(exp=int(time.time()) + 2))
        peer = drive.communicator(Request(path="/typed/", headers=((b"authorization", f"Bearer {token}".encode()),)))
        assert (await peer.shake_hands()).accepted
        assert (await drive.receive(peer))["type"] == "token_expiring"
        drive.check_error_frame(await drive.receive(peer), Reason.CREDENTIALS_EXPIRED, fatal=True)
        assert await peer.closing() == (4419, "credentials_expired")


@row(
    "report-mode",
    0,
    "MODE is report: a foreign Origin, a rate and a size that are exceeded",
    "let through, each a policy.would_deny",
)
async def test_report_mode_lets_pass_and_says_so() -> None:
    with settings(MODE="report", MAX_MESSAGE_SIZE=50, MESSAGE_RATES={"connection": "2/m", "user": None}):
        peer = drive.communicator(Request(path="/echo/", origin="https://evil.test"))
        assert (await peer.shake_hands()).accepted
        for text in ('"' + "a" * 60 + '"', "1", "2"):
            await drive.send(peer, text)
            assert await drive.receive(peer) == json.loads(text)
        await peer.disconnect()
        would = [reason for kind, reason, _ in await rows_of("policy.would_deny")]
        assert sorted(would) == ["message_too_big", "origin_not_allowed", "rate_limited"]


GROUPS = [
    "a" * 300,
    "a:b",
    "a@b",
    "*",
    "löbby",
    "../etc",
    "cs." + "0" * 32,
    "a b",
    "\n",
    "[]",
    "emoji 😀",
    "",
    "x" * 99,
    "x" * 100,
]


@row("group-names", 75, "group names of any text", "members of the same name meet, others do not")
async def test_groups_of_any_name_deliver_to_their_members_only(judge: Judge) -> None:
    with settings():
        for name in GROUPS:
            if not name:
                continue
            with judge.case(f"group-names {name[:12]!r}", "communicator"):
                member, other, teller = (drive.communicator(Request(path="/rooms/")) for _ in range(3))
                for peer in (member, other, teller):
                    assert (await peer.shake_hands()).accepted
                for peer, room in ((member, name), (other, name + "x")):
                    await drive.send(peer, json.dumps({"type": "join", "text": room}))
                    assert await drive.receive(peer) == {"type": "joined"}
                await drive.send(teller, json.dumps({"type": "tell", "text": name}))
                assert await drive.receive(member) == {"type": "told"}
                assert await other.receive_nothing(0.02)
                for peer in (member, other, teller):
                    await peer.disconnect()


@row("no-query-before-origin", 1, "a foreign Origin with a session cookie", "no session, user or block is read")
async def test_a_foreign_origin_costs_no_query(caplog: pytest.LogCaptureFixture) -> None:
    with settings(), override_settings(DEBUG=True):
        cookies = await database.run(lambda: World().session(World().alice))
        caplog.set_level("DEBUG", logger="django.db.backends")
        caplog.clear()
        outcome = await drive.communicator(
            Request(path="/typed/", origin="https://evil.test", cookies=cookies)
        ).shake_hands()
        assert outcome.status == 403
        await audit.flush()
        asked = [r.getMessage() for r in caplog.records if r.name == "django.db.backends"]
        assert not [text for text in asked if "django_session" in text or "auth_user" in text]
        assert INTERNAL_TEXT not in caplog.text
        caplog.clear()
        peer = drive.communicator(Request(path="/typed/", cookies=cookies))
        assert (await peer.shake_hands()).accepted
        asked = [r.getMessage() for r in caplog.records if r.name == "django.db.backends"]
        assert [text for text in asked if "django_session" in text], "the check above could not fail"
        await peer.disconnect()
