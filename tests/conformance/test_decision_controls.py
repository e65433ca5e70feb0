"""Negative controls of decisions: with the wrong way in the right one's place, the test of it fails."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.blocklist import in_force, revoked
from channels_secure.blocklist.revoked import Look, Revoked
from channels_secure.connections import farewell
from channels_secure.models import Revocation
from tests import test_change_races as races
from tests.conformance import drive, test_decisions
from tests.test_change_races import shut

__all__ = ["shut"]
pytestmark = pytest.mark.django_db(transaction=True)


class WithWaitFor:
    """`asyncio`, whose `wait` cancels what takes too long and then waits for it all the same, as `wait_for` does."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def wait(self, tasks: set[asyncio.Task[Any]], *, timeout: float) -> None:
        for task in tasks:
            with suppress(TimeoutError):
                await asyncio.wait_for(task, timeout)


async def test_waiting_with_wait_for_would_wait_for_a_send_that_heeds_no_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(farewell, "asyncio", WithWaitFor())
    with pytest.raises(TimeoutError):
        await test_decisions.test_a_send_that_heeds_no_cancellation_delays_nothing()
    await drive.settle()


def read_above_the_last(before: Revoked, known_at: float, full: bool) -> Revoked:
    """Revocations as somebody reads them who trusts that ids are committed in their order."""
    rows = list(Revocation.objects.filter(id__gt=max(before.changes, default=0)).values_list(*revoked.COLUMNS))
    ended = time.monotonic()
    look = Look(ended=ended, known_at=known_at, offset=time.time() - ended)
    return revoked.build(rows, before, look, ids=[*before.changes, *(row[0] for row in rows)])


async def test_reading_only_ids_above_the_last_would_miss_what_is_committed_late(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_force, "_read_revocations", read_above_the_last)
    # The socket was never told to go; the communicator cancels what it has waited for in vain.
    with pytest.raises(asyncio.CancelledError) as found:
        await races.test_a_row_that_is_committed_late_is_found_though_its_id_is_lower(user)
    assert isinstance(found.value.__context__, TimeoutError)
    await drive.settle()
