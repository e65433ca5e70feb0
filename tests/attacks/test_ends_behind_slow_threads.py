"""A server process that ends while permissions hang: neither the loop nor the end waits for each thread."""

import asyncio
import threading
import time

import pytest

from channels_secure import database
from channels_secure.lifespan import ENDING, finish

pytestmark = pytest.mark.django_db(transaction=True)


async def test_threads_that_hang_hold_up_an_end_once_and_the_loop_never() -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        gate.wait(30)

    asks = (database.ask_project, database.ask_project, database.run, database.run, database.review)
    jobs = [asyncio.ensure_future(ask(hang)) for ask in asks]
    for _ in jobs:
        await asyncio.to_thread(begun.acquire)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    began = time.monotonic()
    try:
        assert await finish([]) == 0
    finally:
        took = time.monotonic() - began
        turning.cancel()
        gate.set()
        await asyncio.gather(*jobs)
    assert took < 2.5 * ENDING
    assert turns > 10
