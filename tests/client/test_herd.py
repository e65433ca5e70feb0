"""Many clients lose one server at one moment: they come back spread, by the numbers that they choose.

What is asserted is what each chose, so that no machine is too slow for it; `tests.benchmarks.herd` measures the rest.
"""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from channels_secure.client import Backoff, Ending, SecureSocket, SocketState
from channels_secure.lifespan import COME_BACK
from tests.client.restarting import Restarting
from tests.client.scripted import until
from tests.live.servers import ServerKind

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS = 60
SETTINGS: dict[str, Any] = {
    "ALLOW_MISSING_ORIGIN": "always",
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": None, "user": None},
}
APP = "tests.client.app:application"


class Member:
    """One of the herd, whose chance is known."""

    def __init__(self, url: str, number: int) -> None:
        self.chance = random.Random(number).random()
        self.told: Ending | None = None
        self.wait = 0.0
        backoff = Backoff(jitter=random.Random(number).random)
        self.socket = SecureSocket(url, proxy=None, backoff=backoff, on_state=self.note)

    def note(self, state: SocketState) -> None:
        if state is SocketState.WAITING and self.told is None:
            self.told, self.wait = self.socket.ending, self.socket.retry_in or 0.0

    @property
    def expected(self) -> float:
        """The wait by what it was told: uvicorn closes with 1012 and no word; on Daphne, the application says when."""
        assert self.told is not None
        if self.told.shared:
            return 10.0 * self.chance
        assert self.told.retry_after is not None
        assert COME_BACK[0] <= self.told.retry_after <= COME_BACK[1]
        return self.told.retry_after + 0.5 * self.chance


async def test_a_busy_server_that_goes_tells_its_whole_herd_to_spread(
    kind: ServerKind, tmp_path: Path, django_db_setup: None
) -> None:
    """Its event loop is busy for longer than autobahn gives a goodbye of Daphne's: more than a second."""
    server = Restarting(kind, APP, tmp_path, SETTINGS)
    herd = [Member(f"{server.url}/answering/laborious/", number) for number in range(CLIENTS)]
    try:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(server.start)
            await asyncio.gather(*(stack.enter_async_context(member.socket) for member in herd))
            await asyncio.to_thread(server.stop, SIGTERM)
            await until(lambda: all(member.told for member in herd))
    finally:
        await asyncio.to_thread(server.stop)
    assert [member.wait for member in herd] == pytest.approx([member.expected for member in herd])
    # Over ten seconds: were they not spread, all would stand in one slot of a tenth of a second.
    assert max(Counter(int(member.wait * 10) for member in herd).values()) <= CLIENTS / 6
