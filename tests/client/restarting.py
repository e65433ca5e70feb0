"""A server that stops and comes back on the port that it had."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Any

from tests.live.servers import HOST, ROOT, LiveServer, ServerKind, command_line, environment
from tests.services import accepts_connections, free_port, stop_process, wait_until_ready


class Restarting:
    """One server process after the other, on one port; `with` ends the last."""

    def __init__(
        self,
        kind: ServerKind,
        app: str,
        directory: Path,
        settings: Mapping[str, Any],
        arguments: Sequence[str] = (),
    ) -> None:
        self.kind, self.app, self.directory, self.settings = kind, app, directory, settings
        self.arguments, self.port = arguments, free_port(HOST)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Restarting":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    @property
    def live(self) -> LiveServer:
        """The process that runs now, as other tests know it."""
        assert self.process is not None
        return LiveServer(kind=self.kind, port=self.port, process=self.process, log_path=self.log)

    @property
    def log(self) -> Path:
        return self.directory / f"{self.kind}-{self.port}.log"

    def start(self) -> None:
        """Return once it accepts connections."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command_line(self.kind, self.app, self.port, self.arguments),
                cwd=ROOT,
                env=environment(self.settings, {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until_ready(self.process, lambda: accepts_connections(HOST, self.port), self.log)

    def stop(self, first: Signals = SIGTERM) -> None:
        if self.process is not None:
            stop_process(self.process, first=first)
