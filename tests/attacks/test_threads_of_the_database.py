"""The package's threads: the project's slow code holds up no handshake, and no driver's error ends one."""

import asyncio
import threading
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.db import Error, connection, connections

from channels_secure import database
from channels_secure.consumers import SecureJsonConsumer, handles
from tests.sockets import Echo, connect, quiet, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


class Ponders(ModelBackend):
    """A backend that asks elsewhere, and takes its time."""

    asked: list[str] = []
    gate = threading.Event()

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        self.asked.append(perm)
        return self.gate.wait(10)


class Asks(SecureJsonConsumer):
    @handles("ask", permission="chat.ask")
    async def ask(self, message: dict[str, Any]) -> None:
        await self.send_json({"type": "allowed"})


@pytest.fixture
def ponders(settings: Any) -> Any:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Ponders"]
    Ponders.asked, Ponders.gate = [], threading.Event()
    yield Ponders
    Ponders.gate.set()


async def test_permissions_that_take_long_hold_up_no_handshake(ponders: Any, user: User) -> None:
    several = max(database.THREADS.values())
    sockets = [connect(Asks, user=user) for _ in range(several)]
    for socket in sockets:
        assert (await socket.shake_hands()).accepted
        await socket.send_json_to({"type": "ask"})
    await until(lambda: len(ponders.asked) == several)
    try:
        async with asyncio.timeout(2), connect(Echo, user=user):
            assert await database.run(int) == 0
    finally:
        ponders.gate.set()
    for socket in sockets:
        assert await socket.receive_json_from() == {"type": "allowed"}
        await socket.disconnect()


class Spoilt(Exception):
    """What the job raised that left its connection in such a state."""


@pytest.mark.parametrize("work", [database.run, database.write])
async def test_a_thread_survives_a_connection_that_cannot_be_closed(work: Any) -> None:
    """Django closes a connection only in the thread that it believes to have opened it."""
    spoilt: list[tuple[Any, int]] = []

    def spoil() -> None:
        wrapper = connections[connection.alias]
        wrapper.ensure_connection()
        spoilt.append((wrapper, wrapper._thread_ident))  # type: ignore[attr-defined]
        wrapper._thread_ident = -1  # type: ignore[attr-defined]
        with pytest.raises(Error):
            wrapper.close()
        raise Spoilt

    try:
        async with asyncio.timeout(2):
            with pytest.raises(Spoilt):
                await work(spoil)
    finally:
        for wrapper, ident in spoilt:
            wrapper._thread_ident = ident
    pools = database._workers.values()
    assert [thread.is_alive() for pool in pools for thread in pool._threads] == [
        True for pool in pools for _ in pool._threads
    ]
    assert await work(int) == 0
