"""Connect, talk, wait, and again: what keeps a socket connected until it is closed or refused for good."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from time import monotonic
from typing import Any

from channels_secure.client.backoff import Backoff
from channels_secure.client.conversation import Conversation
from channels_secure.client.credentials import Offer
from channels_secure.client.desk import Desk, call
from channels_secure.client.endings import Again, Ending
from channels_secure.client.errors import ConnectionLost, Refused, SocketClosed
from channels_secure.client.link import Address, Gone, open_link

logger = logging.getLogger("channels_secure.client")


class SocketState(StrEnum):
    """Where a socket is: `waiting` is the pause between two attempts; after `closed` there is no other."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


class Keeper:
    """Makes one connection after the other; `run` ends when there is to be no other, or is cancelled to close.

    Attributes:
        state: where the socket is.
        ending: how the last connection, or attempt, ended.
        retry_in: the seconds chosen for the pause under way.
        failure: why there will be no other connection; None where it was closed, or the server has finished.
        goodbye: the code and reason that this side closes with, once it wants to.
    """

    def __init__(
        self, address: Address, desk: Desk, backoff: Backoff, on_state: Callable[[SocketState], object] | None
    ) -> None:
        self._address, self._desk, self._backoff, self._on_state = address, desk, backoff, on_state
        self._let_in_at: float | None = None
        self.state = SocketState.CONNECTING
        self.ending: Ending | None = None
        self.retry_in: float | None = None
        self.failure: Exception | None = None
        self.goodbye: tuple[int, str] | None = None

    async def run(self) -> None:
        try:
            while (pause := await self._once()) is not None:
                self.retry_in = pause
                self._change(SocketState.WAITING)
                await asyncio.sleep(pause)
                self.retry_in = None
        except Exception as error:  # noqa: BLE001 - raised again for whoever uses the socket
            self.failure = error
        finally:
            self._desk.outbox.clear()
            self._desk.calls.fail(self.failure or SocketClosed("the socket is closed"))
            self._change(SocketState.CLOSED)

    async def _once(self) -> float | None:
        """One connection, or the attempt at it; returns the seconds until the next, None when there is to be none."""
        self._change(SocketState.CONNECTING)
        self.ending = ending = await self._connection()
        stood = None if self._let_in_at is None else monotonic() - self._let_in_at
        self._let_in_at = None
        self._desk.calls.lose(ConnectionLost(str(ending)))
        pause = self._backoff.after(ending, stood=stood)
        if pause is None and not ending.is_clean:
            self.failure = Refused(ending)
        told = {"reason": ending.reason, "code": ending.code, "status": ending.status, "retry_in": pause}
        logger.log(logging.INFO if self.failure is None else logging.WARNING, "client.ended", extra=self._about(told))
        return pause

    async def _connection(self) -> Ending:
        limits = self._desk.limits
        try:
            async with asyncio.timeout(limits.open_timeout):
                link = await open_link(self._address, await self._offer(), limits)
        except (Gone, Refused) as error:
            return error.ending
        except TimeoutError:
            return Ending(again=Again.YES, message="nobody answered in time")
        try:
            return await Conversation(link, self._desk, self._let_in).hold()
        finally:
            await link.close(*(self.goodbye or (1000, "")))

    async def _offer(self) -> Offer:
        try:
            return await self._desk.credentials.offer()
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fetches a secret raises what it likes
            # Not its words, which may repeat the secret.
            message = f"the credentials could not be fetched ({type(error).__name__})"
            logger.warning("client.no_credentials", extra=self._about({"error": type(error).__name__}))
            raise Gone(Ending(again=Again.YES, message=message)) from None

    def _let_in(self) -> None:
        self._let_in_at = monotonic()
        logger.info("client.open", extra=self._about({}))
        self._change(SocketState.OPEN)

    def _change(self, state: SocketState) -> None:
        self.state = state
        self._desk.bell.ring()
        if self._on_state is not None:
            call(self._on_state, state)

    def _about(self, facts: dict[str, Any]) -> dict[str, Any]:
        return {"url": self._address.shown, **facts}
