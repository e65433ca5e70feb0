"""A handler that runs for seconds on a real server: what its peer sends meanwhile, and that it may leave."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from channels_secure.consumers import ahead
from tests.live.raw import RawSocket
from tests.live.servers import LiveServer, ServerKind

pytestmark = pytest.mark.django_db(transaction=True)

APP = "tests.live.busy:application"
PATIENCE = 20.0
FRAMES = 2_000
ORIGIN = "https://example.com"
SETTINGS: dict[str, Any] = {
    "ALLOWED_ORIGINS": [ORIGIN],
    "TRUSTED_PROXIES": [],
    "MESSAGE_RATES": {"connection": None, "user": None},
    "ERROR_BUDGET": None,
    "AUTO_BLOCK_AFTER": None,
}
StartServer = Callable[..., LiveServer]
Condition = Callable[[dict[str, Any]], bool]


class Bench:
    """A worker's socket, and one that looks at it."""

    def __init__(self, worker: RawSocket, control: RawSocket) -> None:
        self.worker, self.control = worker, control

    def until(self, condition: Condition) -> dict[str, Any]:
        """Look until something holds of the worker."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.control.send_json({"type": "look"})
            (state,) = self.control.read_json()
            if condition(state):
                return dict(state)
            assert time.monotonic() < deadline, state

    def begin(self) -> None:
        self.worker.send_json({"type": "work"})
        self.until(lambda state: state["story"] == ["began"])

    def release(self) -> None:
        self.control.send_json({"type": "release"})
        assert self.control.read_json() == "released"

    def flood(self) -> None:
        for number in range(FRAMES):
            self.worker.send_json({"type": "count", "id": number, "number": number})


@pytest.fixture
def bench(server: StartServer, kind: ServerKind, request: pytest.FixtureRequest) -> Iterator[Bench]:
    options = getattr(request, "param", {})
    started = server(kind, APP, settings=SETTINGS | options.get("settings", {}), environ=options.get("environ", {}))
    with (
        started.websocket("/worker/", origin=ORIGIN) as worker,
        started.websocket("/control/", origin=ORIGIN) as control,
    ):
        yield Bench(worker, control)


def test_what_comes_while_a_handler_runs_is_read_kept_in_order_and_for_the_rest_refused(bench: Bench) -> None:
    bench.begin()
    bench.flood()
    state = bench.until(lambda state: state["received"] == FRAMES + 1)
    assert state["waiting"] == 0
    assert state["story"] == ["began"]
    bench.release()
    refused = []
    while (frame := bench.worker.read_json())["type"] == "error":
        assert (frame["code"], frame["fatal"]) == ("rate_limited", False)
        refused.append(frame["ref"])
    assert frame == {"type": "worked"}
    for number in range(ahead.MAX_FRAMES):
        assert bench.worker.read_json() == {"type": "counted", "number": number}
    assert refused[0] == ahead.MAX_FRAMES
    assert refused == sorted(refused)
    # The loop reads by itself again.
    bench.worker.send_json({"type": "count", "number": -1})
    assert bench.worker.read_json() == {"type": "counted", "number": -1}
    assert bench.until(lambda state: True)["received"] == FRAMES + 2


@pytest.mark.parametrize("kind", ["daphne"])
@pytest.mark.parametrize("bench", [{"environ": {"PATIENCE": "inf"}}], indirect=True)
def test_without_reading_ahead_daphne_keeps_it_all(bench: Bench) -> None:
    bench.begin()
    bench.flood()
    assert bench.until(lambda state: state["waiting"] == FRAMES)["received"] == 1


@pytest.mark.parametrize("bench", [{"settings": {"HEARTBEAT_INTERVAL": 1, "HEARTBEAT_TIMEOUT": 1}}], indirect=True)
def test_a_healthy_client_is_not_cut_while_its_handler_runs(bench: Bench) -> None:
    bench.begin()
    assert bench.worker.sent_nothing(within=3.5)
    bench.worker.send_json({"type": "ping", "id": 1})
    assert bench.worker.read_json() == {"type": "pong", "ref": 1}
    bench.release()
    assert bench.worker.read_json() == {"type": "worked"}
    for _ in range(2):
        assert bench.worker.read_json() == {"type": "ping"}
        bench.worker.send_json({"type": "pong"})
    bench.worker.send_json({"type": "count", "number": 1})
    assert bench.worker.read_json() == {"type": "counted", "number": 1}


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_peer_that_vanishes_is_noticed_and_its_handler_finishes(bench: Bench, how: str) -> None:
    bench.begin()
    bench.worker.send_json({"type": "count", "number": 1})
    if how == "close":
        bench.worker.send_close(1000)
    else:
        bench.worker.reset()
    state = bench.until(lambda state: bool(state["ended"]))
    assert state["story"] == ["began"]
    bench.release()
    bench.until(lambda state: "left" in state["story"])
    assert bench.until(lambda state: True)["story"] == ["began", "nobody there", "finished", "left"]
