"""The end of a server process: goodbyes, the last rows, and an end in time whatever hangs."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from channels_secure import audit, database, supervisor
from channels_secure import lifespan as room
from channels_secure.connections import registry
from channels_secure.lifespan import lifespan
from channels_secure.models import AuditEvent
from channels_secure.testing import SecureCommunicator, guarded
from tests.endings import Stubborn
from tests.live.servers import LiveServer, ServerKind
from tests.sockets import Echo, logged, rows, told, until
from tests.test_database import run_to_the_end

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "https://chat.example.com"
SETTINGS = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None},
    "MAX_CONNECTIONS": {"ip": None},
}


async def run_lifespan() -> list[str]:
    """Start and stop; returns what the server was told."""
    said: list[str] = []
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(events)

    async def send(event: Any) -> None:
        said.append(event["type"])

    await lifespan({"type": "lifespan"}, receive, send)
    return said


# In process ----------------------------------------------------------------------------------------------------------


async def test_a_server_is_told_of_start_and_end() -> None:
    assert await run_lifespan() == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_every_socket_is_told_and_every_end_is_written_before_the_server_hears_of_it() -> None:
    sockets = [SecureCommunicator(guarded(Echo.as_asgi()), "/ws/") for _ in range(5)]
    for socket in sockets:
        assert (await socket.shake_hands()).accepted
    await run_lifespan()
    assert not audit.pending()
    assert [event.reason async for event in AuditEvent.objects.filter(kind="connection.closed")] == [
        "server_restart"
    ] * 5
    assert {thread.name for thread in threading.enumerate()} & {database.READERS, database.WRITERS} == set()
    waits = set()
    for socket in sockets:
        frame = await socket.receive_json_from()
        assert (frame["code"], frame["reconnect"]) == ("server_restart", True)
        waits.add(frame["retry_after"])
        assert (await socket.closing())[0] == 4505
    # They do not all come back at one moment.
    assert len(waits) > 1
    assert all(1 <= wait <= 10 for wait in waits)


async def test_a_handler_that_does_not_end_delays_the_end_by_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "GOODBYES", 0.05)
    released = asyncio.Event()

    class Hanging(Stubborn):
        gate = released

    socket = SecureCommunicator(guarded(Hanging.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to(1)
    assert await socket.receive_json_from() == "begun"
    began = time.monotonic()
    await run_lifespan()
    assert time.monotonic() - began < 3
    assert not socket.future.done()
    released.set()
    assert await told(socket) == ("server_restart", 4505)
    assert [event.reason for event in await rows(kind="connection.closed")] == ["server_restart"]


async def test_a_database_that_hangs_does_not_hang_the_shutdown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "WRITING", 0.05)
    gate = threading.Event()
    hanging = asyncio.create_task(database.write(gate.wait))
    await asyncio.sleep(0)
    audit.record("connection.accepted", connection_id="waits")
    began = time.monotonic()
    await run_lifespan()
    assert time.monotonic() - began < 3
    assert audit.pending(), "kept, in case an exit hook still has a chance"
    assert logged(caplog) == ["audit.unwritable", "audit.lost"]
    gate.set()
    assert await hanging
    assert [event.connection_id for event in await rows()] == ["waits"]


async def test_writing_is_tried_again_until_everything_is_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from channels_secure.audit import writer

    real, fails = writer.store, iter([True, True])

    def store(rows: Any) -> None:
        if next(fails, False):
            raise OperationalError("database is locked")
        real(rows)

    monkeypatch.setattr(writer, "store", store)
    audit.record("connection.accepted", connection_id="late")
    assert await audit.flush_all(10) == 0
    assert [event.connection_id async for event in AuditEvent.objects.all()] == ["late"]
    assert logged(caplog) == ["audit.unwritable", "audit.writable"]


async def test_writing_ends_in_time_when_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from channels_secure.audit import writer

    tries = []

    def store(rows: Any) -> None:
        tries.append(rows)
        raise OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "store", store)
        audit.record("connection.accepted")
        began = time.monotonic()
        assert await audit.flush_all(0.05) == 1
        assert time.monotonic() - began < 3
        assert len(tries) == 1, "with a pause after each try"
    assert await audit.flush_all(10) == 0


async def test_connections_that_nobody_ended_are_recorded_once_at_exit() -> None:
    socket = SecureCommunicator(guarded(Echo.as_asgi()), "/ws/")
    assert (await socket.shake_hands()).accepted

    class Slow(Echo):
        async def connect(self) -> None:
            await asyncio.Event().wait()

    pending = SecureCommunicator(guarded(Slow.as_asgi()), "/ws/")
    await pending.send_input({"type": "websocket.connect"})
    await until(lambda: len(registry()) == 2)
    supervisor.record_ends()
    supervisor.record_ends()
    (closed,) = await rows(kind="connection.closed")
    assert (closed.reason, closed.detail["detail"]) == ("server_restart", "the process ended")
    for one in (socket, pending):
        one.future.cancel()
        await asyncio.wait({one.future})


def test_a_forked_child_does_not_end_its_parents_connections() -> None:
    code = (
        "import asyncio\n"
        "from channels_secure.supervisor import supervisor\n"
        "async def main():\n"
        "    supervisor.current()\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(17 if len(supervisor._supervisors) else 18)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 18\n"
        "    assert len(supervisor._supervisors) == 1\n"
        "asyncio.run(main())\n"
    )
    finished = run_to_the_end(code)
    assert (finished.returncode, finished.stderr) == (0, "")


# On servers ----------------------------------------------------------------------------------------------------------


def ends_in(server: LiveServer, first: signal.Signals) -> float:
    began = time.monotonic()
    server.stop(first=first, timeout=25)
    return time.monotonic() - began


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_no_end_of_a_socket_is_lost_when_a_server_is_stopped(
    server: Callable[..., LiveServer], kind: ServerKind, first: signal.Signals
) -> None:
    # Without a time-out of its own uvicorn waits for the hanging handlers until theirs.
    arguments = ["--timeout-graceful-shutdown", "1"] if kind == "uvicorn" else []
    running = server(kind, settings=SETTINGS, arguments=arguments)
    with contextlib.ExitStack() as stack:
        paths = ["/echo/", "/odd/", "/odd/", "/odd/", "/odd/?disconnect=hang"]
        sockets = [stack.enter_context(running.websocket(path, origin=ORIGIN)) for path in paths]
        for raw, message in zip(sockets[1:], ["hang", "hang.stubbornly", "flood"], strict=False):
            raw.send_json({"type": message})
        sockets[0].send_json([1])
        assert sockets[0].read_json() == [1]
        assert ends_in(running, first) < 10, running.log()[-3000:]
        closing = sockets[0].read_until_closed()
        if kind == "daphne":
            assert (closing.code, closing.json_frames()[0]["code"]) == (4505, "server_restart")
        else:
            # uvicorn closes its sockets itself before it tells the application.
            assert closing.code == 1012
    closed = AuditEvent.objects.filter(kind="connection.closed")
    assert closed.count() == len(sockets), running.log()[-3000:]
    if kind == "daphne":
        assert set(closed.values_list("reason", flat=True)) == {"server_restart"}
    assert "audit.lost" not in running.log()


@pytest.mark.parametrize(
    ("kind", "first"), [("daphne", signal.SIGTERM), ("daphne", signal.SIGINT), ("uvicorn", signal.SIGINT)]
)
def test_without_lifespan_no_end_is_lost_either(
    server: Callable[..., LiveServer], kind: ServerKind, first: signal.Signals
) -> None:
    """Not so on uvicorn at SIGTERM: it dies of the signal as soon as it has closed its sockets, and runs no hook."""
    running = server(kind, "tests.endings:calm", settings=SETTINGS)
    with running.websocket("/", origin=ORIGIN) as raw:
        raw.send_json([1])
        assert raw.read_json() == [1]
        assert ends_in(running, first) < 10
    assert AuditEvent.objects.filter(kind="connection.closed").count() == 1, running.log()


def test_daphne_records_the_end_of_a_handler_that_never_ends(server: Callable[..., LiveServer]) -> None:
    running = server("daphne", "tests.endings:stubborn", settings=SETTINGS)
    with running.websocket("/", origin=ORIGIN) as raw:
        raw.send_json([1])
        assert raw.read_json() == "begun"
        assert ends_in(running, signal.SIGTERM) < 10
    (closed,) = AuditEvent.objects.filter(kind="connection.closed")
    assert closed.reason == "server_restart"


def test_a_database_that_is_locked_does_not_keep_a_server_from_ending(
    server: Callable[..., LiveServer], kind: ServerKind
) -> None:
    """On SQLite a writer waits for its own time-out, on PostgreSQL for ever."""
    running = server(kind, settings=SETTINGS)
    with running.websocket("/echo/", origin=ORIGIN) as raw:
        raw.send_json([1])
        assert raw.read_json() == [1]
        with transaction.atomic():
            with connection.cursor() as cursor:
                lock = "LOCK TABLE channels_secure_auditevent IN ACCESS EXCLUSIVE MODE"
                cursor.execute(lock if connection.vendor == "postgresql" else "SELECT 1")
            assert ends_in(running, signal.SIGTERM) < 20, running.log()[-3000:]
    assert running.process.returncode != -signal.SIGKILL
    assert running.log().count("audit.lost") == 1
