"""Real Daphne and uvicorn processes for tests: `WebsocketCommunicator` hides what servers do.

A server runs one ASGI application, given by dotted path, on a free loopback port, with the settings of `tests.settings`
and the test run's database. Everything it prints goes into a file that `log()` reads. It is ended by its process id.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from django.db import connections

from tests.live.raw import TIMEOUT, Closing, Frame, Opcode, RawSocket, Response, SocketEnded, SocketTimeout
from tests.services import accepts_connections, free_port, stop_process, wait_until_ready

__all__ = [
    "KINDS", "Closing", "Frame", "LiveServer", "Opcode", "RawSocket", "Response", "ServerKind", "ServerPool",
    "SocketEnded", "SocketTimeout", "start_server",
]  # fmt: skip

ServerKind = Literal["daphne", "uvicorn"]
KINDS: tuple[ServerKind, ...] = get_args(ServerKind)
ROOT = Path(__file__).resolve().parents[2]
APP = "tests.live.app:application"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveServer:
    """A running server process."""

    kind: ServerKind
    port: int
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def origin(self) -> str:
        """What a browser sends as Origin on a page of this server."""
        return self.http_url

    def log(self) -> str:
        """Return everything the process has printed so far, to both streams."""
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text: str, *, timeout: float = TIMEOUT) -> str:
        """Return the log once `text` stands in it; AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while text not in (log := self.log()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} did not appear in the log of {self.kind}:\n{log[-4000:]}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.02)
        return log

    def connect(self, *, source: str = HOST, timeout: float = TIMEOUT) -> RawSocket:
        """Open a TCP connection, from any address of 127.0.0.0/8; the handshake is the caller's."""
        return RawSocket.open(HOST, self.port, source=source, timeout=timeout)

    @contextlib.contextmanager
    def websocket(self, path: str = "/", *, source: str = HOST, timeout: float = TIMEOUT, **handshake: Any) -> Any:
        """Open a WebSocket for the length of a `with` block; AssertionError when the upgrade is refused."""
        with self.connect(source=source, timeout=timeout) as raw:
            response = raw.handshake(path, **handshake)
            if response.status != 101:
                raise AssertionError(f"refused: {response}\n{self.log()[-4000:]}")
            yield raw

    def stop(self, *, first: signal.Signals = signal.SIGTERM, timeout: float = 10) -> int:
        """End the process, with SIGKILL after `timeout` seconds; return its exit code. May be called again."""
        return stop_process(self.process, first=first, timeout=timeout)


def start_server(
    kind: ServerKind,
    app: str = APP,
    *,
    directory: Path,
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> LiveServer:
    """Start `app` and return once it accepts connections.

    `settings` becomes `CHANNELS_SECURE` of tests.settings; `environ` is added to this process's environment;
    `arguments` go to the server's command line; the log is kept in `directory`. Raises `tests.services.ServiceError`
    with the log.
    """
    port = free_port(HOST)
    log_path = directory / f"{kind}-{port}.log"
    with log_path.open("wb") as output:
        process = subprocess.Popen(
            command_line(kind, app, port, arguments),
            cwd=ROOT,
            env=environment(settings or {}, environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(process, lambda: accepts_connections(HOST, port), log_path)
    except BaseException:
        stop_process(process, first=signal.SIGKILL)
        raise
    return LiveServer(kind=kind, port=port, process=process, log_path=log_path)


def command_line(kind: ServerKind, app: str, port: int, arguments: Sequence[str]) -> list[str]:
    if kind == "daphne":
        return [sys.executable, "-m", "daphne", "-b", HOST, "-p", str(port), "-v", "1", *arguments, app]
    return [sys.executable, "-m", "uvicorn", "--host", HOST, "--port", str(port), *arguments, app]


def environment(settings: Mapping[str, Any], extra: Mapping[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "CHANNELS_SECURE_TEST_DATABASE_NAME": str(connections["default"].settings_dict["NAME"]),
        "CHANNELS_SECURE_TEST_SETTINGS": json.dumps(settings),
        **extra,
    }


class ServerPool:
    """Servers that end together."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: list[LiveServer] = []
        self.by_arguments: dict[str, LiveServer] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all of them; whoever asks for one again gets a new one."""
        while self.servers:
            self.servers.pop().stop()

    def start(self, kind: ServerKind, app: str = APP, **options: Any) -> LiveServer:
        """Start a server; the options are those of `start_server`."""
        server = start_server(kind, app, directory=self.directory, **options)
        self.servers.append(server)
        return server

    def shared(self, kind: ServerKind, app: str = APP, **options: Any) -> LiveServer:
        """Return the server started with equal arguments, starting it the first time or when a test has ended it."""
        key = json.dumps([kind, app, options], sort_keys=True)
        server = self.by_arguments.get(key)
        if server is None or server.process.poll() is not None:
            server = self.by_arguments[key] = self.start(kind, app, **options)
        return server
