"""A PostgreSQL server of one test module, to be stopped, paused and started again under live processes.

Pausing needs Linux: the server's processes are found in /proc, because each has a process group of its own.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests import services

ROOT = Path(__file__).resolve().parents[2]


class OwnPostgreSQL:
    """A server with its data in `directory`, which belongs to `account` where we are root."""

    def __init__(self, directory: Path, account: str | None) -> None:
        self.directory, self.account = directory, account
        self.binaries = services._postgresql_binaries(directory, copy=account is not None)
        self.url = f"postgresql://postgres@/postgres?host={directory}"
        self.process: subprocess.Popen[bytes] | None = None
        options = ["--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C", "--username=postgres"]
        initdb = [str(self.binaries / "initdb"), "-D", str(directory / "data"), *options]
        with self._log() as output:
            subprocess.run(initdb, check=True, **self._how(output))

    @property
    def environ(self) -> dict[str, str]:
        """What makes `tests.settings` use this server."""
        return {
            "DATABASE": "postgresql",
            "CHANNELS_SECURE_TEST_DATABASE_URL": self.url,
            "CHANNELS_SECURE_TEST_DATABASE_NAME": "postgres",
        }

    def start(self) -> None:
        """Start it, and return when it answers."""
        flags = ["listen_addresses=", f"unix_socket_directories={self.directory}", "fsync=off", "full_page_writes=off"]
        data = str(self.directory / "data")
        command = [str(self.binaries / "postgres"), "-D", data, *(part for flag in flags for part in ("-c", flag))]
        with self._log() as output:
            self.process = subprocess.Popen(command, **self._how(output))
        services.wait_until_ready(self.process, lambda: services._answers_queries(self.url), self.directory / "log")

    def stop(self) -> None:
        """End it at once: clients are cut off, as by a crash; it recovers at the next start."""
        if self.process is not None:
            self.resume()
            services.stop_process(self.process, first=signal.SIGQUIT)
            self.process = None

    def pause(self) -> None:
        """Stop the clock of all its processes: connections are accepted and nothing is ever answered."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in reversed(self._pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Run one statement; its rows, if it has any."""
        with self.connect() as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

    def run(self, source: str) -> str:
        """Run some Python in a Django process of its own on this database; what it prints."""
        finished = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{source}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.settings", **self.environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if finished.returncode:
            raise AssertionError(finished.stderr[-4000:])
        return finished.stdout.strip()

    def _pids(self) -> list[int]:
        """The server's process and its children, itself first so that it makes no more of them."""
        if self.process is None:
            return []
        own, found = self.process.pid, [self.process.pid]
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The name, in brackets, may hold anything; the parent is the second word after it.
                if int(path.read_text().rpartition(")")[2].split()[1]) == own:
                    found.append(int(path.parent.name))
        return found

    def _log(self) -> Any:
        return (self.directory / "log").open("ab")

    def _how(self, output: Any) -> dict[str, Any]:
        return {"cwd": self.directory, "user": self.account, "stdout": output, "stderr": subprocess.STDOUT}


@contextlib.contextmanager
def own_postgresql() -> Iterator[OwnPostgreSQL]:
    """Yield a server that runs, with the tables of `tests.settings`."""
    account = services._unprivileged_account()
    with tempfile.TemporaryDirectory(prefix="cs-own-pg-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        if account:
            shutil.chown(directory, account)
        server = OwnPostgreSQL(directory, account)
        try:
            server.start()
            server.run("from django.core.management import call_command; call_command('migrate', verbosity=0)")
            yield server
        finally:
            server.stop()
