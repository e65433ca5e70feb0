"""How long a block takes to reach 1,000 sockets in three processes: over a channel layer, and by looking alone."""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from django.contrib.auth import get_user_model
from django.test.utils import override_settings

from channels_secure.blocklist import block, unblock
from channels_secure.supervisor import push
from tests import services
from tests.benchmarks import severing, wire
from tests.benchmarks.project import log_in
from tests.benchmarks.report import Chart, Effort, Goal, Section, Table, late, show
from tests.live.servers import LiveServer, ServerKind

SERVERS: tuple[ServerKind, ...] = ("uvicorn", "uvicorn", "daphne")
COUNT = 999
SETTLE = 1.5
IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
BOUNDS = {"Redis": 100.0, "no shared layer": 1200.0}


def run(effort: Effort) -> Section:
    with services.own_redis() as server, tempfile.TemporaryDirectory() as directory:
        redis = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [server.url]}}}
        ways: dict[str, dict[str, Any]] = {"Redis": redis, "no shared layer": IN_MEMORY}
        found = {name: _cut(layers, Path(directory), effort.repeat(5, 1)) for name, layers in ways.items()}
    rows = [(name, show(median(seen)), show(late(seen)), show(max(seen))) for name, seen in found.items()]
    return Section(
        name="reach",
        title=f"A block reaches {COUNT} sockets in {len(SERVERS)} processes",
        tables=[Table(head=("ms from the commit to the close at the client", "p50", "p99", "latest"), rows=rows)],
        goals=[
            Goal(name=f"block to close, {name}: p99", measured=late(seen), bound=BOUNDS[name], unit=" ms", at_most=True)
            for name, seen in found.items()
        ],
        notes=["Two uvicorn and one Daphne; the client, which also blocks, shares the machine with them."],
        charts=[
            Chart(
                name="reach",
                title="ms from a block to the close at the client, p99",
                bars=[(name, late(seen)) for name, seen in found.items()],
            )
        ],
    )


def _cut(layers: dict[str, Any], directory: Path, rounds: int) -> list[float]:
    seen: list[float] = []
    with override_settings(CHANNEL_LAYERS=layers), _deployment(layers, directory) as servers:
        for number in range(rounds):
            seen += _block(servers, f"reach-{number}")
        push.finish()
    return seen


@contextlib.contextmanager
def _deployment(layers: dict[str, Any], directory: Path) -> Iterator[list[LiveServer]]:
    environ = {"CHANNELS_SECURE_TEST_CHANNEL_LAYERS": json.dumps(layers)}
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(wire.serve(kind, directory, "victims", environ=environ)) for kind in SERVERS]


def _block(servers: list[LiveServer], username: str) -> list[float]:
    cookie = log_in(username)
    user = get_user_model().objects.get(username=username)
    with contextlib.ExitStack() as stack:
        sockets = []
        for server in servers:
            opened = wire.open_sockets(server, "/idle/", cookie, COUNT // len(servers))
            sockets += [stack.enter_context(each) for each in opened]
        time.sleep(SETTLE)  # until the processes listen to the layer and rest, which no client can see
        block(user=user)
        committed = time.monotonic()
        moments = severing.watch(sockets)
    unblock(user=user)
    if len(moments) < COUNT:
        raise RuntimeError(f"{COUNT - len(moments)} sockets were not closed")
    return [(moment - committed) * 1000 for moment in moments]
