"""Drives rows through the ASGI communicator and says what is wrong with the outcome, by AssertionError."""

import asyncio
import itertools
import json
from collections.abc import Iterable, Set
from typing import Any

from channels.testing import WebsocketCommunicator

from channels_secure import audit, database
from channels_secure.connections.live import registry
from channels_secure.middleware import HandshakeMiddleware, SecureMiddlewareStack
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import RULES, Reason
from channels_secure.testing import Outcome, SecureCommunicator
from tests.conformance.conftest import audit_rows
from tests.conformance.table import (
    ANY_REF,
    CANARY,
    CREDENTIAL_REASONS,
    Answer,
    Handshake,
    Message,
    Refresh,
    Request,
    Verdict,
)
from tests.live.app import INTERNAL_TEXT, routes

# RFC 5737; budgets and blocks of one case's address must not touch the next.
HOSTS = itertools.cycle(range(1, 255))
# Seconds that an answer may take; negative controls wait for answers that never come.
PATIENCE = 5.0
ERROR_KEYS = {"type", "code", "message", "fatal", "retry_after", "errors", "ref", "reconnect"}


def app(guards: Iterable[Any] | None = None) -> Any:
    return SecureMiddlewareStack(routes) if guards is None else HandshakeMiddleware(routes, guards=guards)


def communicator(
    request: Request, *, http_response: bool = True, application: Any = None, **more: Any
) -> SecureCommunicator:
    headers = request.raw_headers()
    if request.origin is not None:
        origin = request.origin if isinstance(request.origin, bytes) else request.origin.encode("latin-1")
        headers.append((b"origin", origin))
    more.setdefault("client", f"192.0.2.{next(HOSTS)}")
    return SecureCommunicator(
        application or app(),
        request.path,
        origin=None,
        headers=headers,
        subprotocols=request.subprotocols,
        http_response=http_response,
        scheme=request.scheme,
        **more,
    )


def check_error_frame(frame: Any, reason: Reason, *, fatal: bool) -> None:
    assert isinstance(frame, dict), frame
    assert frame.get("type") == "error", frame
    assert frame["code"] == reason.value
    assert frame["fatal"] is fatal
    assert isinstance(frame["message"], str)
    assert frame["message"]
    assert set(frame) <= ERROR_KEYS
    assert ("reconnect" in frame) is fatal
    assert len(frame.get("errors", ())) <= 5
    assert CANARY not in json.dumps(frame)
    assert INTERNAL_TEXT not in json.dumps(frame)


def check_outcome(outcome: Outcome, verdict: Verdict, *, http_response: bool) -> None:
    """Whether a handshake ended as it must."""
    assert outcome.accepted is (verdict.reason is None), outcome
    if verdict.reason is None:
        assert outcome.subprotocol == verdict.subprotocol
        return
    rule = RULES[verdict.reason]
    if verdict.told == "socket":
        assert (outcome.status, outcome.code, outcome.reason) == (None, rule.close, verdict.reason.value), outcome
        assert outcome.subprotocol == verdict.subprotocol
        check_error_frame(outcome.error, verdict.reason, fatal=True)
    elif not http_response:
        assert (outcome.status, outcome.code) == (403, None), outcome
    else:
        assert (outcome.status, outcome.code) == (rule.status, None), outcome
        check_error_frame(outcome.error, verdict.reason, fatal=True)
        assert outcome.headers["content-type"] == "application/json"
        assert ("retry-after" in outcome.headers) is (rule.status in (429, 503))


def check_rows(rows: list[dict[str, Any]], case: Handshake) -> None:
    """Whether the audit trail says the same, once."""
    verdict = case.required
    expected = [(verdict.kind, verdict.reason or "", 1)]
    found = [(row["kind"], row["reason"], row["count"]) for row in rows if row["kind"] != "connection.closed"]
    assert found == expected, brief(rows)
    if verdict.reason is None:
        assert [row["kind"] for row in rows] == ["connection.accepted", "connection.closed"], brief(rows)
    if case.address is None:
        assert rows[0]["ip"].startswith("192.0.2."), brief(rows)
    else:
        assert rows[0]["ip"] == case.address, brief(rows)


async def forget() -> None:
    """Leave nothing behind for the next case, whatever became of this one."""
    audit.reset()
    # In the thread that writes, after whatever it is about to write.
    await database.write(AuditEvent.objects.all().delete)


async def settle() -> None:
    """As `forget`, once the connections that a failed case left open have ended."""
    while registry():
        for connection in registry():
            connection.stop()
        await asyncio.sleep(0)
    await forget()


async def take_rows(secrets: Set[str] = frozenset()) -> list[dict[str, Any]]:
    """The audit rows so far, written and then forgotten, so that the next case begins with an empty trail.

    Neither the canary nor one of the `secrets` may stand in any of them.
    """
    await audit.flush()
    rows = await database.run(audit_rows)
    await database.run(AuditEvent.objects.all().delete)
    audit.reset()
    for row in rows:
        assert not [secret for secret in {*secrets, CANARY} if secret in str(row)], row
    return rows


async def shake(
    case: Handshake,
    request: Request,
    *,
    http_response: bool,
    application: Any = None,
    secrets: Set[str] = frozenset(),
) -> None:
    """Drive one handshake row, close what it opened, and check everything."""
    if request.after is not None:
        earlier, verdict = request.after
        check_outcome(await _meet(earlier, http_response, application), verdict, http_response=http_response)
        await take_rows(secrets)
    outcome = await _meet(request, http_response, application)
    check_outcome(outcome, case.required, http_response=http_response)
    check_rows(await take_rows(secrets), case)


async def _meet(request: Request, http_response: bool, application: Any) -> Outcome:
    peer = communicator(request, http_response=http_response, application=application)
    outcome = await peer.shake_hands()
    if outcome.accepted:
        await peer.disconnect()
    return outcome


async def send(peer: WebsocketCommunicator, frame: str | bytes) -> None:
    key = "text" if isinstance(frame, str) else "bytes"
    await peer.send_input({"type": "websocket.receive", key: frame})


async def receive(peer: WebsocketCommunicator) -> Any:
    event = await peer.receive_output(PATIENCE)
    assert event["type"] == "websocket.send", event
    assert event.get("text") is not None, event
    try:
        return json.loads(event["text"])
    except ValueError:
        raise AssertionError(f"no JSON: {event['text'][:80]!r}") from None


def check_answer(frame: Any, required: Answer) -> None:
    if required.error is None:
        assert frame == required.value
        return
    check_error_frame(frame, required.error, fatal=False)
    if required.ref != ANY_REF:
        assert frame.get("ref") == required.ref
        assert ("ref" in frame) is (required.ref is not None)
    if required.path is not None:
        assert frame["errors"][0]["path"] == required.path, frame


PROBE = {
    "/echo/": ('{"probe":1}', {"probe": 1}),
    "/open/": ('{"type":"nothing"}', {"type": "answer", "to": "nothing", "message": {}}),
}


async def speak(case: Message, *, application: Any = None) -> None:
    """Drive one message row; afterwards the socket must have closed for the reason, or serve the next message."""
    peer = communicator(Request(path=case.path), application=application)
    assert (await peer.shake_hands()).accepted
    required = case.required
    await send(peer, case.frame)
    frame = await receive(peer)
    if required.close is not None:
        check_error_frame(frame, required.close, fatal=True)
        assert await peer.closing() == (RULES[required.close].close, required.close.value)
    else:
        check_answer(frame, required)
        text, value = PROBE[case.path]
        await send(peer, text)
        assert await receive(peer) == value
        await peer.disconnect()
    rows = await take_rows()
    refused = [(row["reason"], row["count"]) for row in rows if row["kind"] == "message.denied"]
    reason = required.close or required.error
    assert refused == ([] if reason is None else [(reason.value, 1)]), brief(rows)
    kinds = [row["kind"] for row in rows if row["kind"] != "message.denied"]
    assert kinds == ["connection.accepted", "connection.closed"], brief(rows)


def check_refreshed(frame: Any, case: Refresh) -> None:
    assert frame["type"] == "token_refreshed", frame
    assert frame.pop("expires_in") in range(max(0, case.lasts - 5), case.lasts + 1), frame
    assert frame == {"type": "token_refreshed", "ref": "r"}


async def refresh(case: Refresh, request: Request, text: str, *, secrets: Set[str] = frozenset()) -> None:
    """Drive one refresh row; a frame that is refused changes nothing, and the socket serves the next message."""
    peer = communicator(request)
    assert (await peer.shake_hands()).accepted
    (connection,) = registry()
    for _ in range(case.earlier):
        await send(peer, text)
        await receive(peer)
    before = connection.identity, connection.expires_at
    await send(peer, text)
    frame = await receive(peer)
    required = case.required
    if required.close is not None:
        check_error_frame(frame, required.close, fatal=True)
        assert await peer.closing() == (RULES[required.close].close, required.close.value)
    else:
        if required.error is None:
            check_refreshed(frame, case)
        else:
            check_answer(frame, required)
            assert (connection.identity, connection.expires_at) == before
        await send(peer, PROBE["/open/"][0])
        assert await receive(peer) == PROBE["/open/"][1]
        await peer.disconnect()
    check_refresh_rows(await take_rows(secrets), case)


def check_refresh_rows(rows: list[dict[str, Any]], case: Refresh) -> None:
    kinds = [row["kind"] for row in rows]
    assert (kinds[0], kinds[-1]) == ("connection.accepted", "connection.closed"), brief(rows)
    reason = case.required.close or case.required.error
    kind = "credentials.failed" if reason in CREDENTIAL_REASONS else "message.denied"
    refused = [row["reason"] for row in rows if row["kind"] == kind]
    assert refused == ([] if reason is None else [reason.value]), brief(rows)
    if case.earlier == 0:
        assert kinds[1:-1] == ["credentials.refreshed" if reason is None else kind], brief(rows)


async def run_out(peer: WebsocketCommunicator) -> None:
    """Wait until the application has ended by itself."""
    await asyncio.wait_for(asyncio.shield(peer.future), 5)


def brief(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["kind"], row["reason"], row["count"], row["ip"], row["detail"]) for row in rows]
