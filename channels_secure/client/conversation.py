"""What happens on one connection: reading, writing and the pulse."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from channels_secure.client.desk import Codec, Desk, call
from channels_secure.client.endings import Ending, of_close, of_frame, read_seconds
from channels_secure.client.errors import MessageDenied
from channels_secure.client.link import Gone, Link
from channels_secure.client.refreshing import refresh

logger = logging.getLogger("channels_secure.client")

# Seconds: how long a server that has said goodbye may take to close.
CLOSING = 5.0


class Conversation:
    """One connection, from its handshake to its end.

    It is *let in* by the first answer to a ping, or the first frame that is no goodbye: a server also opens a socket
    only to say on it why it is refused. Until then nothing that waits is sent.
    """

    def __init__(self, link: Link, desk: Desk, let_in: Callable[[], None]) -> None:
        self._link, self._desk, self._tell_let_in = link, desk, let_in
        self._is_let_in = self._owes_pong = self._speaks_code = False
        self._backlog = 0
        self._urgent: list[str] = []
        self._goodbye: Ending | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def hold(self) -> Ending:
        """Talk until the connection ends; returns how it did."""
        beside = [asyncio.create_task(self._beat()), asyncio.create_task(self._write())]
        try:
            return await self._read()
        finally:
            if self._renewing is not None:
                beside.append(self._renewing)
            for task in beside:
                task.cancel()
            for found in await asyncio.gather(*beside, return_exceptions=True):
                if isinstance(found, Exception) and not isinstance(found, Gone):
                    logger.error("client.failed", extra={"error": type(found).__name__})

    async def _read(self) -> Ending:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:
                while True:
                    self._hear(await self._link.receive())
                    if self._goodbye is not None and deadline.when() is None:
                        deadline.reschedule(loop.time() + CLOSING)
        except TimeoutError:
            return self._goodbye or of_close(None)
        except Gone as gone:
            return self._goodbye or gone.ending

    async def _beat(self) -> None:
        """Ask for a sign of life now and then; a link that gives none is dropped, however open it looks."""
        try:
            while True:
                async with asyncio.timeout(self._desk.limits.heartbeat_timeout):
                    await self._link.ping()
                self._let_in()
                await asyncio.sleep(self._desk.limits.heartbeat_interval)
                if self._desk.limits.heartbeat_frames:
                    self._hurry({"type": "ping"})
        except TimeoutError:
            logger.warning("client.link_dead")
            self._link.abort()
        except Gone:
            return

    async def _write(self) -> None:
        desk = self._desk
        while True:
            await desk.bell.until(lambda: self._urgent or (self._is_let_in and desk.outbox))
            if not self._link.is_open:
                return  # what waits stays for the next connection
            is_urgent = bool(self._urgent)
            text, ref = (self._urgent.pop(0), None) if is_urgent else desk.outbox.take()
            desk.calls.sent(ref)
            self._owes_pong = self._owes_pong and bool(self._urgent)
            desk.bell.ring()
            try:
                await self._link.send(text)
            except Gone:
                return
            if self._backlog and not is_urgent:
                self._backlog -= 1
                await asyncio.sleep(desk.limits.pace)

    def _let_in(self) -> None:
        if self._is_let_in or self._goodbye is not None:
            return
        self._is_let_in = True
        self._backlog = len(self._desk.outbox)
        self._tell_let_in()
        self._desk.bell.ring()

    def _hear(self, data: str | bytes) -> None:
        """Deal with one frame; those of the package never reach the iterator."""
        frame = self._decode(data)
        kind = frame.get("type") if isinstance(frame, dict) else None
        if kind == "error":
            self._goodbye = self._goodbye or of_frame(frame)
        if frame is _UNREADABLE or self._goodbye is not None:
            return
        self._let_in()
        if isinstance(frame, dict) and (self._desk.calls.settle(frame) or self._deals_with(frame)):
            return
        if self._desk.inbox.put(frame):
            logger.warning("client.inbox_full")
        self._desk.bell.ring()

    def _decode(self, data: str | bytes) -> Any:
        try:
            return msgspec.json.decode(data) if self._desk.codec is None else self._decoded_by(self._desk.codec, data)
        except Exception as error:  # noqa: BLE001 - a codec of the application's own raises what it likes
            # Its content belongs in no log.
            logger.warning("client.unreadable_frame", extra={"error": type(error).__name__})
            return _UNREADABLE

    def _decoded_by(self, codec: Codec, data: str | bytes) -> Any:
        if not isinstance(data, str):
            raise TypeError("codecs make texts")
        if not self._speaks_code and (goodbye := _plain_goodbye(data)) is not None:
            return goodbye
        frame = msgspec.json.decode(codec.decode(data))
        # From now on nobody without the key may send the client away.
        self._speaks_code = True
        return frame

    def _deals_with(self, frame: dict[str, Any]) -> bool:
        """Deal with a frame of the package's own; returns whether it was one."""
        match frame:
            case {"type": "ping"}:
                self._owe_pong()
            case {"type": "pong" | "token_refreshed"}:
                pass  # nobody waits for it any more
            case {"type": "hello", "connection_id": str()}:
                self._desk.hello = frame
            case {"type": "token_expiring", "expires_in": seconds}:
                self._renew(read_seconds(seconds) or 0.0)
            case {"type": "error", "code": str(), "fatal": False}:
                self._tell_denied(MessageDenied(frame))
            case _:
                return False
        return True

    def _owe_pong(self) -> None:
        # One answers for all that came meanwhile: what waits to be sent stays bounded.
        if not self._owes_pong:
            self._owes_pong = True
            self._hurry({"type": "pong"})

    def _renew(self, expires_in: float) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(refresh(self._desk, self._hurry, expires_in))

    def _tell_denied(self, denied: MessageDenied) -> None:
        logger.warning("client.message_denied", extra={"reason": denied.reason})
        if self._desk.on_denied is not None:
            call(self._desk.on_denied, denied)

    def _hurry(self, message: Mapping[str, Any]) -> None:
        """Send ahead of what waits, on this connection or not at all."""
        self._urgent.append(self._desk.encode(message))
        self._desk.bell.ring()


_UNREADABLE: Any = object()


def _plain_goodbye(data: str) -> dict[str, Any] | None:
    """A refused handshake is told as it is: the server does not know yet who is there."""
    frame = msgspec.json.decode(data) if data.startswith("{") else None
    return frame if frame is not None and of_frame(frame) is not None else None
