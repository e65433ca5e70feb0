"""One of several processes that use a store at the same time: `python -m tests.stores.racing <url> <prefix> <what>`.

It says `ready`, begins when a line comes in, and prints what it got as JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from channels_secure.policy.rates import Rate
from channels_secure.stores.base import Slot, spend
from channels_secure.stores.redis import RedisStore

BUDGET = Rate.parse("200/d")
LIMIT = 10
TICKETS = 50
PATIENT = 10.0


async def leases(store: RedisStore) -> int:
    """Four sockets of one user send until they are refused, and go on for a while."""
    limiter = store.hold("message:user:1", BUDGET)

    async def send() -> int:
        passed = 0
        for _ in range(200):
            passed += await spend(limiter, time.monotonic()) == 0
            await asyncio.sleep(0)
        return passed

    return sum(await asyncio.gather(*(send() for _ in range(4))))


async def takes(store: RedisStore) -> int:
    waits = await asyncio.gather(*(store.take("handshake:user:1", BUDGET) for _ in range(300)))
    return sum(wait == 0 for wait in waits)


async def claims(store: RedisStore) -> int:
    assert store.slots is not None
    slots = [
        Slot(id=f"{time.monotonic_ns()}-{number}", owner="1", since=time.time(), limits={"user:1": LIMIT})
        for number in range(40)
    ]
    answers = await asyncio.gather(*(store.slots.claim(slot, replaces=False) for slot in slots))
    return answers.count(None)


async def redemptions(store: RedisStore) -> int:
    assert store.tickets is not None
    answers = await asyncio.gather(*(store.tickets.pop(f"digest{number}") for number in range(TICKETS)))
    return TICKETS - answers.count(None)


WHAT: dict[str, Callable[[RedisStore], Awaitable[int]]] = {
    "leases": leases,
    "takes": takes,
    "claims": claims,
    "redemptions": redemptions,
}


async def race(url: str, prefix: str, what: str) -> None:
    store = RedisStore(location=url, prefix=prefix, socket_timeout=PATIENT)
    await store.take("warm", BUDGET)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    got = await WHAT[what](store)
    print(json.dumps({"got": got, "away": store.is_away}), flush=True)
    await store.rest()


if __name__ == "__main__":
    asyncio.run(race(*sys.argv[1:4]))
