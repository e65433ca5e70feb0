"""The end of a server process that counts its connections in a shared store."""

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.lifespan import finish, sever_all
from channels_secure.stores import get_store
from channels_secure.stores.base import Slot
from tests.sockets import Echo, connect
from tests.stores.conftest import PATIENT, prefix  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_process_ends_only_when_the_slots_of_its_sockets_are_free(
    settings: Any,
    redis_url: str,
    prefix: str,  # noqa: F811
    user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its clients come back to other processes at once, which would refuse them until the lease has run out."""
    store = {"BACKEND": "channels_secure.stores.redis.RedisStore", "LOCATION": redis_url, "PREFIX": prefix}
    settings.CHANNELS_SECURE = {"STORE": {**store, "SOCKET_TIMEOUT": PATIENT}}
    slots = get_store().slots
    assert slots is not None
    freed: list[str] = []
    original = slots.give_back

    async def give_back(slot: Slot) -> None:
        # The store takes longer than the audit trail.
        for _ in range(2_000):
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        await original(slot)
        freed.append(slot.id)

    monkeypatch.setattr(slots, "give_back", give_back)
    socket = connect(Echo, user=user)
    assert (await socket.shake_hands()).accepted
    assert await finish(sever_all()) == 0
    assert len(freed) == 1
    await get_store().rest()
