"""Servers that end under load lose no event that a client saw, and record none twice; `make faults` has many more."""

import signal
from pathlib import Path

import pytest

from tests.faults.runs import ENDS, perform
from tests.live.servers import ServerKind, ServerPool

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _nobody_else_writes(shared_servers: ServerPool) -> None:
    shared_servers.stop()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_what_clients_saw_of_a_server_that_ends_is_in_the_trail_once(
    kind: ServerKind, end: signal.Signals, tmp_path: Path
) -> None:
    run = perform(kind, end, tmp_path, seed=int(kind == "daphne"))
    assert run.complaints == []
    assert (run.lost, run.twice) == (0, 0)
    assert run.recorded >= run.seen > 20
