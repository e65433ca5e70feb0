"""What servers and browsers make of what an application sends, as measured on Daphne 4.2 and uvicorn 0.54.

`WebsocketCommunicator` hands over an application's events as they are. On the wire some look different, and some cannot
be sent: a refusal before accept has no close code, Daphne sends no reason, and a page learns of an HTTP refusal nothing
but 1006.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from channels_secure.testing.outcome import ABNORMAL

logger = logging.getLogger("channels_secure")

Server = Literal["daphne", "uvicorn", "browser"]
Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
# RFC 6455 section 5.5: a control frame carries 125 bytes, two of which are the code.
MAX_REASON_BYTES = 123


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What distinguishes one server from another.

    Args:
        codes: which close codes it sends; it raises on the others.
        http_response: it offers the extension `websocket.http.response`; without it such events are overlooked.
        reasons: it sends close reasons, and ends the connection over one that is too long.
        accept_headers: it sends the headers of an accept.
        any_subprotocol: it accepts with a subprotocol that was not offered.
        second_close: it lets an application close twice.
        crashed: the close code that a client sees when the application raises.
        minds_return: an application that returns without a close is an error, and the connection ends.
        is_page: the client is JavaScript in a browser.
    """

    codes: tuple[range, ...]
    http_response: bool
    reasons: bool
    accept_headers: bool
    any_subprotocol: bool
    second_close: bool
    crashed: int
    minds_return: bool
    is_page: bool = False


DAPHNE = Habits(
    codes=(range(1000, 1001), range(3000, 5000)),
    http_response=False,
    reasons=False,
    accept_headers=False,
    any_subprotocol=False,
    second_close=True,
    crashed=1011,
    minds_return=False,
)
UVICORN = Habits(
    codes=(range(1000, 1004), range(1007, 1015), range(3000, 5000)),
    http_response=True,
    reasons=True,
    accept_headers=True,
    any_subprotocol=True,
    second_close=False,
    crashed=ABNORMAL,
    minds_return=True,
)
HABITS: dict[Server, Habits] = {"daphne": DAPHNE, "uvicorn": UVICORN, "browser": replace(UVICORN, is_page=True)}


@dataclass(slots=True, kw_only=True)
class Line:
    """One connection between an application and a client.

    Args:
        offered: the client's subprotocols.
        deliver: shows the client an event.
        hang_up: tells the application that the connection has ended.
    """

    habits: Habits
    offered: tuple[str, ...]
    deliver: Send
    hang_up: Callable[[Event], None]
    state: Literal["connecting", "responding", "open", "closed"] = "connecting"
    held: list[Event] = field(default_factory=list)

    async def send(self, event: Event) -> None:
        """The server's `send`.

        Raises:
            RuntimeError: the connection has ended.
            ValueError: the server cannot send such a close.
        """
        kind = event["type"]
        if kind.startswith("websocket.http.response."):
            await self._respond(event)
        elif self.state == "closed":
            if kind != "websocket.close" or not self.habits.second_close:
                raise RuntimeError(f"{kind} after the connection has ended")
        elif kind == "websocket.accept":
            await self._accept(event)
        elif kind == "websocket.close":
            await self._close(event)
        else:
            await self.deliver(event)

    async def crash(self) -> None:
        """The application has raised: an error 500 before accept, afterwards the code that the server has for it."""
        if self.state == "connecting":
            await self._refuse(500)
        elif self.state == "open":
            await self._end(self.habits.crashed)

    async def finish(self) -> None:
        """The application has returned without a word; Daphne leaves an open socket open, and ends others in time."""
        if self.habits.minds_return:
            await self.crash()
        elif self.state == "connecting":
            await self._end(ABNORMAL)

    async def _accept(self, event: Event) -> None:
        chosen = event.get("subprotocol")
        fits = self.habits.any_subprotocol or chosen is None or chosen in self.offered
        if self.habits.is_page:
            # RFC 6455 section 4.1: the browser fails the connection. Chromium also does when it offered some in vain.
            fits = chosen in (self.offered or (None,))
        if not fits:
            await self._end(ABNORMAL)
        else:
            self.state = "open"
            headers = event.get("headers", []) if self.habits.accept_headers else []
            await self.deliver({**event, "headers": headers})

    async def _close(self, event: Event) -> None:
        if self.state == "connecting":
            await self._refuse(403)
            return
        code, reason = event.get("code") or 1000, event.get("reason") or ""
        is_long = self.habits.reasons and len(reason.encode()) > MAX_REASON_BYTES
        if is_long or not any(code in codes for codes in self.habits.codes):
            raise ValueError(f"close code {code!r} with a reason of {len(reason)} characters cannot be sent")
        await self._end(code, reason if self.habits.reasons else "")

    async def _respond(self, event: Event) -> None:
        self.state = "responding"
        self.held.append(event)
        if not event["type"].endswith(".body") or event.get("more_body"):
            return
        if self.habits.is_page or not self.habits.http_response:
            # Daphne overlooks all of it, and cuts the connection when its patience ends.
            await self._end(ABNORMAL)
            return
        for each in self.held:
            await self.deliver(each)
        self._over(ABNORMAL)

    async def _refuse(self, status: int) -> None:
        if self.habits.is_page:
            await self._end(ABNORMAL)
            return
        await self.deliver({"type": "websocket.http.response.start", "status": status, "headers": []})
        await self.deliver({"type": "websocket.http.response.body", "body": b""})
        self._over(ABNORMAL)

    async def _end(self, code: int, reason: str = "") -> None:
        await self.deliver({"type": "websocket.close", "code": code, "reason": reason})
        self._over(code)

    def _over(self, code: int) -> None:
        self.state = "closed"
        self.hang_up({"type": "websocket.disconnect", "code": code})


def served(application: Any, server: Server, hang_up: Callable[[Event], None]) -> Any:
    """An application as a server runs it; what it raises is logged, and the client sees what it would see."""

    async def run(scope: Event, receive: Any, send: Send) -> None:
        line = Line(habits=HABITS[server], offered=tuple(scope["subprotocols"]), deliver=send, hang_up=hang_up)
        try:
            await application(scope, receive, line.send)
        except Exception:
            logger.exception("testing.application_failed")
            await line.crash()
        else:
            await line.finish()

    return run


def dress(scope: Event, server: Server) -> None:
    """Make a scope look like the server's own."""
    host, port = scope["client"] or (None, None)
    if server != "daphne":
        scope["client"] = None if host is None else (host, port)
        scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        scope["extensions"] = {"websocket.http.response": {}}
        return
    # Twisted drops names with underscores and joins equal ones; and nothing tells whether TLS was spoken.
    scope["asgi"] = {"version": "3.0"}
    for name in ("scheme", "extensions"):
        scope.pop(name, None)
    joined: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if b"_" not in name:
            joined[name] = joined[name] + b"," + value if name in joined else value
    scope["headers"] = list(joined.items())
