"""What a shared store costs: one message with either store, and the calls of a user who sends all the time."""

import asyncio
import gc
import time
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

from django.test.utils import override_settings
from redis import Redis

from channels_secure.policy.rates import Rate
from channels_secure.stores.base import spend
from channels_secure.stores.redis import RedisStore
from channels_secure.testing import guarded
from tests import services
from tests.benchmarks.local import Peer, scope
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, show
from tests.benchmarks.subjects import TYPED, Typed

MESSAGES = 5_000
# Never reached, so that every message is admitted; a rate as high borrows as much at once as any.
RATES = {"connection": "10000000/s", "user": "10000000/s"}
STEADY = Rate.parse("200/s")
SECONDS = 5.0


def run(effort: Effort) -> Section:
    with services.own_redis() as server:
        samples = asyncio.run(_measure(server.url, effort.repeat(40, 6)))
        sent, calls = asyncio.run(_steady(server.url, effort.choose(SECONDS, 1.0)))
    wall = {name: median(found) for name, found in samples.items()}
    ratio = wall["RedisStore"] / wall["MemoryStore"]
    rows = [(name, show(value), show(min(samples[name]))) for name, value in wall.items()]
    return Section(
        name="stores",
        title="A shared store",
        tables=[Table(head=("µs per message", "median", "least"), rows=rows)],
        goals=[
            Goal(
                name="message: RedisStore against MemoryStore", measured=ratio, bound=1.3, unit=" times", at_most=True
            ),
            Goal(name=f"messages per call at {STEADY}, sustained", measured=sent / calls, bound=20),
        ],
        notes=["The server runs on the same machine; its share of a message is in the figure."],
        charts=[Chart(name="stores", title="µs per message by store, median", bars=list(wall.items()))],
    )


async def _measure(url: str, rounds: int) -> dict[str, list[float]]:
    options: dict[str, dict[str, Any]] = {
        "MemoryStore": {"BACKEND": "channels_secure.stores.memory.MemoryStore"},
        "RedisStore": {"BACKEND": "channels_secure.stores.redis.RedisStore", "LOCATION": url},
    }
    cookie = await asyncio.to_thread(log_in)
    samples: dict[str, list[float]] = {name: [] for name in options}
    async with AsyncExitStack() as stack:
        peers = {}
        for name, store in options.items():
            with override_settings(CHANNELS_SECURE={"STORE": store, "MESSAGE_RATES": RATES, "REQUIRE_WSS": False}):
                peers[name] = await stack.enter_async_context(Peer(guarded(Typed.as_asgi()), scope("/", cookie)))
            await peers[name].exchange(TYPED.text, MESSAGES)
        for _ in range(rounds):
            for name, peer in peers.items():
                gc.collect()
                samples[name].append(await peer.exchange(TYPED.text, MESSAGES) / MESSAGES * 1e6)
    return samples


async def _steady(url: str, seconds: float) -> tuple[int, int]:
    """A socket that sends at the rate, and as many messages and calls as that came to."""
    store = RedisStore(location=url, prefix="steady:")
    limiter = store.hold("message:user:1", STEADY)
    with Redis.from_url(url) as client:
        client.config_resetstat()
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            await spend(limiter, time.monotonic())
            sent += 1
            await asyncio.sleep(max(0.0, began + sent * STEADY.period / STEADY.amount - time.monotonic()))
        statistics: Any = client.info("commandstats")
    await store.rest()
    return sent, sum(statistics.get(name, {"calls": 0})["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval"))
