"""The consumer: Channels' grammar, with a message loop of its own that guards every frame."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from channels.exceptions import AcceptConnection, DenyConnection, StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from channels_secure.codecs import Codec, JsonCodec
from channels_secure.conf import get_settings
from channels_secure.connections import entrance, faults, violations
from channels_secure.connections.connection import Connection, Event, Receive, Send, own_task
from channels_secure.connections.validity import has_expired
from channels_secure.consumers import coding, dispatch, reauthorizing
from channels_secure.consumers.ahead import Ahead
from channels_secure.consumers.handlers import BadDeclaration, Plan, plan_of
from channels_secure.consumers.inbox import Inbox
from channels_secure.consumers.membership import Membership
from channels_secure.exceptions import Denied, PeerGone
from channels_secure.groups import BROADCAST, encode
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.messages import Refused
from channels_secure.policy.schemas import Ref
from channels_secure.stores import get_store

logger = logging.getLogger("channels_secure")


class SecureJsonConsumer(Membership, AsyncJsonWebsocketConsumer):
    """A JSON consumer that runs behind `SecureMiddlewareStack` and refuses every connection without it.

    Declare message types with `@handles`; a class without any gets each well-formed JSON value in `receive_json`, as
    with `AsyncJsonWebsocketConsumer`. Lower-case attributes override the settings marked so in the documentation,
    for example ``max_message_size = 4096`` or ``message_rates = {"connection": "5/s"}``.
    """

    # Whether a class without handlers leaves `ping` frames to the package instead of getting them in `receive_json`.
    control_frames = False
    # Whether an `authorize()` of the class's own is asked again whenever the user's rights are looked up.
    reauthorize = True
    # How frames stand on the wire.
    codec: Codec = JsonCodec()
    # The types of what it sends, each with a tag or a member `type`: for the description, nothing is checked.
    sends: tuple[Any, ...] = ()

    connection: Connection
    kwargs: dict[str, Any]
    inbox: Inbox
    _plan: Plan

    async def authorize(self) -> bool:
        """Whether this user may use this consumer; asked before `connect()`. False is `permission_denied`."""
        return True

    async def send_json(self, content: Any, close: bool | int = False) -> None:
        """Encode the content as JSON and send it."""
        text = encode(content).decode() if self._plan.encodes else await self.encode_json(content)
        connection = self.connection
        event = {"type": "websocket.send", "text": text}
        # `send` asks the same first; a coroutine less for each message.
        await (connection.send(event) if connection.ended or not connection.accepted else connection.transmit(event))
        if close:
            await self.close(close)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        connection = scope.get("channels_secure")
        if not isinstance(connection, Connection):
            await entrance.refuse_unguarded(receive, send)
            return
        denial = self._misuse(scope, connection)
        if denial is not None:
            connection.deny(denial)
            return
        await self._prepare(scope, connection)
        await receive()
        entered = False
        try:
            denial = entrance.anonymous_denial(connection)
            if denial is None and not await self.authorize():
                denial = Denial(reason=Reason.PERMISSION_DENIED, detail="authorize")
            if denial is not None:
                connection.deny(denial)
                return
            self._plan = await coding.begin(self, self._plan)
            entered = True
            await self._connect()
            await self._loop(connection, self._plan)
        except StopConsumer:
            if not connection.accepted:
                connection.deny(Denial(reason=Reason.PERMISSION_DENIED, detail="StopConsumer"))
        except asyncio.CancelledError as error:
            if own_task().cancelling():
                raise
            faults.end(connection, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - logged by `faults`, and ends the connection
            faults.end(connection, error)
        finally:
            await self._leave(connection, entered)

    def _misuse(self, scope: Event, connection: Connection) -> Denial | None:
        """Why the project's own mistake keeps this consumer from working."""
        if scope.get("user") is not connection.user:
            logger.error("consumer.user_replaced: remove what sets scope['user'] inside SecureMiddlewareStack")
            return Denial(reason=Reason.INTERNAL_ERROR, detail="scope['user'] was replaced")
        try:
            self._plan = plan_of(type(self), SecureJsonConsumer, get_settings())  # type: ignore[arg-type]
        except BadDeclaration as error:
            logger.error("consumer.misdeclared: %s", error)
            return Denial(reason=Reason.INTERNAL_ERROR, detail="the consumer class cannot work")
        return None

    async def _prepare(self, scope: Event, connection: Connection) -> None:
        self.scope, self.connection = scope, connection
        self.kwargs = scope.get("url_route", {}).get("kwargs", {})
        self.base_send = connection.send
        await self._enter_layer()
        self.inbox = Inbox(self._deliver, connection)
        connection.consumer, connection.read_ahead = self, self._read_ahead
        connection.speaks_frames = self._plan.typed or self.control_frames
        connection.configure(self._plan.limits, get_store())
        reauthorizing.prepare(self, SecureJsonConsumer)

    async def _connect(self) -> None:
        """Run the project's `connect()`; as in Channels, layer events wait until it has returned."""
        self.connection.handler_since = time.monotonic()
        for group in self.groups or ():
            await SecureJsonConsumer.join(self, group)  # a drop-in class may have a `join` of its own
        try:
            await self.connect()
        except AcceptConnection:
            await self.accept()
        except DenyConnection:
            await self.close()
        self.connection.handler_since = None
        self.inbox.resume()

    async def _loop(self, connection: Connection, plan: Plan) -> None:
        """Every message passes here: read, check, dispatch, one at a time and in order."""
        receive, handlers, inbox = connection.server_receive, plan.handlers, self.inbox
        while not connection.ended:
            if inbox.ahead is not None:
                parsed = await inbox.ahead.next()
                if parsed is None:
                    return
                now = time.monotonic()
            else:
                event = await receive()
                if event["type"] != "websocket.receive" or self.connection.ended:
                    await self._end(event)
                    return
                parsed = dispatch.read(connection, plan, event, now := time.monotonic())
                if parsed is None:
                    parsed = await dispatch.read_slowly(connection, plan, event, now)
            if connection.expires_at is not None and now >= connection.expires_at and has_expired(connection):
                connection.deny(Denial(reason=Reason.CREDENTIALS_EXPIRED))
                return
            if isinstance(parsed, Refused):
                await violations.answer(connection, parsed.denial, parsed.ref)
                continue
            kind, ref, message = parsed
            handler = handlers.get(kind)
            if inbox.events is not None:
                now = await inbox.rest()
                if self.connection.ended:
                    return
            connection.handler_since = now
            try:
                if handler is None or handler.guarded:
                    handler = await dispatch.admit(self, handler, parsed, now)
                if handler is not None:
                    await handler.call(self, message)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001 - answered below
                await self._failed(error, ref)
            connection.handler_since = None
            if inbox.events is not None:
                inbox.resume()

    async def _end(self, event: Event) -> None:
        """The last event: when the peer has left, what is being handled may be handled to its end."""
        if event["type"] != "websocket.receive":
            self.connection.disconnect_code = event.get("code", 1005)
            await self.inbox.rest()

    def _read_ahead(self) -> None:
        """Begin to read for the loop; the supervisor asks for it while a handler runs on."""
        inbox = self.inbox
        if inbox.ahead is None and not inbox.leaves_loop_reading:
            inbox.ahead = Ahead(self, self._plan)

    async def _deliver(self, event: dict[str, Any]) -> None:
        """One event of the channel layer; only the project's own methods can be named by it."""
        connection = self.connection
        if event is reauthorizing.AUTHORIZE:
            await reauthorizing.authorize(self)
            return
        if event.get("type") == BROADCAST:
            if isinstance(event.get("text"), str):
                connection.post(event["text"])
            return
        name = str(event.get("type")).replace(".", "_")
        if name not in self._plan.events:
            logger.warning("layer.unknown_event", extra={"event": name[:100]})
            return
        connection.handler_since = time.monotonic()
        try:
            await getattr(self, name)(event)
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001 - logged by `faults`
            with suppress(PeerGone):
                await self._failed(error, None)
        finally:
            connection.handler_since = None
            if connection.ended:
                connection.interrupt()

    async def _failed(self, error: BaseException, ref: Ref) -> None:
        """A handler raised: a refusal is answered, the rest ends the connection."""
        connection = self.connection
        if isinstance(error, StopConsumer):
            connection.ended = True
        elif isinstance(error, Denied) and error.denial.rule.answerable:
            await violations.answer(connection, error.denial, ref)
        elif isinstance(error, asyncio.CancelledError) and own_task().cancelling():
            raise error
        else:
            faults.end(connection, error)

    async def _leave(self, connection: Connection, entered: bool) -> None:
        """Run the project's `disconnect()` under a deadline of ours, and let go of groups and tasks."""
        connection.ended = True
        connection.handler_since = connection.consumer = connection.read_ahead = None
        self.inbox.close()
        connection.validity.let_go()
        code = connection.close_code if connection.close_code is not None else connection.disconnect_code
        deadline = connection.settings.disconnect_timeout
        try:
            if entered and type(self).disconnect is not AsyncJsonWebsocketConsumer.disconnect:
                async with asyncio.timeout(deadline):
                    await self.disconnect(1006 if code is None else code)
        except (PeerGone, StopConsumer):
            pass
        except TimeoutError:
            logger.error("disconnect.timeout", extra={"connection_id": connection.id})
        except (Exception, SystemExit):
            logger.exception("disconnect.failed", extra={"connection_id": connection.id})
        finally:
            await self._leave_layer(deadline)
