"""One WebSocket connection: its timestamps, its budgets, and the only way to send on it.

A connection ends once, for one cause. `deny` says goodbye without waiting for the application; `sever` also cancels
the application's task. Both work from outside the message loop, so that neither a peer that does not read nor a
handler that hangs can delay a decision.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from secrets import token_hex
from typing import Any

import msgspec

from channels_secure import farewell
from channels_secure.auth.base import Identity
from channels_secure.auth.subprotocols import SUBPROTOCOL
from channels_secure.budgets import Budgets, Conduct
from channels_secure.conf import Settings
from channels_secure.exceptions import PeerGone
from channels_secure.limits import Limits
from channels_secure.policy.addresses import bucket
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake
from channels_secure.stores.base import Store

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

logger = logging.getLogger("channels_secure")
encode = msgspec.json.encode

# What a member that does not read may keep waiting before it is cut.
MAX_WAITING_FRAMES = 64
MAX_WAITING_CHARACTERS = 1 << 20
# Servers' `send` does not suspend while their buffers have room, so a busy sender would starve the loop.
YIELD_MASK = 63


class Connection:
    """The life of one socket, from the handshake's first check to the last frame; lives in ``scope["channels_secure"]``.

    Times are seconds of the monotonic clock. `id` is random and safe to show.
    """

    __slots__ = (
        "__weakref__",
        "accepted",
        "address_key",
        "budgets",
        "close_code",
        "close_reason",
        "denial",
        "codes_limited",
        "conduct",
        "disconnect_code",
        "ended",
        "expires_at",
        "extensions",
        "goodbye",
        "handler_since",
        "handshake",
        "heard_at",
        "id",
        "identity",
        "leaving",
        "limits",
        "loop",
        "offered",
        "on_accept",
        "opened_at",
        "pinged_at",
        "poster",
        "received",
        "sending",
        "sending_since",
        "sent",
        "server_receive",
        "server_send",
        "settings",
        "severed_at",
        "speaks_frames",
        "task",
        "waiting",
        "waiting_characters",
        "warned",
    )

    def __init__(
        self, *, handshake: Handshake, scope: Event, receive: Receive, send: Send, settings: Settings, limits: Limits
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is made inside the task that serves it")
        self.task: asyncio.Task[Any] = task
        self.loop = asyncio.get_running_loop()
        self.handshake = handshake
        self.extensions: Any = scope.get("extensions") or {}
        # Daphne is the one server whose scope has no extensions; it raises on 1001, 1008 and their like.
        self.codes_limited = "asgi" in scope and not self.extensions
        self.server_receive, self.server_send = receive, send
        self.settings, self.limits = settings, limits
        self.id = token_hex(8)
        self.identity: Identity | None = None
        address = None if handshake.client.undeclared_proxy else handshake.address
        self.address_key = None if address is None else bucket(address, settings.ipv6_prefix)
        self.offered: tuple[str, ...] = ()
        self.opened_at = self.heard_at = time.monotonic()
        self.pinged_at: float | None = None
        self.handler_since: float | None = None
        self.sending_since: float | None = None
        self.expires_at: float | None = None
        self.warned = self.speaks_frames = False
        self.accepted = self.ended = self.leaving = False
        self.severed_at: float | None = None
        self.budgets = Budgets()
        self.conduct = Conduct()
        self.denial: Denial | None = None
        self.close_code: int | None = None
        self.close_reason = ""
        self.disconnect_code: int | None = None
        self.goodbye: asyncio.Task[None] | None = None
        self.poster: asyncio.Task[None] | None = None
        self.waiting: deque[str] | None = None
        self.waiting_characters = self.sending = self.sent = self.received = 0
        self.on_accept: Callable[[Connection], None] | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id}>"

    @property
    def user(self) -> Any:
        return None if self.identity is None else self.identity.user

    @property
    def user_key(self) -> str | None:
        """The user's primary key as text; None while nobody has been identified."""
        if self.identity is None or self.identity.is_anonymous:
            return None
        return str(self.identity.user.pk)

    @property
    def subject_key(self) -> str | None:
        """Whose budget this connection spends: the user's, or the address's of somebody anonymous."""
        if self.user_key is not None:
            return f"user:{self.user_key}"
        return None if self.address_key is None else f"ip:{self.address_key}"

    def configure(self, limits: Limits, store: Store) -> None:
        """Apply the limits of a consumer class, in place of those for consumers that are not ours."""
        self.limits = limits
        self.budgets.open(store, limits.rates, subject=self.subject_key, address=self.address_key)
        self.conduct.allow(limits.error_budget)

    async def send(self, event: Event) -> None:
        """The application's `send`.

        Raises:
            PeerGone: the socket has ended.
            RuntimeError: something is sent before the socket was accepted.
        """
        if self.ended:
            # Without a suspension a handler that sends in a loop could never be cancelled.
            await asyncio.sleep(0)
            raise PeerGone
        kind = event["type"]
        if kind == "websocket.send":
            if not self.accepted:
                raise RuntimeError("accept the connection before sending on it")
            await self.transmit(event)
        elif kind == "websocket.accept":
            await self._accept(event)
        elif kind == "websocket.close":
            await self._close(event.get("code"), event.get("reason"))
        else:
            await self.server_send(event)

    async def transmit(self, event: Event) -> None:
        """Hand an event to the server; the supervisor closes the socket when that takes too long."""
        self.sending += 1
        if self.sending_since is None:
            self.sending_since = time.monotonic()
        try:
            await self.server_send(event)
        except (OSError, RuntimeError):
            # uvicorn raises ClientDisconnected (an OSError) or RuntimeError, Daphne autobahn's Disconnected.
            self.ended = True
            raise PeerGone from None
        finally:
            self.sending -= 1
            self.sending_since = None if not self.sending else time.monotonic()
        self.sent += 1
        if not self.sent & YIELD_MASK:
            await asyncio.sleep(0)

    def post(self, text: str) -> None:
        """Send a text without waiting for it, for broadcasts; a peer that reads too slowly is cut."""
        if self.ended or not self.accepted:
            return
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(text)
        self.waiting_characters += len(text)
        if self.poster is None or self.poster.done():
            self.poster = self.loop.create_task(self._post_waiting(self.waiting))
        elif len(self.waiting) > MAX_WAITING_FRAMES or self.waiting_characters > MAX_WAITING_CHARACTERS:
            self.waiting.clear()
            self.sever(Denial(reason=Reason.SLOW_CONSUMER, detail="broadcasts were not read"))

    async def _post_waiting(self, waiting: deque[str]) -> None:
        try:
            while waiting and not self.ended:
                text = waiting.popleft()
                self.waiting_characters -= len(text)
                await self.transmit({"type": "websocket.send", "text": text})
        except PeerGone:
            waiting.clear()

    async def send_frame(self, frame: dict[str, Any]) -> None:
        """Send one of the package's own frames as JSON."""
        if not self.ended:
            await self.transmit({"type": "websocket.send", "text": encode(frame).decode()})

    def anonymous_denial(self) -> Denial | None:
        """Why an anonymous identity may not enter, for a consumer that has now said whether it takes any."""
        if self.identity is None or not self.identity.is_anonymous:
            return None
        if not self.limits.allow_anonymous:
            return Denial(reason=Reason.UNAUTHENTICATED)
        if self.handshake.origin_missing and self.settings.allow_missing_origin != "always":
            return Denial(reason=Reason.ORIGIN_MISSING, visible=False)
        return None

    async def _accept(self, event: Event) -> None:
        if self.accepted:
            raise RuntimeError("the connection has been accepted already")
        denial = self.anonymous_denial()
        if denial is not None:
            self.deny(denial)
            raise PeerGone
        event = {**event, "subprotocol": self._choose_subprotocol(event.get("subprotocol"))}
        await self.transmit(event)
        self.accepted = True
        self.sent = 0
        self.heard_at = time.monotonic()
        if self.on_accept is not None:
            self.on_accept(self)

    def _choose_subprotocol(self, chosen: str | None) -> str | None:
        """The application's choice wins; one that was not offered would break the handshake (RFC 6455 section 4.1)."""
        if chosen is not None and chosen in self.offered:
            return chosen
        if chosen is not None:
            logger.warning("subprotocol.not_offered", extra={"connection_id": self.id})
        return SUBPROTOCOL if SUBPROTOCOL in self.handshake.subprotocols else None

    async def _close(self, code: Any, reason: Any) -> None:
        if not self.accepted:
            self.deny(Denial(reason=Reason.PERMISSION_DENIED, detail="closed before accept"))
            return
        self.close_code = farewell.sendable(code)
        self.close_reason = farewell.shorten(reason)
        try:
            await self.transmit({"type": "websocket.close", "code": self.close_code, "reason": self.close_reason})
        finally:
            self.ended = True
        if asyncio.current_task() is not self.task:
            # The message loop waits for a frame; not every server reports the end of a socket that we closed.
            self.stop()

    def deny(self, denial: Denial, ref: str | int | None = None) -> None:
        """End the connection for a reason; the goodbye is sent by a task of its own."""
        if self.ended:
            return
        self.denial, self.ended = denial, True
        self.goodbye = self.loop.create_task(farewell.say(self, denial, ref))

    def sever(self, denial: Denial) -> bool:
        """End the connection from outside its task; False when it is leaving already."""
        if self.severed_at is not None or self.leaving:
            return False
        self.deny(denial)
        self.stop()
        return True

    def stop(self) -> None:
        """Cancel the application's task, once."""
        if self.severed_at is None and not self.leaving:
            self.ended = True
            self.severed_at = time.monotonic()
            self.task.cancel()

    async def absorb_cancel(self) -> None:
        """Take back the cancellation that `sever` asked for, whether it has arrived yet or not.

        The task belongs to the server: uvicorn logs a traceback when our cancellation leaves it, and a second one, the
        server's own, has to stay in force.
        """
        if self.severed_at is None or not self.task.cancelling():
            return
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        if self.task.uncancel():
            raise asyncio.CancelledError

    async def finish(self) -> None:
        """Wait for the goodbye, though not for a peer that does not read it, and let go of the socket."""
        self.leaving = self.ended = True
        try:
            if self.goodbye is not None:
                await asyncio.wait({self.goodbye}, timeout=farewell.grace(self))
        finally:
            for task in (self.goodbye, self.poster):
                if task is not None:
                    task.cancel()
