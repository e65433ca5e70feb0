"""One connection of the `websockets` library, with what it says of secrets and of endings kept in one place."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLCertVerificationError, SSLContext
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    WebSocketException,
)
from websockets.protocol import State as WireState
from websockets.typing import Origin, Subprotocol

from channels_secure import __version__
from channels_secure.client.credentials import Offer
from channels_secure.client.desk import Limits
from channels_secure.client.endings import Again, Ending, of_close, of_response


class Gone(Exception):
    """The connection has ended."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


class _Discreet(logging.LoggerAdapter[logging.Logger]):
    """The library's logger, deaf to DEBUG: there it writes headers and frames, and with them tokens."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name of logging's own method
        return level > logging.DEBUG and super().isEnabledFor(level)


class _Direct(connect):
    """Follows no redirect: the library would take the ticket or token among the subprotocols along to any host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a socket connects, and how.

    Args:
        url: `ws://` or `wss://`; never shown with its query, which may carry a secret.
        origin: the Origin header; None sends none, or with a session the URL's own.
        headers: more headers of the handshake.
        ssl: a context of one's own for `wss://`.
        proxy: a proxy's URL, True for the environment's, None for none.
    """

    url: str = field(repr=False)
    origin: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl: SSLContext | None = None
    proxy: str | bool | None = field(default=True, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.fragment:
            raise ValueError("the URL is ws:// or wss://, with a host and without a fragment")
        if "@" in parts.netloc:
            raise ValueError("the URL carries credentials: give them as ticket, token or session")
        if self.ssl is not None and parts.scheme == "ws":
            raise ValueError("ssl is for wss:// URLs")

    @property
    def shown(self) -> str:
        """The URL without its query."""
        return self.url.partition("?")[0]

    @property
    def own_origin(self) -> str:
        """What a page of the same host would send as Origin."""
        parts = urlsplit(self.url)
        return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"


class Link:
    """An open connection; its `receive` and `send` raise Gone when it has ended."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @property
    def is_open(self) -> bool:
        """Whether a message sent now would leave."""
        return self._connection.state is WireState.OPEN

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.recv()
        except ConnectionClosed as closed:
            raise Gone(_of_closed(closed)) from None

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except ConnectionClosed as closed:
            raise Gone(_of_closed(closed)) from None

    async def ping(self) -> None:
        """Return when the server has answered a ping (RFC 6455 section 5.5.2)."""
        try:
            await (await self._connection.ping())
        except ConnectionClosed as closed:
            raise Gone(_of_closed(closed)) from None

    def abort(self) -> None:
        """Drop the connection at once; nobody is told."""
        self._connection.transport.abort()

    async def close(self, code: int, reason: str) -> None:
        """Close, within the limits' `close_timeout`; a cancellation drops the connection."""
        try:
            await self._connection.close(code, reason)
        except asyncio.CancelledError:
            self.abort()
            raise


async def open_link(address: Address, offer: Offer, limits: Limits) -> Link:
    """Shake hands once.

    Raises:
        Gone: the server refused, or nobody answered.
    """
    origin = address.own_origin if address.origin is None and offer.is_ambient else address.origin
    options: dict[str, Any] = {} if address.ssl is None else {"ssl": address.ssl}
    try:
        connection = await _Direct(
            address.url,
            origin=None if origin is None else Origin(origin),
            subprotocols=[Subprotocol(name) for name in offer.subprotocols] or None,
            # Every connection's compressor costs more memory than the rest of it.
            compression=None,
            additional_headers=[*address.headers.items(), *offer.headers],
            user_agent_header=f"channels-secure/{__version__}",
            proxy=True if address.proxy is True else address.proxy or None,
            # Both deadlines are ours.
            open_timeout=None,
            ping_interval=None,
            close_timeout=limits.close_timeout,
            max_size=limits.max_size,
            logger=_Discreet(logging.getLogger("channels_secure.client"), {}),
            **options,
        )
    except (OSError, WebSocketException) as error:
        raise Gone(of_failure(error, now=time.time())) from None
    return Link(connection)


def of_failure(error: Exception, *, now: float) -> Ending:
    """What a failed handshake means; its words name the kind of error only, for others may repeat headers."""
    if isinstance(error, InvalidStatus):
        response = error.response
        return of_response(
            response.status_code, dict(response.headers.raw_items()), bytes(response.body or b""), now=now
        )
    if isinstance(error, SSLCertVerificationError | InvalidProxy):
        again = Again.NO
    elif isinstance(error, InvalidHandshake) and not isinstance(error, InvalidMessage):
        # An upgrade that is none: somebody else answers there, for now or for good.
        again = Again.DOUBTFUL
    else:
        again = Again.YES
    return Ending(again=again, message=type(error).__name__)


def _of_closed(closed: ConnectionClosed) -> Ending:
    """What was received counts; what was sent, where the library ended it for a frame that broke the rules."""
    frame = closed.rcvd or closed.sent
    return of_close(None) if frame is None else of_close(frame.code, frame.reason)
