"""How a connection is told that it ends: an HTTP response before accept, an error frame and a close code after."""

import asyncio
import logging
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from channels_secure.auth.subprotocols import SUBPROTOCOL
from channels_secure.policy.decisions import Denial, Reason

if TYPE_CHECKING:
    from channels_secure.connections.connection import Connection, Event

logger = logging.getLogger("channels_secure")

# RFC 6455 section 5.5: a control frame carries 125 bytes, two of which are the code.
MAX_REASON_BYTES = 123
# How long the goodbye may take, in seconds: behind a send that is pending it will hardly be seen, and behind one that
# has been for long it will not.
GRACE = 0.25
GRACE_BEHIND_SEND = 0.02
GRACE_AFTER_STALL = 0.005
STALL = 0.05

# What an application means by codes that Daphne cannot send (RFC 6455 section 7.4.1).
_MEANINGS = {
    1001: Reason.SERVER_RESTART,
    1003: Reason.UNSUPPORTED_DATA,
    1007: Reason.INVALID_MESSAGE,
    1008: Reason.PERMISSION_DENIED,
    1009: Reason.MESSAGE_TOO_BIG,
    1011: Reason.INTERNAL_ERROR,
    1012: Reason.SERVER_RESTART,
    1013: Reason.UNAVAILABLE,
}


def sendable(code: Any) -> int:
    """An application's close code, or the nearest that every server sends."""
    if code is None or code is True:
        return 1000
    if isinstance(code, int) and (code == 1000 or 3000 <= code <= 4999):
        return code
    reason = _MEANINGS.get(code, Reason.INTERNAL_ERROR) if isinstance(code, int) else Reason.INTERNAL_ERROR
    logger.warning("close_code.replaced", extra={"code": repr(code)[:32], "sent": Denial(reason=reason).rule.close})
    return Denial(reason=reason).rule.close


def shorten(reason: Any) -> str:
    """A close reason cut at 123 bytes of UTF-8, between characters; servers break the connection over longer ones."""
    text = reason if isinstance(reason, str) else ""
    return text.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def close_code(connection: "Connection", reason: Reason) -> int:
    """The close code for a reason; a project's own applies where the server can send it."""
    default = Denial(reason=reason).rule.close
    code = connection.settings.close_codes.get(reason, default)
    return code if code >= 3000 or code == 1000 or not connection.codes_limited else default


def grace(connection: "Connection") -> float:
    """Seconds to wait for a goodbye that is said now; asked before the application's own sends are cancelled."""
    if not connection.sending:
        return GRACE
    since = connection.sending_since
    stalled = since is not None and time.monotonic() - since > STALL
    return GRACE_AFTER_STALL if stalled else GRACE_BEHIND_SEND


async def close(connection: "Connection", code: Any, reason: Any) -> None:
    """Close as the application asked, with a code and a reason that every server can send."""
    if not connection.accepted:
        connection.deny(Denial(reason=Reason.PERMISSION_DENIED, detail="closed before accept"))
        return
    connection.close_code = sendable(code)
    connection.close_reason = shorten(reason)
    _record(connection)
    try:
        await connection.transmit(
            {"type": "websocket.close", "code": connection.close_code, "reason": connection.close_reason}
        )
    finally:
        connection.ended = True
    if asyncio.current_task() is not connection.task:
        connection.interrupt()


async def respond(connection: "Connection", event: "Event") -> None:
    """Refuse with an HTTP response of the application's own, where the server can send one (Daphne cannot)."""
    if connection.accepted or not event["type"].startswith("websocket.http.response."):
        raise RuntimeError(f"{event['type']!r} cannot be sent on this connection")
    denial = Denial(reason=Reason.PERMISSION_DENIED, detail="an HTTP response of the application")
    if "websocket.http.response" not in connection.extensions:
        connection.deny(denial)
        return
    connection.denial = denial
    _record(connection)
    await connection.transmit(event)
    if event["type"] == "websocket.http.response.body" and not event.get("more_body"):
        connection.ended = True


async def say(connection: "Connection", denial: Denial, ref: str | int | None = None) -> None:
    """Send the goodbye; whatever the server raises because the peer has gone is of no interest to anybody."""
    code = None
    if connection.accepted or _tells_browser(connection, denial):
        code = connection.close_code = close_code(connection, denial.reason)
    _record(connection)
    try:
        if code is None:
            await _refuse(connection, denial)
            return
        if not connection.accepted:
            await connection.server_send({"type": "websocket.accept", "subprotocol": _any_subprotocol(connection)})
        frame = msgspec.json.encode(denial.frame(ref=ref, fatal=True)).decode()
        await connection.server_send({"type": "websocket.send", "text": frame})
        await connection.server_send({"type": "websocket.close", "code": code, "reason": denial.reason.value})
    except Exception as error:  # noqa: BLE001 - servers raise what they like once the peer has gone
        logger.debug("goodbye.failed", extra={"connection_id": connection.id, "error": type(error).__name__})


def _record(connection: "Connection") -> None:
    """Have the end recorded before the peer can know of it: then no crash comes in between."""
    if connection.before_end is not None:
        connection.before_end(connection)


def _tells_browser(connection: "Connection", denial: Denial) -> bool:
    """A script sees nothing of an HTTP refusal but code 1006, so a page of ours is told by a socket that closes."""
    return denial.visible and connection.settings.rejection == "auto" and connection.handshake.origin is not None


def _any_subprotocol(connection: "Connection") -> str | None:
    # Chromium fails a handshake in which it offered subprotocols and none was chosen, and the page learns nothing.
    if SUBPROTOCOL in connection.offered:
        return SUBPROTOCOL
    return next(iter(connection.offered), None)


async def _refuse(connection: "Connection", denial: Denial) -> None:
    if "websocket.http.response" not in connection.extensions:
        await connection.server_send({"type": "websocket.close"})
        return
    status = denial.rule.status or 403
    body = msgspec.json.encode(denial.frame(fatal=True))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 401:
        # RFC 9110 section 11.6.1: a 401 names a scheme.
        headers.append((b"www-authenticate", b"Bearer"))
    if denial.wait is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(denial.wait))).encode()))
    await connection.server_send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await connection.server_send({"type": "websocket.http.response.body", "body": body})


async def absorb_cancel(connection: "Connection") -> None:
    """Take back the cancellation that `sever` asked for, whether it has arrived yet or not.

    The task belongs to the server: uvicorn logs a traceback when our cancellation leaves it, and a second one, the
    server's own, has to stay in force.
    """
    task = connection.task
    if connection.severed_at is None or not task.cancelling():
        return
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    if task.uncancel():
        raise asyncio.CancelledError


async def finish(connection: "Connection") -> None:
    """Wait for the goodbye, though not for a peer that does not read it, and let go of the socket."""
    connection.leaving = connection.ended = True
    goodbye = connection.goodbye
    try:
        if goodbye is not None and not goodbye.done():
            # Never `wait_for`, which waits for a send that ignores its cancellation.
            await asyncio.wait({goodbye}, timeout=connection.grace)
    finally:
        if goodbye is not None:
            goodbye.cancel()
        if connection.outbox is not None:
            connection.outbox.close()
