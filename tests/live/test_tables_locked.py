"""Tables of users and sessions that are locked for long, under real servers, as failure-modes.md says."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.live.own_postgresql import OwnPostgreSQL
from tests.live.servers import LiveServer
from tests.live.test_database_away import (  # noqa: F401 - the fixtures that the tests ask for
    ORIGIN,
    SETTINGS,
    SLACK,
    Open,
    alice,
    assert_unavailable,
    closed_with,
    database,
    serve,
    wait_for,
)

pytestmark = pytest.mark.live

FAR, GRACE = "127.0.0.77", 3
DISCONNECT = f"from channels_secure.connections import disconnect; disconnect(ip={FAR!r})"


def test_locked_for_long_they_cost_those_whose_look_was_due_and_decisions_still_arrive(
    serve: Callable[..., LiveServer],  # noqa: F811
    database: OwnPostgreSQL,  # noqa: F811
    alice: dict[str, Any],  # noqa: F811
) -> None:
    server = serve({**SETTINGS, "REVALIDATE_GRACE": GRACE})
    with Open(server, alice) as sockets, server.websocket("/echo/", origin=ORIGIN, source=FAR) as far:
        sockets.answer()
        with database.connect() as holder, holder.transaction():
            holder.execute("LOCK TABLE django_session IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            # Of an address: what names a user asks for them, and would wait as well where their table is locked.
            database.run(DISCONNECT)
            assert closed_with(far, SLACK) == ("disconnected", 4440)
            assert closed_with(sockets.session, 11 + SLACK) == ("unavailable", 4503)
            assert time.monotonic() - began > GRACE
            assert_unavailable(sockets.attempt(**sockets.with_session(1)), server.kind, "handshake_timeout")
            assert sockets.attempt(origin=ORIGIN).status == 101
        assert wait_for(server, lambda: sockets.attempt(**sockets.with_session(1)).status == 101)
