"""Clients on bare sockets, cheap enough that the server is what is measured: ready-made frames and no library."""

import base64
import contextlib
import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import psutil

from tests.benchmarks.project import GENEROUS, ORIGIN
from tests.live.raw import Opcode, encode_frame, upgrade_request
from tests.live.servers import HOST, LiveServer, ServerKind, start_server

TIMEOUT = 20.0
MASK = b"\x37\xfa\x21\x3d"
KEY = base64.b64encode(b"sixteen bytes ok")
# No log, and no pings in the midst of answers that are compared byte by byte.
OPTIONS = {
    "daphne": ("-v", "0", "--ping-interval", "3600"),
    "uvicorn": ("--log-level", "warning", "--lifespan", "off", "--ws-ping-interval", "3600"),
}


@contextlib.contextmanager
def serve(
    kind: ServerKind,
    directory: Path,
    app: str = "application",
    *,
    settings: Mapping[str, Any] = GENEROUS,
    environ: Mapping[str, str] | None = None,
) -> Iterator[LiveServer]:
    """Run a server of the subjects for the length of a `with` block."""
    target, options = f"tests.benchmarks.serving:{app}", OPTIONS[kind]
    server = start_server(kind, target, directory=directory, settings=settings, environ=environ, arguments=options)
    try:
        yield server
    finally:
        server.stop()


def process_of(server: LiveServer) -> psutil.Process:
    return psutil.Process(server.process.pid)


def cpu_seconds(server: LiveServer) -> float:
    """What the process has used so far, its threads included."""
    times = process_of(server).cpu_times()
    return float(times.user + times.system)


def request(server: LiveServer, path: str, cookie: str = "") -> bytes:
    """Return the bytes of a browser's handshake."""
    headers = [(b"cookie", cookie.encode())] if cookie else []
    return upgrade_request(path, f"localhost:{server.port}", KEY, headers, ORIGIN, (), {})


def open_socket(server: LiveServer, upgrade: bytes, *, receive_buffer: int | None = None) -> socket.socket:
    """Connect and shake hands; the answer must be 101."""
    connection = socket.socket()
    connection.settimeout(TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((HOST, server.port))
    connection.sendall(upgrade)
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = connection.recv(4096)
        if not data:
            raise RuntimeError(f"no answer to the handshake\n{server.log()[-4000:]}")
        answer += data
    if not answer.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"refused: {answer!r}\n{server.log()[-4000:]}")
    return connection


def open_sockets(server: LiveServer, path: str, cookie: str, count: int) -> list[socket.socket]:
    upgrade = request(server, path, cookie)
    return [open_socket(server, upgrade) for _ in range(count)]


def close_all(connections: Sequence[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def text_frame(text: str) -> bytes:
    return encode_frame(Opcode.TEXT, text.encode(), mask=MASK)


class Echo:
    """Connections that each send one frame, wait for its answer, and send it again."""

    def __init__(self, connections: Sequence[socket.socket], frame: bytes, expected: bytes) -> None:
        self._frame = frame
        self._size = len(expected)
        self._expected = expected
        self._connections = connections
        self._selector = selectors.DefaultSelector()
        for connection in connections:
            self._selector.register(connection, selectors.EVENT_READ)

    def run(self, seconds: float) -> tuple[int, float]:
        """Exchange for so long; return the number of answers and the seconds it took."""
        waiting = dict.fromkeys(self._connections, 0)
        for connection in self._connections:
            connection.sendall(self._frame)
        started = time.perf_counter()
        answers, until = 0, started + seconds
        while waiting:
            ready = self._selector.select(TIMEOUT)
            now = time.perf_counter()
            if not ready:
                raise RuntimeError("a server stopped answering")
            for key, _ in ready:
                reader = cast("socket.socket", key.fileobj)
                waiting[reader] += self._read(reader)
                if waiting[reader] < self._size:
                    continue
                answers += 1
                if now < until:
                    waiting[reader] = 0
                    reader.sendall(self._frame)
                else:
                    del waiting[reader]
        return answers, time.perf_counter() - started

    def _read(self, connection: socket.socket) -> int:
        data = connection.recv(4096)
        if not data or len(data) > self._size or (len(data) == self._size and data != self._expected):
            raise RuntimeError(f"another answer than expected: {data!r}")
        return len(data)

    def close(self) -> None:
        self._selector.close()
        close_all(self._connections)
