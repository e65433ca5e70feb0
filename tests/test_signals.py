"""Each public signal with a receiver that raises: the others are called, Django logs it, and nobody else notices."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.dispatch import Signal

from channels_secure import audit, blocklist, signals
from channels_secure.signals import (
    block_created,
    block_lifted,
    connection_accepted,
    connection_closed,
    event_recorded,
    handshake_denied,
    message_denied,
    store_degraded,
    store_recovered,
)
from channels_secure.stores.redis.store import RedisStore
from tests.sockets import Echo, ask, ask_raw, connect, quiet, rows, until  # noqa: F401
from tests.test_logging import within_one_minute

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

Facts = list[dict[str, Any]]
Listen = Callable[[Signal], Facts]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Connect a receiver that raises and, behind it, one that notes what it is sent."""
    connected: list[tuple[Signal, Any]] = []

    def fail(**_: Any) -> None:
        raise RuntimeError("this receiver is broken")

    def connect_both(signal: Signal) -> Facts:
        noted: Facts = []

        def note(signal: Signal, sender: Any, **facts: Any) -> None:
            noted.append(facts)

        for receiver in (fail, note):
            signal.connect(receiver, weak=False)
            connected.append((signal, receiver))
        return noted

    yield connect_both
    for signal, receiver in connected:
        signal.disconnect(receiver)


def complaints(caplog: pytest.LogCaptureFixture) -> int:
    """How often Django has said that a receiver raised."""
    return len([record for record in caplog.records if record.name == "django.dispatch"])


async def test_an_accepted_and_a_closed_connection(
    listen: Listen, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    accepted, closed = listen(connection_accepted), listen(connection_closed)
    async with connect(Echo, "/ws/chat/", user=user) as socket:
        assert await ask(socket, "hello") == "hello"
    await until(lambda: bool(accepted and closed))
    for facts in (accepted[0], closed[0]):
        assert (facts["user"], facts["ip"], facts["path"], facts["reason"]) == (user, "192.0.2.1", "/ws/chat/", "")
    assert accepted[0]["connection_id"] == closed[0]["connection_id"]
    assert complaints(caplog) == 2


async def test_a_refused_handshake(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    denied = listen(handshake_denied)
    outcome = await connect(Echo, origin="https://evil.example").shake_hands()
    await until(lambda: bool(denied))
    assert (outcome.status, denied[0]["reason"]) == (403, "origin_not_allowed")
    assert complaints(caplog) == 1


async def test_a_refused_message(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    denied = listen(message_denied)
    async with connect(Echo) as socket:
        assert (await ask_raw(socket, "{"))["code"] == "invalid_message"
        assert await ask(socket, "still here") == "still here"
        await until(lambda: bool(denied))
    assert denied[0]["reason"] == "invalid_message"
    assert complaints(caplog) == 1


async def test_a_block_made_and_lifted(listen: Listen, user: User, caplog: pytest.LogCaptureFixture) -> None:
    created, lifted = listen(block_created), listen(block_lifted)
    block = await blocklist.ablock(network="198.51.100.7", reason="scraping", by=user)
    await blocklist.aunblock(network="198.51.100.7", by=user)
    assert [facts["block"].pk for facts in (*created, *lifted)] == [block.pk, block.pk]
    assert created[0]["ip"] == "198.51.100.7/32"
    assert complaints(caplog) == 2
    assert [row.kind for row in await rows(kind__startswith="block.")] == ["block.created", "block.lifted"]


async def test_a_store_that_goes_away_and_comes_back(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    degraded, recovered = listen(store_degraded), listen(store_recovered)
    store = RedisStore(location="redis://127.0.0.1:1/0")
    store._breaker._on_change("TimeoutError")
    store._breaker._on_change(None)
    assert degraded == [{"store": "RedisStore", "error": "TimeoutError"}]
    assert recovered == [{"store": "RedisStore"}]
    assert complaints(caplog) == 2
    assert [row.kind for row in await rows(kind__startswith="store.")] == ["store.degraded", "store.recovered"]


async def test_an_event_of_the_trail(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    recorded = listen(event_recorded)
    audit.record("message.denied", "invalid_message", count=3)
    assert recorded == []
    audit.tell()
    assert recorded == [{"kind": "message.denied", "reason": "invalid_message", "count": 3}]
    assert [row.count for row in await rows()] == [3]
    assert complaints(caplog) == 1
    assert "audit.record_failed" not in caplog.text


async def test_an_event_stored_with_a_change_is_told_after_the_commit(listen: Listen, user: User) -> None:
    recorded = listen(event_recorded)
    await blocklist.ablock(user=user)
    assert {"kind": "block.created", "reason": "", "count": 1} in recorded


async def test_a_flood_of_events_is_told_in_full_and_with_few_calls(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    within_one_minute(monkeypatch)
    recorded = listen(event_recorded)
    for _ in range(1_000):
        audit.record("message.denied", "invalid_message")
    await audit.flush()
    assert recorded == [{"kind": "message.denied", "reason": "invalid_message", "count": 1_000}]


async def test_a_flood_of_many_reasons_keeps_few_of_them_in_memory(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    within_one_minute(monkeypatch)
    recorded = listen(event_recorded)
    for number in range(3_000):
        audit.record("message.denied", f"reason {number}")
    assert len(audit.recorder.state.untold) <= 257
    audit.tell()
    assert sum(facts["count"] for facts in recorded) == 3_000


async def test_a_coroutine_for_events_is_refused_without_harm(caplog: pytest.LogCaptureFixture) -> None:
    async def wait(**_: Any) -> None:
        await asyncio.sleep(0)

    event_recorded.connect(wait)
    try:
        audit.record("message.denied", "invalid_message")
        audit.tell()
    finally:
        event_recorded.disconnect(wait)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "audit.receiver_failed"
    ]
    assert len(await rows()) == 1


async def test_what_only_counts_disturbs_no_socket_either(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    counted = [listen(signals.handshake_counted), listen(signals.end_counted)]
    async with connect(Echo) as socket:
        assert await ask(socket, "hello") == "hello"
    await until(lambda: all(counted))
    assert complaints(caplog) == 2
