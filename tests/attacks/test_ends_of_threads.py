"""Threads that end with a connection that cannot be closed: the process ends without a traceback of theirs."""

import asyncio
import threading
from typing import Any

import pytest
from django.db import Error, connection, connections

from channels_secure import database

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_thread_ends_in_peace_with_a_connection_that_cannot_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django closes a connection only in the thread that it believes to have opened it."""
    raised: list[Any] = []
    spoilt: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def spoil() -> None:
        wrapper = connections[connection.alias]
        wrapper.ensure_connection()
        wrapper._thread_ident = -1  # type: ignore[attr-defined]
        with pytest.raises(Error):
            wrapper.close()
        spoilt.append(wrapper)

    def heal() -> None:
        for wrapper in spoilt:
            wrapper._thread_ident = threading.get_ident()
            wrapper.close()

    try:
        await database.write(spoil)
        await asyncio.to_thread(database.shutdown, 5)
    finally:
        await asyncio.to_thread(heal)
    assert raised == []
