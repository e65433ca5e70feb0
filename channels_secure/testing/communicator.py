"""A communicator that comes as somebody, from somewhere, and tells how a refusal looked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from channels_secure import database
from channels_secure.conf import get_settings
from channels_secure.middleware import Application, SecureMiddlewareStack
from channels_secure.policy.origins import parse_origin

# RFC 5737: addresses for documentation, so that a test's client is never loopback, which is treated kindly.
CLIENT = "192.0.2.1"
# Channels waits one second, which a busy machine needs for a database.
WAIT = 5.0
_DEFAULT: Any = object()


def guarded(app: Application) -> Application:
    """Wrap a consumer's ASGI application, or a URLRouter of several, as `asgi.py` does."""
    return SecureMiddlewareStack(app)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a handshake ended, as the client sees it.

    Args:
        accepted: the socket opened, and stayed open.
        status: of the HTTP response, when it was refused before accept.
        headers: of that response, by lower-case name.
        code: the close code, when it was opened only to be told why it closes.
        reason: the close reason that goes with it.
        error: the error frame, or the JSON body of the response.
        subprotocol: the one that the server chose.
    """

    accepted: bool
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    code: int | None = None
    reason: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)
    subprotocol: str | None = None


class SecureCommunicator(WebsocketCommunicator):
    """A `WebsocketCommunicator` with an identity.

    Args:
        application: what the server would run; wrap consumers with `guarded`.
        path: of the URL, with a query string if any.
        user: log in with a real session of this (stored) user.
        origin: the Origin header; None sends none, and an allowed one is the default.
        client: the address, or the address and port, that connects.
        token: sent as ``Authorization: Bearer``.
        headers: more headers, as pairs of bytes.
        subprotocols: what the client offers.
        cookies: more cookies.
        scheme: ``"wss"`` unless the test is about unencrypted connections.
        http_response: whether the server can send HTTP responses, as uvicorn can and Daphne cannot.
    """

    def __init__(
        self,
        application: Application,
        path: str = "/",
        *,
        user: Any = None,
        origin: str | None = _DEFAULT,
        client: str | tuple[str, int] | None = CLIENT,
        token: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        subprotocols: Sequence[str] = (),
        cookies: Mapping[str, str] | None = None,
        scheme: str = "wss",
        http_response: bool = True,
    ) -> None:
        own = _allowed_origin()
        sent = [(b"host", own.partition("://")[2].encode()), *headers]
        if origin is _DEFAULT:
            origin = own
        if origin is not None:
            sent.append((b"origin", origin.encode("latin-1")))
        if token is not None:
            sent.append((b"authorization", f"Bearer {token}".encode("latin-1")))
        super().__init__(application, path, sent, list(subprotocols))
        self.user = user
        self.cookies = dict(cookies or {})
        self.scope["client"] = [client, 40000] if isinstance(client, str) else client
        self.scope["scheme"] = scheme
        self.scope["asgi"] = {"version": "3.0"}
        if http_response:
            self.scope["extensions"] = {"websocket.http.response": {}}

    async def __aenter__(self) -> Self:
        outcome = await self.shake_hands()
        if not outcome.accepted:
            raise AssertionError(f"the connection was refused: {outcome}")
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
            self.cookies[django_settings.SESSION_COOKIE_NAME] = await database.run(_log_in, self.user)
        if self.cookies:
            cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            self.scope["headers"].append((b"cookie", cookies.encode("latin-1")))
        await self.send_input({"type": "websocket.connect"})
        event = await self.receive_output(timeout)
        if event["type"] == "websocket.http.response.start":
            return await self._http_refusal(event, timeout)
        if event["type"] == "websocket.close":
            await self.wait(timeout)
            return Outcome(accepted=False, status=403)
        self.response_headers = event.get("headers", [])
        return await self._after_accept(event, timeout)

    async def receive_output(self, timeout: float = WAIT) -> Any:
        return await super().receive_output(timeout)

    async def receive_from(self, timeout: float = WAIT) -> Any:
        return await super().receive_from(timeout)

    async def receive_json_from(self, timeout: float = WAIT) -> Any:
        return await super().receive_json_from(timeout)

    async def disconnect(self, code: int = 1000, timeout: float = WAIT) -> None:
        await super().disconnect(code, timeout)

    async def send_text(self, text: str) -> None:
        """Send a text frame, also an empty one."""
        await self.send_input({"type": "websocket.receive", "text": text})

    async def closing(self, timeout: float = WAIT) -> tuple[int | None, str]:
        """Wait for the close frame, past the frames before it; returns its code and reason."""
        while True:
            event = await self.receive_output(timeout)
            if event["type"] == "websocket.close":
                await self.wait(timeout)
                return event.get("code"), event.get("reason", "")

    async def _http_refusal(self, start: Mapping[str, Any], timeout: float) -> Outcome:
        body = await self.receive_output(timeout)
        await self.wait(timeout)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        return Outcome(accepted=False, status=start["status"], headers=headers, error=json.loads(body["body"]))

    async def _after_accept(self, accept: Mapping[str, Any], timeout: float) -> Outcome:
        """A refusal that a browser is told about opens the socket, explains, and closes it, all at once."""
        subprotocol = accept.get("subprotocol")
        events = self._take_waiting()
        error = _refusal(events)
        if error is None:
            for event in events:
                self.output_queue.put_nowait(event)
            return Outcome(accepted=True, subprotocol=subprotocol)
        await self.wait(timeout)
        close = events[1]
        return Outcome(accepted=False, code=close["code"], reason=close["reason"], error=error, subprotocol=subprotocol)

    def _take_waiting(self) -> list[Any]:
        """The events that the application has sent without a pause in between."""
        events = []
        while not self.output_queue.empty():
            events.append(self.output_queue.get_nowait())
        return events


def _refusal(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The fatal error frame, when that and a close are all; an application may greet and close of its own accord."""
    if [event["type"] for event in events] != ["websocket.send", "websocket.close"] or "text" not in events[0]:
        return None
    try:
        frame = json.loads(events[0]["text"])
    except ValueError:
        return None
    return frame if isinstance(frame, dict) and frame.get("type") == "error" and frame.get("fatal") is True else None


def _allowed_origin() -> str:
    """An origin that the settings in force allow: one that they name, the test client's, or with DEBUG this machine."""
    settings = get_settings()
    named = [pattern.replace("*", "www") for pattern in settings.allowed_origins or ()]
    for text in (*named, "https://testserver", "https://localhost"):
        origin = parse_origin(text)
        if origin is not None and settings.origins.allows(origin, host=origin.host, secure=True):
            return text
    return "https://testserver"


def _log_in(user: Any) -> str:
    """Make the session that Django's `login()` would make."""
    session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = django_settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    key: str = session.session_key
    return key
