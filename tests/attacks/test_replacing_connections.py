"""With `close_oldest`: nobody has more sockets than the limit, and nobody ends another's by opening his own."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.testing import SecureCommunicator
from tests.sockets import Echo, connect, quiet, rows, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

REPLACED, LIMITED = (4409, "connection_replaced"), (4409, "connection_limit")


def limit(settings: Any, **limits: int) -> None:
    settings.CHANNELS_SECURE = {
        "CONNECTION_OVERFLOW": "close_oldest",
        "MAX_CONNECTIONS": {"user": None, "ip": None, **limits},
        "HANDSHAKE_RATES": {"user": None, "ip": None},
    }


async def opened(user: User | None = None, consumer: type[SecureJsonConsumer] = Echo) -> SecureCommunicator:
    socket = connect(consumer, user=user)
    outcome = await socket.shake_hands()
    assert outcome.accepted, outcome
    return socket


async def refused(user: User | None = None) -> tuple[int | None, str]:
    outcome = await connect(Echo, user=user).shake_hands()
    assert not outcome.accepted
    return outcome.code, outcome.reason


async def alive(sockets: Iterable[SecureCommunicator]) -> bool:
    """Whether every socket still answers."""
    for n, socket in enumerate(sockets):
        await socket.send_json_to(n)
        if await socket.receive_json_from() != n:
            return False
    return True


async def leave(sockets: Iterable[SecureCommunicator]) -> None:
    for socket in sockets:
        await socket.disconnect()


async def test_the_oldest_of_the_same_user_makes_room(settings: Any, user: User) -> None:
    limit(settings, user=2)
    first, *others = [await opened(user), await opened(user), await opened(user)]
    assert await first.closing() == REPLACED
    assert len(registry()) == 2
    assert await alive(others)
    await leave(others)


@pytest.mark.parametrize("who", ["stranger", "anonymous"])
async def test_an_address_that_others_have_filled_refuses(settings: Any, who: str) -> None:
    """Behind one address sit many: who opens sockets there must not end those of the others."""
    limit(settings, ip=2)
    alice = await User.objects.acreate_user("alice")
    bob = await User.objects.acreate_user("bob") if who == "stranger" else None
    sockets = [await opened(alice), await opened(alice)]
    assert await refused(bob) == LIMITED
    assert await alive(sockets)
    await leave(sockets)
    assert [row.reason for row in await rows(kind="connection.closed")] == ["", ""]


async def test_at_a_shared_address_a_user_replaces_only_his_own(settings: Any) -> None:
    limit(settings, ip=2)
    alice, bob = await User.objects.acreate_user("alice"), await User.objects.acreate_user("bob")
    hers, his = await opened(alice), await opened(bob)
    newer = await opened(bob)
    assert await his.closing() == REPLACED
    assert await alive([hers, newer])
    await leave([hers, newer])


async def test_somebody_anonymous_replaces_nobody(settings: Any, user: User) -> None:
    limit(settings, ip=2)
    sockets = [await opened(user), await opened()]
    assert await refused() == LIMITED
    assert await alive(sockets)
    await leave(sockets)


async def test_a_user_replaces_nobody_anonymous(settings: Any, user: User) -> None:
    limit(settings, ip=1)
    nobodys = await opened()
    assert await refused(user) == LIMITED
    assert await alive([nobodys])
    await leave([nobodys])


async def test_of_racing_handshakes_no_more_than_the_limit_stay(settings: Any, user: User) -> None:
    """All of them may enter, since each replaces the one before it; at no moment are there more than the limit."""
    limit(settings, user=2)
    most = 0

    class Counted(Echo):
        async def connect(self) -> None:
            nonlocal most
            await self.accept()
            most = max(most, sum(one.accepted and not one.ended for one in registry()))

    sockets = [connect(Counted, user=user) for _ in range(6)]
    await asyncio.gather(*(socket.shake_hands() for socket in sockets))
    assert most == 2
    await until(lambda: len(registry()) == 2)
    assert [row.reason for row in await rows(kind="connection.closed")] == ["connection_replaced"] * 4
    for socket in sockets:
        if not socket.future.done():
            await socket.disconnect()


async def test_of_two_users_who_race_for_the_last_place_one_is_refused(settings: Any) -> None:
    limit(settings, ip=1)
    alice, bob = await User.objects.acreate_user("alice"), await User.objects.acreate_user("bob")
    sockets = [connect(Echo, user=alice), connect(Echo, user=bob)]
    outcomes = await asyncio.gather(*(socket.shake_hands() for socket in sockets))
    assert sorted(outcome.accepted for outcome in outcomes) == [False, True]
    assert [(outcome.code, outcome.reason) for outcome in outcomes if not outcome.accepted] == [LIMITED]
    await leave(socket for socket, outcome in zip(sockets, outcomes, strict=True) if outcome.accepted)


async def test_a_handshake_that_its_consumer_refuses_replaces_nobody(settings: Any, user: User) -> None:
    class Closed(Echo):
        async def authorize(self) -> bool:
            return False

    limit(settings, user=1)
    mine = await opened(user)
    assert not (await connect(Closed, user=user).shake_hands()).accepted
    assert await alive([mine])
    await leave([mine])
