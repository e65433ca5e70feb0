"""Limits that hold over processes: `elsewhere` is what another process does with the same server."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from redis import Redis

from channels_secure import supervisor
from channels_secure.connections import registry
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.models import Block, Revocation
from channels_secure.policy.rates import Rate
from channels_secure.stores import get_store
from channels_secure.stores.base import Slot, Store, spend
from channels_secure.stores.redis import RedisStore
from channels_secure.testing import SecureCommunicator
from tests.services import OwnRedis, own_redis
from tests.sockets import Echo, at_rest, connect, kinds, rows, swept
from tests.stores.conftest import PATIENT, client, prefix, redis_store  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db(transaction=True)

BACKEND = "channels_secure.stores.redis.RedisStore"
RATES = {"ip": None, "user": None}


def use(settings: Any, url: str, prefix: str, timeout: float = PATIENT, **options: Any) -> Store:  # noqa: F811
    store = {"BACKEND": BACKEND, "LOCATION": url, "PREFIX": prefix, "SOCKET_TIMEOUT": timeout}
    settings.CHANNELS_SECURE = {"STORE": store, "HANDSHAKE_RATES": RATES, **options}
    return get_store()


@pytest.fixture
async def limits(settings: Any, redis_url: str, prefix: str) -> AsyncIterator[Any]:  # noqa: F811
    """Change the settings of the test: ``limits(MAX_CONNECTIONS={"user": 1})``."""
    used = []
    yield lambda **options: used.append(use(settings, redis_url, prefix, **options))
    await at_rest(PATIENT)
    # Not `get_store()`: at the end of a test the process forgets it, before the fixtures end.
    for store in used:
        await store.rest()


@pytest.fixture
def elsewhere(redis_store: RedisStore) -> RedisStore:  # noqa: F811
    return redis_store


def slot(user: User, name: str, limit: int) -> Slot:
    return Slot(id=name, owner=str(user.pk), since=1000.0, limits={f"user:{user.pk}": limit})


async def claim(store: RedisStore, one: Slot) -> str | None:
    assert store.slots is not None
    return await store.slots.claim(one, replaces=False)


class Member(Echo):
    allow_anonymous = False


class Closed(Member):
    async def authorize(self) -> bool:
        return False


class Nothing(msgspec.Struct):
    pass


class Typed(SecureJsonConsumer):
    @handles("rare", rate="2/h")
    async def rare(self, message: Nothing) -> None:
        await self.send_json({"type": "done"})

    @handles("dear", cost=5)
    async def dear(self, message: Nothing) -> None:
        await self.send_json({"type": "done"})


# Connections ---------------------------------------------------------------------------------------------------------


async def test_connections_of_other_processes_count(limits: Any, elsewhere: RedisStore, user: User) -> None:
    limits(MAX_CONNECTIONS={"user": 3})
    for number in range(2):
        assert await claim(elsewhere, slot(user, f"there-{number}", 3)) is None
    async with connect(Member, user=user):
        outcome = await connect(Member, user=user).shake_hands()
        assert outcome.reason == "connection_limit"
        assert await claim(elsewhere, slot(user, "there-3", 3)) == f"user:{user.pk}"
    (row,) = await rows(reason="connection_limit")
    assert row.detail == {"detail": "user limit 3"}


async def test_a_closed_socket_frees_its_slot_everywhere(limits: Any, elsewhere: RedisStore, user: User) -> None:
    limits(MAX_CONNECTIONS={"user": 1})
    async with connect(Member, user=user):
        assert await claim(elsewhere, slot(user, "there", 1)) is not None
    await at_rest(PATIENT)
    assert await claim(elsewhere, slot(user, "there", 1)) is None


async def test_a_refused_handshake_keeps_no_slot(limits: Any, elsewhere: RedisStore, user: User) -> None:
    limits(MAX_CONNECTIONS={"user": 1, "ip": 5})
    assert (await connect(Closed, user=user).shake_hands()).reason == "permission_denied"
    await at_rest(PATIENT)
    assert await claim(elsewhere, slot(user, "there", 1)) is None


async def test_an_address_that_is_full_refuses_and_leaves_the_user_a_place(
    limits: Any, elsewhere: RedisStore, user: User
) -> None:
    limits(MAX_CONNECTIONS={"user": 1, "ip": 1})
    assert elsewhere.slots is not None
    stranger = Slot(id="there", owner="7", since=1.0, limits={"ip:192.0.2.1": 1})
    assert await elsewhere.slots.claim(stranger, replaces=False) is None
    assert (await connect(Member, user=user).shake_hands()).reason == "connection_limit"
    await at_rest(PATIENT)
    assert await claim(elsewhere, slot(user, "mine", 1)) is None


async def test_the_oldest_connection_is_closed_wherever_it_is(limits: Any, elsewhere: RedisStore, user: User) -> None:
    limits(MAX_CONNECTIONS={"user": 2}, CONNECTION_OVERFLOW="close_oldest")
    assert await claim(elsewhere, slot(user, "oldest", 2)) is None
    async with connect(Member, user=user) as first, connect(Member, user=user):
        async with asyncio.timeout(PATIENT):
            while not await Revocation.objects.filter(kind="connection", subject="oldest").aexists():
                await asyncio.sleep(0)
        change = await Revocation.objects.aget(subject="oldest")
        assert change.reason == "connection_replaced"
        await first.send_json_to({"still": "here"})
        assert await first.receive_json_from() == {"still": "here"}


async def test_with_close_oldest_another_process_can_end_a_connection_here(
    limits: Any, elsewhere: RedisStore, user: User
) -> None:
    limits(MAX_CONNECTIONS={"user": 1}, CONNECTION_OVERFLOW="close_oldest")
    async with connect(Member, user=user):
        newest = Slot(id="newest", owner=str(user.pk), since=time.time() + 1, limits={f"user:{user.pk}": 1})
        assert elsewhere.slots is not None
        assert await elsewhere.slots.claim(newest, replaces=True) is None
        (here,) = registry()
        assert await elsewhere.slots.make_room(newest) == [here.id]


async def test_in_report_mode_a_full_house_is_reported_and_nobody_refused(
    limits: Any, elsewhere: RedisStore, user: User
) -> None:
    limits(MAX_CONNECTIONS={"user": 1}, MODE="report")
    assert await claim(elsewhere, slot(user, "there", 1)) is None
    async with connect(Member, user=user):
        assert len(await rows(kind="policy.would_deny", reason="connection_limit")) == 1


async def test_slots_are_taken_again_after_the_server_forgot_them(
    limits: Any,
    elsewhere: RedisStore,
    user: User,
    client: Any,  # noqa: F811
    prefix: str,  # noqa: F811
) -> None:
    """Conformance row 53: nobody who is connected is asked to leave."""
    limits(MAX_CONNECTIONS={"user": 2})
    async with connect(Member, user=user) as one, connect(Member, user=user):
        for key in list(client.scan_iter(f"{prefix}*")):
            client.delete(key)
        supervisor.current()._renewal._due_at = 0.0
        await swept()
        async with asyncio.timeout(PATIENT):
            while sum(client.zcard(key) for key in client.scan_iter(f"{prefix}*slots*")) < 2:
                await swept()
        assert await claim(elsewhere, slot(user, "there", 2)) is not None
        await one.send_json_to([1])
        assert await one.receive_json_from() == [1]


# Rates ---------------------------------------------------------------------------------------------------------------


async def test_attempts_of_an_address_count_over_processes(limits: Any, elsewhere: RedisStore, user: User) -> None:
    limits(HANDSHAKE_RATES={"ip": "3/h", "user": None})
    for _ in range(2):
        assert await elsewhere.take("handshake:ip:192.0.2.1", Rate.parse("3/h")) == 0
    async with connect(Member, user=user):
        outcome = await connect(Member, user=user).shake_hands()
    assert outcome.status == 429
    assert int(outcome.headers["retry-after"]) > 1000


async def test_attempts_of_a_user_count_over_processes(limits: Any, elsewhere: RedisStore, user: User) -> None:
    limits(HANDSHAKE_RATES={"ip": None, "user": "3/h"})
    for _ in range(3):
        assert await elsewhere.take(f"handshake:user:{user.pk}", Rate.parse("3/h")) == 0
    assert (await connect(Member, user=user).shake_hands()).reason == "rate_limited"


async def test_a_flood_of_handshakes_is_no_flood_of_calls(limits: Any, client: Any) -> None:  # noqa: F811
    """Conformance row 55: what was refused once is refused from memory."""
    limits(HANDSHAKE_RATES={"ip": "3/h", "user": None}, MAX_CONNECTIONS={"user": None, "ip": None})
    for _ in range(4):
        await connect(Member).shake_hands()
    client.config_resetstat()
    for _ in range(30):
        assert (await connect(Member).shake_hands()).status == 429
    assert client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"] == 0


async def talk(socket: SecureCommunicator, times: int) -> int:
    """How many of so many messages came back."""
    for number in range(times):
        await socket.send_json_to({"number": number})
    frames = [await socket.receive_json_from() for _ in range(times)]
    assert {frame["code"] for frame in frames if "code" in frame} <= {"rate_limited"}
    return sum("number" in frame for frame in frames)


async def test_a_users_messages_count_over_processes(limits: Any, elsewhere: RedisStore, user: User) -> None:
    """Conformance row 57: each socket is within the rate of a connection, together they are above the user's."""
    limits(MESSAGE_RATES={"connection": "20/h", "user": "20/h"})
    there = elsewhere.hold(f"message:user:{user.pk}", Rate.parse("20/h"))
    assert [await spend(there, time.monotonic()) for _ in range(12)] == [0.0] * 12
    async with connect(Member, user=user) as one, connect(Member, user=user) as other:
        assert await talk(one, 5) + await talk(other, 8) == 8
    assert await spend(there, time.monotonic()) > 0


async def test_a_message_that_has_to_ask_is_charged_once(limits: Any, user: User) -> None:
    """The connection's own budget comes first; asking for the user's must not spend it twice."""
    limits(MESSAGE_RATES={"connection": "10/h", "user": "80/h", "ip": "8/h"})
    async with connect(Member, user=user) as socket:
        assert await talk(socket, 8) == 8
        (connection,) = registry()
        own, _, address = connection.budgets.limiters
        now = time.monotonic()
        assert [own.take(now) == 0 for _ in range(3)] == [True, True, False]
        assert await spend(address, now) > 0


async def test_a_handlers_own_rate_and_a_dear_message_count_over_processes(
    limits: Any, elsewhere: RedisStore, user: User
) -> None:
    limits(MESSAGE_RATES={"connection": None, "user": "20/h"})
    async with connect(Typed, user=user) as one, connect(Typed, user=user) as other:
        answers = []
        for socket in (one, other, one):
            await socket.send_json_to({"type": "rare"})
            answers.append((await socket.receive_json_from())["type"])
        assert answers == ["done", "done", "error"]
        for socket in (one, other, one):
            await socket.send_json_to({"type": "dear"})
            answers.append((await socket.receive_json_from())["type"])
        # 3 units are gone, each dear message is 5: the third and what was spent come to 18.
        assert answers[3:] == ["done"] * 3
        await other.send_json_to({"type": "dear"})
        assert (await other.receive_json_from())["type"] == "error"


async def test_other_peoples_consumers_share_rates_too(limits: Any, elsewhere: RedisStore, user: User) -> None:
    from tests.live.app import Foreign

    limits(MESSAGE_RATES={"connection": None, "user": "5/h"})
    there = elsewhere.hold(f"message:user:{user.pk}", Rate.parse("5/h"))
    assert await spend(there, time.monotonic(), 3) == 0
    async with connect(Foreign, user=user) as socket:
        assert await talk(socket, 4) == 2


async def test_strikes_of_all_processes_block(limits: Any, elsewhere: RedisStore, user: User) -> None:
    limits(AUTO_BLOCK_AFTER="3/h")
    for _ in range(2):
        assert await elsewhere.take(f"strike:user:{user.pk}", Rate.parse("2/h")) == 0
    async with connect(Member, user=user) as socket:
        await socket.send_text("not JSON")
        frames = [await socket.receive_json_from() for _ in range(2)]
    assert [frame["code"] for frame in frames] == ["invalid_message", "blocked"]
    assert await Block.objects.filter(user=user, automatic=True).acount() == 1


# The server is away --------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(settings: Any) -> AsyncIterator[OwnRedis]:
    with own_redis() as server:
        store = use(settings, server.url, "cs:", 0.25, MAX_CONNECTIONS={"user": 3}, MESSAGE_RATES={"user": "60/h"})
        yield server
        server.resume()
        await at_rest(PATIENT)
        await store.rest()


async def away(is_away: bool) -> None:
    """Wait until the supervisor's passes have found out."""
    store = get_store()
    assert isinstance(store, RedisStore)
    async with asyncio.timeout(15):
        while store.is_away is not is_away:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("misfortune", ["killed", "paused"])
async def test_no_socket_notices_that_the_server_went_away_and_came_back(
    server: OwnRedis, user: User, misfortune: str
) -> None:
    """Conformance rows 90 and 91."""
    async with connect(Member, user=user) as one, connect(Member, user=user) as two:
        assert await talk(one, 2) == 2
        if misfortune == "killed":
            server.stop()
        else:
            server.pause()
        await two.send_json_to([1])
        assert await two.receive_json_from() == [1]
        supervisor.current()._renewal._due_at = 0.0
        await away(True)
        began = time.monotonic()
        assert await talk(one, 5) + await talk(two, 5) == 10
        async with connect(Member, user=user):
            assert (await connect(Member, user=user).shake_hands()).reason == "connection_limit"
        assert time.monotonic() - began < 2
        if misfortune == "killed":
            server.start()
        else:
            server.resume()
        gone = time.monotonic()
        await away(False)
        assert time.monotonic() - gone < 5.5
        assert await talk(one, 2) == 2
        with Redis.from_url(server.url) as client:
            async with asyncio.timeout(PATIENT):
                while sum(client.zcard(key) for key in client.scan_iter("cs:*slots*")) < 2:
                    await asyncio.sleep(0.01)
        happened = await kinds()
    assert [kind for kind in happened if kind.startswith("store")] == ["store.degraded", "store.recovered"]
