"""The socket that an application holds: one, over however many connections it takes."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from copy import copy
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from channels_secure.client.backoff import Backoff
from channels_secure.client.credentials import Credentials, Fetch
from channels_secure.client.desk import Codec, Desk, Limits
from channels_secure.client.endings import Ending
from channels_secure.client.errors import MessageDenied, MessagesLost, SocketClosed
from channels_secure.client.keeper import Keeper, SocketState
from channels_secure.client.link import Address

logger = logging.getLogger("channels_secure.client")


class SecureSocket:
    """A WebSocket to a server that runs `channels_secure`, which comes back by itself.

    Entered with ``async with``, which returns when the server has let it in; then it sends, requests, and is iterated
    over for the messages that come. Belongs to one event loop and is entered once.

    Args:
        url: ``wss://…``.
        ticket, token, by_subprotocol, session, session_cookie, get_token, subprotocols: see `Credentials`.
        origin: the Origin header; a session is sent with the URL's own unless another is given.
        headers, ssl, proxy: see `Address`.
        codec: what the server's consumer has as its `codec`.
        backoff: when to come back; sockets may be given the same.
        limits: what is bounded, and how.
        on_state: called with each new state.
        on_denied: called with each refusal of a message that was sent without `request()`.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        ticket: Fetch | None = None,
        token: str | Fetch | None = None,
        by_subprotocol: bool = False,
        session: str | Fetch | None = None,
        session_cookie: str = "sessionid",
        get_token: Fetch | None = None,
        subprotocols: tuple[str, ...] = (),
        origin: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl: SSLContext | None = None,
        proxy: str | bool | None = True,
        codec: Codec | None = None,
        backoff: Backoff | None = None,
        limits: Limits | None = None,
        on_state: Callable[[SocketState], object] | None = None,
        on_denied: Callable[[MessageDenied], object] | None = None,
    ) -> None:
        credentials = Credentials(
            ticket=ticket, token=token, by_subprotocol=by_subprotocol, session=session, session_cookie=session_cookie,
            get_token=get_token, subprotocols=subprotocols,
        )  # fmt: skip
        self._address = Address(url=url, origin=origin, headers=headers or {}, ssl=ssl, proxy=proxy)
        self._desk = Desk(credentials, limits or Limits(), codec, on_denied)
        self._keeper = Keeper(self._address, self._desk, copy(backoff or Backoff()), on_state)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address.shown} {self.state}>"

    @property
    def state(self) -> SocketState:
        return self._keeper.state

    @property
    def ending(self) -> Ending | None:
        """How the last connection, or the last attempt, ended."""
        return self._keeper.ending

    @property
    def retry_in(self) -> float | None:
        """The seconds that were chosen for the pause, while the socket is waiting."""
        return self._keeper.retry_in

    @property
    def hello(self) -> Mapping[str, Any] | None:
        """What the server said first, on this connection or the one before, if it says `hello`."""
        return self._desk.hello

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise SocketClosed("a socket is entered once")
        self._task = asyncio.create_task(self._keeper.run())
        try:
            await self.opened()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Return the next message, over all connections; ends when the server has finished or the socket is closed.

        Raises:
            Refused: the socket ended for good.
            MessagesLost: messages came that nobody took in time; the iteration can go on.
        """
        inbox = self._desk.inbox
        self._refuse_if_not_entered()
        await self._desk.bell.until(lambda: inbox or self.state is SocketState.CLOSED)
        if lost := inbox.take_lost():
            raise MessagesLost(lost)
        if inbox:
            return inbox.take()
        raise self._failure or StopAsyncIteration

    async def opened(self) -> None:
        """Return when the socket is open, at once if it is.

        Raises:
            Refused: it was refused for good.
            SocketClosed: it was closed here, or the server has finished.
        """
        self._refuse_if_not_entered()
        await self._desk.bell.until(lambda: self.state in (SocketState.OPEN, SocketState.CLOSED))
        self._refuse_if_closed()

    async def send(self, message: Any) -> None:
        """Send a message, or keep it until there is a connection; it leaves once at most.

        On an open connection this waits while the queue is full.

        Raises:
            QueueFull: there is no connection, and as many messages wait for one as may.
            Refused, SocketClosed: there will be no other connection.
            TypeError: JSON cannot say it.
        """
        await self._put(self._desk.encode(message), None)

    async def request(self, message: Mapping[str, Any], *, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        """Send a message with an `id` of the client's own, and return the frame that names it as its `ref`.

        Args:
            timeout: seconds, with the time that it waits for a connection.

        Raises:
            MessageDenied: the server refused it.
            ConnectionLost: it was sent, and its connection ended before the answer.
            TimeoutError: no answer came; if it was not sent yet, it never is.
            QueueFull, Refused, SocketClosed, TypeError: as with `send`.
        """
        if "id" in message:
            raise ValueError("a request gets its id here")
        calls = self._desk.calls
        ref, answer = calls.begin()
        try:
            async with asyncio.timeout(timeout):
                await self._put(self._desk.encode({**message, "id": ref}), ref)
                return await answer
        finally:
            self._desk.outbox.withdraw(ref)
            calls.end(ref)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send what waits on the open connection, close it, and stay closed; takes the limits' `close_timeout` twice.

        Raises:
            ValueError: the code is not one that an application may send.
        """
        if code != 1000 and not 3000 <= code <= 4999:
            raise ValueError("an application closes with 1000, or 3000 to 4999")
        if self._task is None:
            return
        is_first = self._keeper.goodbye is None
        self._keeper.goodbye = self._keeper.goodbye or (code, reason)
        try:
            async with asyncio.timeout(self._desk.limits.close_timeout):
                await self._desk.bell.until(lambda: self.state is not SocketState.OPEN or not self._desk.outbox)
        except TimeoutError:
            logger.warning("client.unsent", extra={"messages": len(self._desk.outbox)})
        finally:
            await _end(self._task, cancels=is_first)

    async def _put(self, text: str, ref: str | None) -> None:
        desk = self._desk
        await desk.bell.until(lambda: self.state is not SocketState.OPEN or not desk.outbox.is_full)
        self._refuse_if_closed()
        desk.outbox.put(text, ref)
        desk.bell.ring()

    @property
    def _failure(self) -> Exception | None:
        # Raised to several callers, each of whom has a traceback of his own.
        failure = self._keeper.failure
        return None if failure is None else failure.with_traceback(None)

    def _refuse_if_not_entered(self) -> None:
        if self._task is None:
            raise SocketClosed("enter the socket first, with `async with`")

    def _refuse_if_closed(self) -> None:
        self._refuse_if_not_entered()
        if self.state is SocketState.CLOSED or self._keeper.goodbye is not None:
            raise self._failure or SocketClosed("the socket is closed")


async def _end(task: asyncio.Task[None], *, cancels: bool) -> None:
    """Have the task end and wait for it; a cancellation meanwhile drops its connection."""
    if cancels:
        task.cancel()
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        raise
