"""Rows about what a hostile header costs, and about when the socket that a token opened ends."""

import hmac
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings

import tests.conformance.catalogue  # noqa: F401 - fills the table
from channels_secure import database
from channels_secure.auth.jwt import JWTAuthenticator
from channels_secure.conf import get_settings
from channels_secure.middleware import read_handshake
from channels_secure.policy import origins
from channels_secure.policy.decisions import Denial, Reason
from tests.conformance import drive
from tests.conformance.conftest import Judge
from tests.conformance.handshakes import bearer
from tests.conformance.table import TABLE, Handshake, Request
from tests.conformance.test_faults import row, settings
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)
OVERSIZE = (9_000, 100_000, 1_000_000, 5_000_000)


def best_of(count: int, work: Callable[[], object]) -> float:
    """The seconds of the quickest run: what the work takes, without what else the machine does."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def scope_of(request: Request) -> Any:
    return drive.communicator(request).scope


@row("origin-time", 6, "each Origin of the rows 5 to 8, 1 MB among them", "read and judged within 1 ms")
def test_no_origin_takes_long_to_read(judge: Judge) -> None:
    parse: Any = vars(origins)["_parse_origin"]
    with settings():
        for case in list(TABLE.values()):
            if not isinstance(case, Handshake) or case.row not in (5, 6, 7, 8):
                continue
            scope = scope_of(case.request(World()))

            def judged(scope: Any = scope) -> None:
                parse.cache_clear()
                handshake = read_handshake(scope, get_settings())
                if handshake.origin is not None:
                    get_settings().origins.allows(handshake.origin, host=handshake.host, secure=True)

            with judge.case(f"origin-time {case.id}", "communicator"):
                assert best_of(20, judged) < 0.001


@row("large-token", 30, "tokens of 9 kB, 100 kB, 1 MB and 5 MB", "refused within 5 ms, without a keyed hash or a query")
async def test_a_large_token_costs_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = 0
    genuine = hmac.new

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal hashes
        hashes += 1
        return genuine(*args, **kwargs)

    monkeypatch.setattr(hmac, "new", counted)
    with settings():
        world = await database.run(World)
        token = world.token()
        head, _, signature = token.split(".")
        for size in OVERSIZE:
            request = Request(headers=bearer(f"{head}.{'A' * size}.{signature}"))
            handshake = read_handshake(scope_of(request), get_settings())
            hashes, times = 0, []
            for _ in range(5):
                began = time.perf_counter()
                answer = await JWTAuthenticator().authenticate(handshake)
                times.append(time.perf_counter() - began)
                assert isinstance(answer, Denial)
                assert answer.reason is Reason.INVALID_CREDENTIALS
            assert hashes == 0
            assert min(times) < 0.005
        handshake = read_handshake(scope_of(Request(headers=bearer(token))), get_settings())
        assert not isinstance(await JWTAuthenticator().authenticate(handshake), Denial)
        assert hashes > 0, "the check above could not fail"


@row(
    "expiry-leeway",
    45,
    "a token that expired 10 s ago, within a leeway of 12 s",
    "accepted; 4419 when the leeway is over, at most a second late",
)
async def test_a_socket_ends_when_the_leeway_is_over() -> None:
    with settings(POLICY_REFRESH_INTERVAL=0.05), override_settings(SIMPLE_JWT={"LEEWAY": 12}):
        world = await database.run(World)
        over = int(time.time()) + 2
        peer = drive.communicator(Request(path="/typed/", headers=bearer(world.token(exp=over - 12))))
        assert (await peer.shake_hands()).accepted
        assert await peer.closing(4) == (4419, "credentials_expired")
        assert over <= time.time() < over + 1
