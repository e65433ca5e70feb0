"""What the tests of open sockets share: a quiet end, peers that behave badly, and the rows of the audit trail."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from channels_secure import audit, supervisor
from channels_secure.connections import Connection, registry
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.models import AuditEvent
from channels_secure.stores import get_store
from channels_secure.testing import SecureCommunicator, guarded

PATIENCE = 10.0


@pytest.fixture
async def quiet(caplog: pytest.LogCaptureFixture, settings: Any) -> AsyncIterator[None]:
    """After the test no socket is registered, no limiter held, no task pending, and asyncio has nothing to complain of.

    Modules take it with ``pytestmark = pytest.mark.usefixtures("quiet")`` after importing it. Each test gets a channel
    layer of its own: what is left in one would reach the next test.
    """
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    yield
    await calm()
    assert [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"] == []


async def at_rest(patience: float = PATIENCE) -> None:
    """Wait until every socket has ended and no task is left."""
    async with asyncio.timeout(patience):
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await audit.flush()
            supervisor.current().wake()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert len(registry()) == 0


async def calm() -> None:
    """Wait for what is under way to end, and insist that nothing is left."""
    await at_rest()
    assert registry().by_user == {}
    assert registry().by_address == {}
    assert holders() == 0


def holders() -> int:
    """How many limiters sockets hold."""
    buckets = get_store()._buckets  # type: ignore[attr-defined]  # of the store in memory
    return sum(bucket.holders for bucket in buckets.values())


async def rows(**which: Any) -> list[AuditEvent]:
    """The rows of the audit trail, oldest first, with all that has been recorded until now."""
    await audit.flush()
    return [event async for event in AuditEvent.objects.filter(**which).order_by("id")]


async def kinds() -> list[str]:
    return [f"{event.kind} {event.reason}".strip() for event in await rows()]


def only_connection() -> Connection:
    """The one socket that is open."""
    (connection,) = registry()
    return connection


async def swept() -> None:
    """A whole pass of the supervisor, begun after this call, has ended."""
    watcher = supervisor.current()
    for _ in range(2):
        watcher.wake()
        await until(lambda: not watcher._awake.is_set())


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until something holds; for what nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            # Not 0: a loop that spins takes the interpreter's lock back before the database's threads wake up for it.
            await asyncio.sleep(0.001)


class Echo(SecureJsonConsumer):
    """A drop-in consumer for anybody, which says back what it hears."""

    allow_anonymous = True

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)


class StalledPeer(SecureCommunicator):
    """A peer that reads nothing after `window` more events: the server's `send` waits, as on a full TCP buffer."""

    def stall(self, window: int = 0) -> None:
        self.output_queue._maxsize = window or 1
        if not window:
            self.output_queue.put_nowait({"type": "in the buffer"})


def connect(consumer: type[SecureJsonConsumer], path: str = "/ws/", **options: Any) -> SecureCommunicator:
    """A communicator for one consumer behind the whole stack."""
    return SecureCommunicator(guarded(consumer.as_asgi()), path, **options)


async def told(socket: SecureCommunicator) -> tuple[str, int | None]:
    """How a socket was closed: the code of its error frame, and the close code; both must name the same reason."""
    frame = await socket.receive_json_from()
    assert frame["type"] == "error", frame
    assert frame["fatal"] is True
    code, reason = await socket.closing()
    assert reason == frame["code"]
    return reason, code


async def ask(socket: SecureCommunicator, content: Any) -> Any:
    """Send a message and return the next frame."""
    return await ask_raw(socket, json.dumps(content))


async def ask_raw(socket: SecureCommunicator, text: str) -> Any:
    """Send a text, message or not, and return the next frame."""
    await socket.send_text(text)
    return await socket.receive_json_from()


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """The package's own words at `level` and above."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("channels_secure") and record.levelno >= level
    ]


Call = Callable[[Any, Any, Any], Awaitable[None]]
