"""Four real processes at one server: what they get together is exactly what there is."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from channels_secure.stores.redis import RedisStore
from tests.stores.racing import BUDGET, LIMIT, TICKETS, WHAT

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 4
TIMEOUT = 60


def race(url: str, prefix: str, what: str) -> list[int]:
    """Start them, let all begin at once, and return what each got."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.stores.racing", url, prefix, what],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        results = [json.loads(racer.communicate(timeout=TIMEOUT)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert not any(result["away"] for result in results)
    return [result["got"] for result in results]


@pytest.mark.parametrize(("what", "together"), [("leases", BUDGET.amount), ("takes", BUDGET.amount), ("claims", LIMIT)])
def test_four_racing_processes_get_exactly_what_there_is(redis_url: str, prefix: str, what: str, together: int) -> None:
    assert sum(race(redis_url, prefix, what)) == together


def test_four_racing_processes_redeem_every_ticket_once(redis_url: str, prefix: str) -> None:
    store = RedisStore(location=redis_url, prefix=prefix)
    assert store.tickets is not None
    for number in range(TICKETS):
        store.tickets.put_now(f"digest{number}", "content", 60)
    assert sum(race(redis_url, prefix, "redemptions")) == TICKETS


def test_the_racers_cover_everything_that_is_shared() -> None:
    assert set(WHAT) == {"leases", "takes", "claims", "redemptions"}
    assert asyncio.iscoroutinefunction(WHAT["leases"])
