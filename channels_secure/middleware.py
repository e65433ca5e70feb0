"""The edge around the ASGI call: one guard owns a connection from its first check to its last clean-up."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from django.conf import settings as django_settings

from channels_secure import admission, frames, supervisor
from channels_secure.auth.offers import without_credentials
from channels_secure.auth.session import open_session
from channels_secure.auth.subprotocols import without_tokens
from channels_secure.conf import Settings, get_settings
from channels_secure.connections import events, farewell, faults, make_room, registry
from channels_secure.connections.connection import Connection, Event, Receive, Send
from channels_secure.connections.slots import give_back_slot, make_shared_room
from channels_secure.guards import DEFAULT_GUARDS, Guard, admit
from channels_secure.limits import limits_of
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake
from channels_secure.policy.origins import OriginPolicy
from channels_secure.stores import get_store
from channels_secure.supervisor import revalidation

logger = logging.getLogger("channels_secure")

Application = Callable[[Any, Receive, Send], Awaitable[Any]]


class HandshakeMiddleware:
    """Guards every WebSocket connection of an ASGI application; other scopes pass unchanged.

    Args:
        app: the application inside, usually a URLRouter.
        guards: the checks before credentials, `channels_secure.guards.DEFAULT_GUARDS` unless given.
    """

    def __init__(self, app: Application, guards: Iterable[Guard] | None = None) -> None:
        self.app = app
        self.guards = DEFAULT_GUARDS if guards is None else tuple(guards)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> Any:
        if scope["type"] != "websocket":
            return await self.app(scope, receive, send)
        if (await receive())["type"] != "websocket.connect":
            return None
        # One coroutine for the whole life: each more is memory for every socket and is walked through at every message.
        connection = _open(scope, receive, send)
        try:
            await self._serve(connection, scope)
        except asyncio.CancelledError as error:
            if connection.severed_at is None:
                if connection.task.cancelling():
                    raise
                faults.end(connection, error)
        finally:
            await self._release(connection)
        return None

    async def _serve(self, connection: Connection, scope: Event) -> None:
        try:
            denial = await self._admit(connection, scope)
            if denial is not None:
                connection.deny(denial)
                return
            inner = self._inner_scope(connection, scope)
            connection.handshake = connection.handshake.without_credentials()
            await self.app(inner, frames.Receiver(connection), connection.send)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - logged by `faults`, and ends the connection
            faults.end(connection, error)
        else:
            if not connection.accepted and not connection.ended:
                logger.error("application.silent", extra={"connection_id": connection.id})
                connection.deny(Denial(reason=Reason.INTERNAL_ERROR, detail="the application gave no answer"))

    async def _admit(self, connection: Connection, scope: Event) -> Denial | None:
        """The contract's order: cheap before dear, registration before what others may change meanwhile."""

        def report(denial: Denial) -> None:
            connection.unless_reported(denial)

        connection.offered = without_tokens(connection.handshake.subprotocols)
        denial = await admit(connection.handshake, self.guards, report if connection.settings.reports_only else None)
        if denial is not None:
            return denial
        connection.vetted = True
        denial = await admission.identify(connection)
        if denial is not None:
            return denial
        registry().add(connection)
        supervisor.current().ensure()
        connection.configure(connection.limits, get_store())
        return await admission.confirm(connection)

    @staticmethod
    def _inner_scope(connection: Connection, scope: Event) -> Event:
        """What the application sees: who it is, and no token."""
        handshake, identity = connection.handshake, connection.identity
        session = None if identity is None else identity.session
        return {
            **scope,
            "headers": list(_without_tokens(scope["headers"], connection.offered)),
            "query_string": without_credentials(scope.get("query_string") or b"", connection.settings),
            "subprotocols": list(connection.offered),
            "cookies": handshake.cookies,
            "session": open_session(handshake) if session is None else session,
            "user": connection.user,
            "channels_secure": connection,
        }

    @staticmethod
    async def _release(connection: Connection) -> None:
        if connection.timer is not None:
            connection.timer.cancel()
        try:
            await farewell.absorb_cancel(connection)
        finally:
            try:
                await farewell.finish(connection)
            finally:
                registry().discard(connection)
                connection.budgets.close()
                give_back_slot(connection)
                if connection.conduct.unrecorded:
                    events.throttled(connection)
                if connection.accepted:
                    events.closed(connection)
                elif connection.denial is not None:
                    events.refused(connection, connection.denial)
                else:
                    events.abandoned(connection)
                supervisor.current().ensure()


def _open(scope: Event, receive: Receive, send: Send) -> Connection:
    """A connection whose handshake has begun; whatever becomes of it, `_release` must follow."""
    settings = get_settings()
    connection = Connection(
        handshake=read_handshake(scope, settings),
        scope=scope,
        server_receive=receive,
        server_send=send,
        settings=settings,
        limits=limits_of(settings),
        before_accept=events.record_beginning,
        on_accept=_accepted,
        before_end=events.record_end,
        report=events.would_refuse if settings.reports_only else None,
    )
    connection.timer = connection.loop.call_later(settings.handshake_timeout, _expire, connection)
    return connection


def _expire(connection: Connection) -> None:
    # Nothing is told to a page of which it is not known yet whether it may ask.
    connection.sever(Denial(reason=Reason.HANDSHAKE_TIMEOUT, visible=connection.vetted))


def _accepted(connection: Connection) -> None:
    if connection.timer is not None:
        connection.timer.cancel()
        connection.timer = None
    events.accepted(connection)
    if not connection.validity.urgent:
        # A look that failed during the handshake is made up for at once.
        revalidation.schedule(connection, time.monotonic())
    if admission.replaces_oldest(connection):
        make_room(connection, connection.settings.max_connections)
        make_shared_room(connection)


def _without_tokens(headers: Iterable[tuple[bytes, bytes]], offered: Iterable[str]) -> Iterator[tuple[bytes, bytes]]:
    """The headers without credentials, and with the subprotocols that are none.

    Names with underscores are left out too: whoever folds them into hyphens would read a client's `x_forwarded_for` as
    a proxy's (CVE-2026-3902).
    """
    for name, value in headers:
        if name not in (b"authorization", b"sec-websocket-protocol") and b"_" not in name:
            yield name, value
    if offered:
        yield b"sec-websocket-protocol", ", ".join(offered).encode("latin-1")


def read_handshake(scope: Event, settings: Settings) -> Handshake:
    """The facts of a scope, read under the project's settings."""
    return Handshake.from_scope(
        scope,
        proxies=settings.proxies,
        secure_header=django_settings.SECURE_PROXY_SSL_HEADER,
        assume_wss=settings.assume_wss,
        use_forwarded_host=django_settings.USE_X_FORWARDED_HOST,
    )


def SecureMiddlewareStack(app: Application) -> HandshakeMiddleware:  # noqa: N802 - named as Channels names its stacks
    """Everything: put it around the URLRouter of the WebSocket routes."""
    return HandshakeMiddleware(app)


class OriginValidator:
    """The Origin check alone, for people who compose their own stack.

    Args:
        app: the application inside.
        allowed_origins: as in the setting ALLOWED_ORIGINS; None means the setting.

    Raises:
        ValueError: a pattern is not an origin.
    """

    def __init__(self, app: Application, allowed_origins: Iterable[str] | None = None) -> None:
        self.app = app
        self.origins = None if allowed_origins is None else OriginPolicy.compile(allowed_origins)

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> Any:
        if scope["type"] == "websocket" and not self._allows(scope):
            await receive()
            await send({"type": "websocket.close"})
            return None
        return await self.app(scope, receive, send)

    def _allows(self, scope: Event) -> bool:
        settings = get_settings()
        handshake = read_handshake(scope, settings)
        origins = settings.origins if self.origins is None else self.origins
        if handshake.origin is None:
            return False
        return origins.allows(handshake.origin, host=handshake.host, secure=handshake.secure)
