"""One WebSocket connection: its timestamps, its budgets, and the only way to send on it.

A connection ends once, for one cause. `deny` says goodbye without waiting for the application; `sever` also cancels
the application's task. Both work from outside the message loop, so that neither a peer that does not read nor a
handler that hangs can delay a decision.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import InitVar, dataclass, field
from secrets import token_hex
from typing import Any

import msgspec

from channels_secure.audit import Source
from channels_secure.auth.base import Identity, digest_of
from channels_secure.conf import Settings
from channels_secure.connections import backpressure, entrance, farewell
from channels_secure.connections.budgets import Budgets, Conduct
from channels_secure.connections.outbox import Outbox
from channels_secure.connections.validity import Validity
from channels_secure.exceptions import PeerGone
from channels_secure.limits import Limits
from channels_secure.policy.addresses import bucket
from channels_secure.policy.decisions import REPORTABLE, Denial, Reason
from channels_secure.policy.handshake import Handshake
from channels_secure.stores.base import Store

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
encode = msgspec.json.encode
# Servers' `send` does not suspend while their buffers have room, so a busy sender would starve the loop.
YIELD_MASK = 63


def own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a connection is made inside the task that serves it")
    return task


@dataclass(slots=True, weakref_slot=True, eq=False, repr=False, kw_only=True)
class Connection:
    """The life of one socket, from its handshake's first check to its last frame; in ``scope["channels_secure"]``.

    Times are seconds of the monotonic clock. `id` is random and safe to show.
    """

    handshake: Handshake
    scope: InitVar[Event]
    server_receive: Receive
    server_send: Send
    settings: Settings
    limits: Limits
    id: str = field(default_factory=lambda: token_hex(8))
    task: asyncio.Task[Any] = field(default_factory=own_task)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    budgets: Budgets = field(default_factory=Budgets)
    conduct: Conduct = field(default_factory=Conduct)
    validity: Validity = field(default_factory=Validity)
    # Called before the peer can know that it is let in, after it was told, and before it can know that it is over.
    before_accept: Callable[["Connection"], None] | None = None
    on_accept: Callable[["Connection"], None] | None = None
    before_end: Callable[["Connection"], None] | None = None
    timer: asyncio.TimerHandle | None = None
    report: Callable[["Connection", Denial], None] | None = None  # says what report mode lets pass
    extensions: Mapping[str, Any] = field(init=False)
    codes_limited: bool = field(init=False)
    protocol: Any = None  # whose buffer has to be watched, on the server that does not make us wait for it
    address_key: str | None = field(init=False)
    identity: Identity | None = None
    # The user's primary key as text, None while nobody has been identified; a deleted user has none any more.
    user_key: str | None = None
    # The SHA-256 of the session's key, which itself is a secret; None where no session spoke for the user.
    session_digest: str | None = None
    offered: tuple[str, ...] = ()
    source: tuple[Any, str, Source] | None = None  # of its events; kept by `events`, with what it says of the user
    groups: Collection[str] = ()  # the channel layer's names of those that its consumer has joined
    reported: tuple[Reason, ...] = ()  # what report mode has let pass of this handshake
    # Timestamps for `policy.liveness`.
    opened_at: float = field(default_factory=time.monotonic)
    heard_at: float = 0.0
    pinged_at: float | None = None
    handler_since: float | None = None
    sending_since: float | None = None
    expires_at: float | None = None
    warned: bool = False
    speaks_frames: bool = False
    consumer: Any = None  # while a SecureJsonConsumer serves it, which has a message loop of its own
    read_ahead: Callable[[], None] | None = None  # asked while a handler of such a loop runs on and reads nothing
    # How far it has come: `vetted` says that the guards found nothing against it, `ended` that the application can send
    # no more, `leaving` that it has returned.
    vetted: bool = False
    accepted: bool = False
    ended: bool = False
    beginning_recorded: bool = False
    end_recorded: bool = False
    ending_since: float | None = None
    severed_at: float | None = None
    leaving: bool = False
    denial: Denial | None = None
    close_code: int | None = None
    close_reason: str = ""
    disconnect_code: int | None = None
    goodbye: asyncio.Task[None] | None = None
    grace: float = 0.0
    outbox: Outbox | None = None
    sending: int = 0
    sent: int = 0
    received: int = 0

    def __post_init__(self, scope: Event) -> None:
        self.extensions = scope.get("extensions") or {}
        # Daphne is the one server whose scope has no extensions; it raises on 1001, 1008 and their like.
        self.codes_limited = "asgi" in scope and not self.extensions
        self.protocol = backpressure.protocol_of(self.server_send) if self.codes_limited else None
        address = None if self.handshake.client.undeclared_proxy else self.handshake.address
        self.address_key = None if address is None else bucket(address, self.settings.ipv6_prefix)
        self.heard_at = self.opened_at

    def __repr__(self) -> str:
        return f"<Connection {self.id}>"

    @property
    def user(self) -> Any:
        return None if self.identity is None else self.identity.user

    def identify(self, identity: Identity) -> None:
        """Say who is connecting."""
        self.identity = identity
        self.user_key = None if identity.is_anonymous else str(identity.user.pk)
        self.session_digest = None if identity.session_key is None else digest_of(identity.session_key)

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

    def unless_reported(self, denial: Denial | None) -> Denial | None:
        """A denial, or None where report mode lets it pass; of a handshake it says the same thing once."""
        if denial is None or self.report is None or denial.reason not in REPORTABLE:
            return denial
        if self.accepted or denial.reason not in self.reported:
            self.reported = self.reported if self.accepted else (*self.reported, denial.reason)
            self.report(self, denial)
        return None

    async def send(self, event: Event) -> None:
        """The application's `send`.

        Raises:
            PeerGone: the socket has ended; closing it again is no error.
            RuntimeError: something is sent before the socket was accepted.
        """
        if self.ended:
            # Without a suspension a handler that sends in a loop could never be cancelled.
            await asyncio.sleep(0)
            if event["type"] == "websocket.close":
                return
            raise PeerGone
        kind = event["type"]
        if kind == "websocket.send":
            if not self.accepted:
                raise RuntimeError("accept the connection before sending on it")
            await self.transmit(event)
        elif kind == "websocket.accept":
            await entrance.accept(self, event)
        elif kind == "websocket.close":
            await farewell.close(self, event.get("code"), event.get("reason"))
        else:
            await farewell.respond(self, event)

    async def transmit(self, event: Event) -> None:
        """Hand an event to the server; the supervisor watches how long that takes."""
        self.sending += 1
        try:
            await self.server_send(event)
            if self.protocol is not None:
                await backpressure.wait(self.protocol)
        except (OSError, RuntimeError):
            # uvicorn raises ClientDisconnected (an OSError) or RuntimeError, Daphne autobahn's Disconnected.
            self.ended = True
            raise PeerGone from None
        finally:
            self.sending -= 1
            self.sending_since = None
        self.sent += 1
        if not self.sent & YIELD_MASK:
            await asyncio.sleep(0)

    def post(self, text: str) -> None:
        """Send a text without waiting for it, for broadcasts; a peer that reads too slowly is cut.

        Before the accept it waits, so that joining, reading the history and then accepting misses nothing.
        """
        if self.ended:
            return
        if self.outbox is None:
            self.outbox = Outbox(self)
        if not self.outbox.put(text):
            self.sever(Denial(reason=Reason.SLOW_CONSUMER, detail="broadcasts were not read"))

    async def send_frame(self, frame: dict[str, Any]) -> None:
        """Send one of the package's own frames as JSON."""
        if not self.ended:
            await self.transmit({"type": "websocket.send", "text": encode(frame).decode()})

    def deny(self, denial: Denial, ref: str | int | None = None) -> None:
        """End the connection for a reason; the goodbye is sent by a task of its own."""
        if self.ended:
            return
        self.denial, self.ended = denial, True
        self.grace = farewell.grace(self)
        self.goodbye = self.loop.create_task(farewell.say(self, denial, ref))

    def sever(self, denial: Denial) -> bool:
        """End the connection from outside its task; False when it is ending already, perhaps in its clean-up."""
        if self.ended or self.leaving:
            return False
        self.deny(denial)
        self.stop()
        return True

    def interrupt(self) -> None:
        """See to it that a message loop of ours ends, which may be waiting for a frame.

        Not every server reports the end of a socket that we closed. A handler that runs is left to finish, and other
        consumers to the server's own report.
        """
        if self.consumer is not None and self.handler_since is None:
            self.stop()

    def stop(self) -> None:
        """Cancel the application's task, once."""
        if self.severed_at is None and not self.leaving:
            self.ended = True
            self.severed_at = time.monotonic()
            self.task.cancel()
