"""The package's threads: readers and writers apart, and nothing that can wait for ever."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connections

from channels_secure import blocklist, database, signals
from channels_secure.models import Block

ROOT = Path(__file__).resolve().parents[1]
SETUP = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'; django.setup()\n"


def run_to_the_end(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SETUP + code],
        cwd=ROOT,
        env={**__import__("os").environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("channels_secure.")}


async def test_readers_go_on_while_a_writer_waits() -> None:
    gate = threading.Event()
    writing = [asyncio.create_task(database.write(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await database.run(lambda: threading.current_thread().name) == database.READERS
    assert await asyncio.gather(*(database.run(int, number) for number in "12345")) == [1, 2, 3, 4, 5]
    assert not any(task.done() for task in writing)
    gate.set()
    assert await asyncio.gather(*writing) == [True, True, True]


async def test_writes_are_done_one_after_the_other_in_order() -> None:
    order: list[int] = []
    under_way = threading.Lock()

    def write(number: int) -> bool:
        with under_way:
            order.append(number)
        return under_way.locked()

    assert not any(await asyncio.gather(*(database.write(write, number) for number in range(20))))
    assert order == list(range(20))


@pytest.mark.parametrize("kind", [database.run, database.write])
async def test_what_a_function_raises_is_its_callers(kind: Any) -> None:
    for error in (OperationalError("away"), KeyError("x"), SystemExit(3)):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            await kind(fail)
    assert await kind(str, 1) == "1", "the thread has survived"


async def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    gate = threading.Event()
    done: list[int] = []
    first = asyncio.create_task(database.write(gate.wait))
    second = asyncio.create_task(database.write(done.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    gate.set()
    await first
    await database.write(done.append, 3)
    assert done == [3]


@pytest.mark.django_db(transaction=True)
async def test_a_receiver_that_makes_another_block_does_not_wait_for_its_own_turn(user: User) -> None:
    """A receiver of `block_created` runs inside the write; an asynchronous one in a loop and a thread of its own."""

    async def also_the_address(user: Any, **facts: Any) -> None:
        if user is not None:
            await blocklist.ablock(network="203.0.113.7", reason="with its user")

    signals.block_created.connect(also_the_address)
    try:
        async with asyncio.timeout(10):
            await blocklist.ablock(user=user)
    finally:
        signals.block_created.disconnect(also_the_address)
    assert await Block.objects.acount() == 2


@pytest.mark.django_db(transaction=True)
async def test_threads_that_end_close_their_connections(settings: Any) -> None:
    opened = []

    def open_connection() -> None:
        wrapper = connections["default"]
        wrapper.settings_dict = {**wrapper.settings_dict, "CONN_MAX_AGE": None}
        wrapper.ensure_connection()
        wrapper.close_at = None
        wrapper.inc_thread_sharing()
        opened.append(wrapper)

    await database.write(open_connection)
    [wrapper] = opened
    assert wrapper.connection is not None
    database.shutdown()
    assert wrapper.connection is None


async def test_after_a_shutdown_the_next_use_starts_anew() -> None:
    assert await database.run(int) == 0
    assert await database.write(int) == 0
    assert names() == {database.READERS, database.WRITERS}
    database.shutdown()
    assert names() == set()
    assert await database.write(int) == 0
    assert names() == {database.WRITERS}


async def test_a_shutdown_does_not_wait_for_a_database_that_hangs() -> None:
    gate = threading.Event()
    hanging = asyncio.create_task(database.write(gate.wait))
    await asyncio.sleep(0)
    began = time.monotonic()
    database.shutdown(0.01)
    assert time.monotonic() - began < 5
    assert not hanging.done()
    assert await database.write(int) == 0, "others have a thread again"
    gate.set()
    assert await hanging


async def test_what_waits_for_a_database_that_hangs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_WAITING", 3)
    gate, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait()

    first = asyncio.create_task(database.write(hang))
    await asyncio.to_thread(begun.wait)
    waiting = [asyncio.create_task(database.write(int)) for _ in range(3)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(OperationalError):
            async with asyncio.timeout(5):
                await database.write(int)
    finally:
        gate.set()
    await asyncio.gather(first, *waiting)
    assert await database.write(int) == 0


def test_a_forked_child_has_threads_of_its_own() -> None:
    code = (
        "import asyncio, warnings\n"
        "from channels_secure import database\n"
        "asyncio.run(database.run(int)); asyncio.run(database.write(int))\n"
        "warnings.simplefilter('ignore')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    asyncio.run(asyncio.wait_for(database.run(int), 10))\n"
        "    asyncio.run(asyncio.wait_for(database.write(int), 10))\n"
        "    os._exit(17)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 17\n"
    )
    finished = run_to_the_end(code)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_process_ends_though_its_database_hangs_and_says_what_is_lost() -> None:
    code = (
        "import asyncio, threading\n"
        "from channels_secure import audit, database\n"
        "from channels_secure.audit import recorder\n"
        "recorder.EXIT_PATIENCE = 0.1\n"
        "async def main():\n"
        "    started = threading.Event()\n"
        "    def hang():\n"
        "        started.set()\n"
        "        threading.Event().wait()\n"
        "    hanging = asyncio.create_task(database.write(hang))\n"
        "    await asyncio.to_thread(started.wait, 10)\n"
        "    audit.record('connection.accepted', connection_id='last words')\n"
        "asyncio.run(main())\n"
    )
    finished = run_to_the_end(code)
    assert (finished.returncode, finished.stderr.splitlines()) == (0, ["audit.unwritable", "audit.lost"])


async def test_a_thread_outlives_whatever_the_end_of_a_connection_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-django forbids databases to whoever asks outside a test of its own, and drivers raise what they like."""
    tried = threading.Event()

    def fails() -> None:
        tried.set()
        raise RuntimeError("not now")

    monkeypatch.setattr(database, "close_old_connections", fails)
    assert await database.run(int) == 0
    assert await asyncio.to_thread(tried.wait, 10)
    for _ in range(2 * database.THREADS[database.READERS]):
        assert await database.run(int) == 0
