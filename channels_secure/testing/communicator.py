"""A communicator that comes as somebody, from somewhere, and tells how a refusal looked."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from django.conf import settings as django_settings

from channels_secure import database
from channels_secure.admission import authenticators
from channels_secure.auth.offers import TICKET_PARAMETER
from channels_secure.auth.subprotocols import BEARER_PREFIX, SUBPROTOCOL
from channels_secure.middleware import Application, SecureMiddlewareStack
from channels_secure.testing.arrivals import allowed_origin, log_in
from channels_secure.testing.frames import WAIT, FrameCommunicator
from channels_secure.testing.outcome import ABNORMAL, Outcome
from channels_secure.testing.servers import Server, dress, served

# RFC 5737: addresses for documentation, so that a test's client is never loopback, which is treated kindly.
CLIENT = "192.0.2.1"
_DEFAULT: Any = object()


def guarded(app: Application) -> Application:
    """Wrap a consumer's ASGI application, or a URLRouter of several, as `asgi.py` does."""
    return SecureMiddlewareStack(app)


class SecureCommunicator(FrameCommunicator):
    """A client with an identity, in the grammar of Channels' `WebsocketCommunicator`.

    Args:
        application: what the server would run; wrap consumers with `guarded`.
        path: of the URL, with a query string if any.
        user: log in with a real session of this (stored) user.
        session: come with this session: its key, or a session of Django's.
        origin: the Origin header; None sends none, and an allowed one is the default.
        client: the address, or the address and port, that connects.
        token: sent as ``Authorization: Bearer``, and by a browser as a subprotocol.
        ticket: sent as ``?ticket=``.
        headers: more headers, as pairs of bytes.
        subprotocols: what the client offers.
        cookies: more cookies.
        scheme: ``"wss"`` unless the test is about unencrypted connections.
        server: show what a client of ``"daphne"`` or ``"uvicorn"`` sees, or a page in a ``"browser"`` (of uvicorn);
            without it events are shown as the application sends them, and what it raises is raised here.
        http_response: without `server`: whether HTTP responses can be sent, as uvicorn can and Daphne cannot.

    Raises:
        ValueError: a browser is to do what no browser can.
    """

    def __init__(
        self,
        application: Application,
        path: str = "/",
        *,
        user: Any = None,
        session: Any = None,
        origin: str | None = _DEFAULT,
        client: str | tuple[str, int] | None = CLIENT,
        token: str | None = None,
        ticket: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        subprotocols: Sequence[str] = (),
        cookies: Mapping[str, str] | None = None,
        scheme: str = "wss",
        server: Server | None = None,
        http_response: bool = True,
    ) -> None:
        by_page = token is not None and server == "browser"
        sent = [*headers, *_headers(origin, None if by_page else token)]
        if by_page:
            subprotocols = [*dict.fromkeys([SUBPROTOCOL, *subprotocols]), f"{BEARER_PREFIX}{token}"]
        if ticket is not None:
            path += f"{'&' if '?' in path else '?'}{TICKET_PARAMETER}={quote(ticket)}"
        if server is not None:
            application = served(application, server, self._hang_up)
        super().__init__(application, path, sent, subprotocols)
        if server == "browser" and (origin is None or headers):
            raise ValueError("a browser always sends an Origin, and no header of a script's own")
        self.user, self.server = user, server
        self.cookies = dict(cookies or {})
        if session is not None:
            self.cookies[django_settings.SESSION_COOKIE_NAME] = getattr(session, "session_key", session)
        self.scope["client"] = [client, 40000] if isinstance(client, str) else client
        self.scope["scheme"] = scheme
        self.scope["asgi"] = {"version": "3.0"}
        if http_response:
            self.scope["extensions"] = {"websocket.http.response": {}}

    async def __aenter__(self) -> Self:
        __tracebackhide__ = True
        (await self.shake_hands()).assert_accepted()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def connect(self, timeout: float = WAIT) -> tuple[bool, Any]:
        """Channels' own `connect`, with the user's session; an HTTP refusal answers its status as the code."""
        outcome = await self.shake_hands(timeout)
        if outcome.accepted:
            return True, outcome.subprotocol
        return False, outcome.status if outcome.code is None else outcome.code

    async def shake_hands(self, timeout: float = WAIT) -> Outcome:
        """Connect, and see the refusal through to its end."""
        if self.user is not None:
            self.cookies[django_settings.SESSION_COOKIE_NAME] = await database.write(log_in, self.user)
        if self.cookies:
            cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            self.scope["headers"].append((b"cookie", cookies.encode("latin-1")))
        if self.server is not None:
            dress(self.scope, self.server)
        # A server's first handshake may pay for these imports; the deadline of a test's first one is not for them.
        with suppress(Exception):
            authenticators()
        await self.send_input({"type": "websocket.connect"})
        event = await self.receive_output(timeout)
        if event["type"] == "websocket.http.response.start":
            return await self._http_refusal(event, timeout)
        if event["type"] == "websocket.close":
            await self.wait(timeout)
            failed = self.server is not None
            return Outcome(accepted=False, status=None if failed else 403, code=ABNORMAL if failed else None)
        self.response_headers = event.get("headers", [])
        return await self._after_accept(event, timeout)

    def _hang_up(self, event: Any) -> None:
        self.input_queue.put_nowait(event)

    async def _http_refusal(self, start: Mapping[str, Any], timeout: float) -> Outcome:
        body = await self.receive_output(timeout)
        await self.wait(timeout)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        return Outcome(accepted=False, status=start["status"], headers=headers, error=_read_error(body["body"]))

    async def _after_accept(self, accept: Mapping[str, Any], timeout: float) -> Outcome:
        """A refusal that a browser is told about opens the socket, explains, and closes it, all at once."""
        subprotocol = accept.get("subprotocol")
        events = self.take_events()
        error = _refusal(events)
        if error is None:
            self.put_back(events)
            return Outcome(accepted=True, subprotocol=subprotocol)
        await self.wait(timeout)
        close = events[1]
        return Outcome(accepted=False, code=close["code"], reason=close["reason"], error=error, subprotocol=subprotocol)


def _headers(origin: str | None, token: str | None) -> Iterator[tuple[bytes, bytes]]:
    own = allowed_origin()
    yield b"host", own.partition("://")[2].encode()
    if origin is not None:
        yield b"origin", (own if origin is _DEFAULT else origin).encode("latin-1")
    if token is not None:
        yield b"authorization", f"Bearer {token}".encode("latin-1")


def _refusal(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The fatal error frame, when that and a close are all; an application may greet and close of its own accord."""
    if [event["type"] for event in events] != ["websocket.send", "websocket.close"] or "text" not in events[0]:
        return None
    frame = _read_error(events[0]["text"])
    return frame if frame.get("type") == "error" and frame.get("fatal") is True else None


def _read_error(text: str | bytes) -> Mapping[str, Any]:
    """What a refusal says as JSON; nothing where a server or an application refuses in words of its own."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
