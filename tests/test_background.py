"""Errands: kept alive while they run, and holding nothing afterwards."""

import asyncio
import gc
import logging
import weakref

import pytest

from channels_secure import background
from channels_secure.background import spawn, start


async def test_an_errand_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("odd")

    task = start(fail())
    await asyncio.wait({task})
    assert [record.getMessage() for record in caplog.records] == ["errand.failed"]


async def test_an_errand_that_nobody_holds_is_not_lost() -> None:
    done = asyncio.Event()
    gates: list[asyncio.Future[None]] = []

    async def run() -> None:
        gate = asyncio.get_running_loop().create_future()
        gates.append(gate)
        await gate
        done.set()

    spawn(run())
    await asyncio.sleep(0)
    gc.collect()
    gates[0].set_result(None)
    async with asyncio.timeout(5):
        await done.wait()
    await asyncio.sleep(0)
    assert background._errands == {}


async def _wait() -> None:
    await asyncio.Event().wait()


async def _begin() -> None:
    spawn(_wait())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_closed_over_its_errands_is_forgotten_when_another_begins_some() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_begin())
    # What asyncio says of a task that is thrown away is the project's to hear, and not this test's.
    loop.set_exception_handler(lambda loop, context: None)
    loop.close()
    known = weakref.ref(loop)
    del loop
    asyncio.run(_begin())
    gc.collect()
    assert known() is None
    assert background._errands == {}


def test_after_the_last_loop_an_errand_is_left_undone_and_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "channels_secure")
    spawn(_wait())
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["errand"]) == ("errand.left_undone", "_wait")
