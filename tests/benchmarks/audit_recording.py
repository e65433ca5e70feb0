"""What recording one event takes of the event loop, beside a message of plain Channels in the same run."""

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable
from statistics import median

from django.test import override_settings

from channels_secure import audit
from tests.benchmarks import subjects
from tests.benchmarks.local import Peer, scope
from tests.benchmarks.project import GENEROUS, log_in

PLAIN = "a message of plain Channels"
SINGLE, ADDED = "an event of its own, in memory", "an event that is added to a sum, in memory"
SPOOLED_SINGLE, SPOOLED_ADDED = "an event of its own, with a spool", "an event that is added to a sum, with a spool"
MESSAGES = 100
# A minute has room for 600 rows.
SINGLES, ADDITIONS = 500, 2000
SOURCE = audit.Source(
    ip="192.0.2.1",
    prefix="192.0.2.1",
    path="/ws/chat/",
    origin="https://example.com",
    user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    connection_id="0123456789abcdef",
)
DETAIL = {"by": "client", "code": 1000, "duration": 1.25, "received": 10, "sent": 12}


async def measure(rounds: int) -> dict[str, float]:
    """Microseconds each, the medians of interleaved rounds."""
    samples: dict[str, list[float]] = {PLAIN: [], SINGLE: [], ADDED: [], SPOOLED_SINGLE: [], SPOOLED_ADDED: []}
    cookie = await asyncio.to_thread(log_in)
    with tempfile.TemporaryDirectory(prefix="channels-secure-bench-") as directory:
        spooled = {**GENEROUS, "AUDIT_SPOOL_DIR": directory}
        async with Peer(subjects.application, scope(subjects.PLAIN.path, cookie)) as peer:
            await peer.exchange(subjects.PLAIN.text, MESSAGES)
            for _ in range(rounds):
                samples[PLAIN].append(await peer.exchange(subjects.PLAIN.text, MESSAGES) / MESSAGES * 1e6)
                samples[SINGLE].append(_batch(_begin, SINGLES))
                samples[ADDED].append(_batch(_refuse, ADDITIONS))
                with override_settings(CHANNELS_SECURE=spooled):
                    samples[SPOOLED_SINGLE].append(_batch(_begin, SINGLES))
                    samples[SPOOLED_ADDED].append(_batch(_refuse, ADDITIONS))
        audit.reset()
    return {name: median(found) for name, found in samples.items()}


def _begin() -> None:
    audit.record("connection.closed", source=SOURCE, detail=DETAIL)


def _refuse() -> None:
    audit.record("message.denied", "invalid_message", source=SOURCE)


def _batch(act: Callable[[], None], count: int) -> float:
    """Record so often from an empty queue, which nobody drains; the microseconds of each."""
    audit.reset()
    gc.collect()
    started = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - started) / count * 1e6
