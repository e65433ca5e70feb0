"""A server on loopback that does to each connection what a test says; real sockets, and no Django."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from ssl import SSLContext
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from channels_secure.client import Backoff, SecureSocket

HOST = "127.0.0.1"
PATIENCE = 10.0
# A client comes back after each of these within a moment.
SOON: dict[str, Any] = {"least": 0.01, "most": 0.02, "shared": 0.02}

Act = Callable[[ServerConnection], Awaitable[None]]
# What stands in place of an act: a status, headers and body that refuse the handshake.
Refusal = tuple[int, dict[str, str], bytes]


class Script:
    """The acts of a play, one for each connection in turn; the last is repeated."""

    def __init__(self, *acts: Act | Refusal) -> None:
        self.acts = list(acts)
        self.requests: list[Request] = []
        self.connections: list[ServerConnection] = []
        self.heard: list[list[Any]] = []
        self.port = 0
        self.scheme = "ws"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}/ws/"

    def receive(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        act = self.acts[min(len(self.requests), len(self.acts)) - 1]
        if not isinstance(act, tuple):
            return None
        status, headers, body = act
        lines = Headers({**headers, "Connection": "close", "Content-Length": str(len(body))})
        return Response(status, "", lines, body)

    async def play(self, connection: ServerConnection) -> None:
        act = self.acts[min(len(self.requests), len(self.acts)) - 1]
        self.connections.append(connection)
        self.heard.append([])
        assert not isinstance(act, tuple)
        with contextlib.suppress(ConnectionClosed):
            await act(connection)

    def listens(self) -> Act:
        """An act: keep what comes, and answer what has an `id`."""

        async def listen(connection: ServerConnection) -> None:
            heard = self.heard[-1]
            async for text in connection:
                message = json.loads(text)
                heard.append(message)
                if "id" in message:
                    await tell(connection, {"type": "answered", "ref": message["id"]})

        return listen


@contextlib.asynccontextmanager
async def running(script: Script, ssl: SSLContext | None = None) -> AsyncIterator[Script]:
    """Serve the script on a free port."""
    async with serve(
        script.play,
        HOST,
        0,
        process_request=script.receive,
        select_subprotocol=lambda connection, offered: chosen(offered),
        ping_interval=None,
        close_timeout=0.5,
        max_size=None,
        ssl=ssl,
    ) as server:
        script.port = next(iter(server.sockets)).getsockname()[1]
        script.scheme = "ws" if ssl is None else "wss"
        yield script


def chosen(offered: list[Subprotocol] | tuple[Subprotocol, ...] | Any) -> Subprotocol | None:
    return Subprotocol("channels-secure.v1") if "channels-secure.v1" in offered else None


async def tell(connection: ServerConnection, frame: Any) -> None:
    await connection.send(json.dumps(frame))


def goodbye(code: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": "No.", "fatal": True, "reconnect": False, **more}


def refuses(close: int = 4403, code: str = "permission_denied", **more: Any) -> Act:
    """An act: open the socket to say why it is refused, as to a browser."""

    async def refuse(connection: ServerConnection) -> None:
        await tell(connection, goodbye(code, **more))
        await connection.close(close)

    return refuse


def closes(code: int, reason: str = "") -> Act:
    """An act: let in, and close."""

    async def close(connection: ServerConnection) -> None:
        await tell(connection, {"type": "welcome"})
        await connection.close(code, reason)

    return close


def says(*frames: Any) -> Act:
    """An act: say all this, and stay."""

    async def say(connection: ServerConnection) -> None:
        for frame in frames:
            await (connection.send(frame) if isinstance(frame, str | bytes) else tell(connection, frame))
        await connection.wait_closed()

    return say


async def vanish(connection: ServerConnection) -> None:
    """An act: let in, and drop the connection without a word."""
    await tell(connection, {"type": "welcome"})
    await (await connection.ping())
    connection.transport.abort()


async def fall_silent(connection: ServerConnection) -> None:
    """An act: let in, and then neither read nor answer, with the connection open, as behind a cable that was cut."""
    connection.transport.pause_reading()
    await tell(connection, {"type": "welcome"})
    await connection.wait_closed()


def soon(script: Script, **options: Any) -> SecureSocket:
    """A client of the script that comes back within a moment."""
    options.setdefault("backoff", Backoff(**SOON))
    return SecureSocket(script.url, proxy=None, **options)


async def until(condition: Callable[[], object]) -> None:
    """Let others run until something holds that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)  # asks again, until the deadline
