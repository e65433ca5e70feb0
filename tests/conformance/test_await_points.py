"""Row 54: whatever fails, wherever somebody waits, a connection ends once and leaves nothing behind."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from channels.layers import get_channel_layer

from channels_secure import blocklist, database, groups, guards
from channels_secure.auth.session import SessionAuthenticator
from channels_secure.connections import registry
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.models import Revocation
from channels_secure.stores.memory import MemoryStore
from channels_secure.supervisor.revalidation import revalidate
from tests.conformance import drive, journey
from tests.conformance.conftest import Judge
from tests.conformance.journey import STRIKES, Fault, Server, Strike, exit_interpreter
from tests.conformance.table import Request
from tests.conformance.test_faults import row, settings
from tests.conformance.world import World
from tests.sockets import calm

pytestmark = pytest.mark.django_db(transaction=True)
BUDGETS = {
    "HANDSHAKE_RATES": {"ip": "600/m", "user": "600/m"},
    "MESSAGE_RATES": {"connection": "20/s", "user": "600/m", "ip": "600/m"},
    "SEND_HELLO": True,
}
# Seconds until what hangs is ended; the second for a machine so busy that the first has ended what does not hang.
DEADLINES = (0.15, 1.0)
TERMINAL = ("connection.closed", "handshake.denied", "credentials.failed")
# Application code may also try to end the process.
OF_THE_APPLICATION = ("authorize", "permission", "connect", "connected", "handler", "disconnect")
# Where a connection waits for somebody else; each is reached at least once in the life of a member.
PLACES = (
    "receive", "send", "guard", "authenticator", "database.run", "store.take", "blocklist.refresh", "layer.new_channel",
    "layer.group_add", "layer.group_send", "layer.group_discard", *OF_THE_APPLICATION,
)  # fmt: skip


def hurried(seconds: float) -> dict[str, float]:
    """Settings for faults that a deadline ends."""
    what = ("HANDSHAKE_TIMEOUT", "HANDLER_TIMEOUT", "SEND_TIMEOUT", "IDLE_TIMEOUT", "DISCONNECT_TIMEOUT")
    # As often as for changed policies does the supervisor look at deadlines.
    return dict.fromkeys(what, seconds) | {"POLICY_REFRESH_INTERVAL": 0.05}


@contextmanager
def wired(fault: Fault) -> Iterator[None]:
    """Put the places into the package itself, for as long as a connection is served."""
    layer = get_channel_layer()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, place in (
            (SessionAuthenticator, "authenticate", "authenticator"),
            (database, "run", "database.run"),
            (MemoryStore, "take", "store.take"),
            (blocklist, "refresh", "blocklist.refresh"),
            (layer, "new_channel", "layer.new_channel"),
            (layer, "group_add", "layer.group_add"),
            (layer, "group_send", "layer.group_send"),
            (layer, "group_discard", "layer.group_discard"),
        ):
            patch.setattr(owner, name, fault.around(place, getattr(owner, name)))
        yield


async def cookies() -> dict[str, str]:
    world = await database.run(World)
    # Making users changes rights, which would be looked up again in the middle of the first case.
    await database.run(Revocation.objects.all().delete)
    return await database.run(world.session, world.alice)


def stack(fault: Fault) -> Any:
    async def guard(handshake: Any) -> None:
        await fault.passes("guard")

    made = SecureMiddlewareStack(journey.application)
    made.guards = (*guards.DEFAULT_GUARDS, guard)
    return made


class Reviewing(Server):
    """Before the client leaves, its rights are looked up again, for which `authorize()` is asked once more."""

    async def receive(self) -> dict[str, Any]:
        if self.delivered == len(self.events) - 1:
            await revalidate(registry())
        return await super().receive()


async def live(fault: Fault, request: Request, *, cancel: bool = False) -> tuple[Server, asyncio.Task[Any]]:
    """Serve one connection to its end; with `cancel`, the server cancels it as soon as the fault has struck."""
    texts = ('{"type":"say","text":"hi"}', '{"type":"nope"}', '{"type":"say","text":"ho"}')
    server = Reviewing(journey.watch(fault), *texts)
    scope = drive.communicator(request).scope
    with wired(fault):
        task = asyncio.ensure_future(stack(fault)(scope, server.receive, server.send))
        if cancel:
            reached = asyncio.ensure_future(fault.reached.wait())
            await asyncio.wait({task, reached}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            task.cancel()
        await asyncio.wait({task}, timeout=5)
    return server, task


async def check_nothing_is_left(opened: bool, *, left: bool = True) -> None:
    """One end in the audit trail, and nobody registered, counted, subscribed or still at work."""
    assert len(registry()) == 0
    assert journey.holders() == 0
    rows = [row["kind"] for row in await drive.take_rows()]
    assert len([kind for kind in rows if kind in TERMINAL]) == opened, rows
    assert rows.count("connection.accepted") == rows.count("connection.closed") <= 1, rows
    if left:
        for _ in range(200):
            if not journey.memberships():
                break
            await asyncio.sleep(0.005)
        assert journey.memberships() == {}
    assert [task for task in asyncio.all_tasks() if "HandshakeMiddleware" in repr(task.get_coro())] == []


async def begin_anew() -> None:
    """Let everything end, and forget what the process has found out: each case begins as the first did."""
    await drive.settle()
    hubs: dict[Any, dict[str, groups.Hub]] = vars(groups)["_hubs"]
    for hub in [hub for of_loop in hubs.values() for hub in of_loop.values()]:
        # A group whose members could not leave would be renewed a minute later, in the middle of another case.
        for group in vars(hub)["_groups"].values():
            group.close()
    hubs.clear()
    # A layer that failed may have kept a subscription.
    await get_channel_layer().flush()
    await calm()
    # Who finds the blocks in memory has nothing to wait for.
    blocklist.reset()


async def calls_of_each_place(request: Request) -> dict[str, int]:
    fault = Fault()
    server, task = await live(fault, request)
    assert task.exception() is None
    assert server.delivered == len(server.events)
    assert server.sent.count("websocket.accept") == 1
    await check_nothing_is_left(True)
    assert set(PLACES) <= set(fault.calls), "a place is never reached"
    return {place: fault.calls[place] for place in PLACES}


def strikes_at(place: str) -> dict[str, Strike]:
    if place in OF_THE_APPLICATION:
        return STRIKES | {"exits": exit_interpreter}
    return STRIKES


async def fail(place: str, number: int, name: str, request: Request) -> None:
    """Let one call of one place fail in one way, and see how the connection ends."""
    is_first, by_server = (place, number) == ("receive", 1), name == "cancelled by the server"
    strike, over = strikes_at(place)[name], asyncio.Event()

    async def hang() -> None:
        # Not for ever: a look at the blocks serves all connections, those of the next cases too.
        await over.wait()

    for seconds in DEADLINES:
        fault = Fault(place, number, hang if strike is journey.hang else strike)
        try:
            with settings(**BUDGETS, **(hurried(seconds) if name == "hangs" else {})):
                _, task = await live(fault, request, cancel=by_server)
                assert task.done()
                if not is_first and not by_server:
                    assert not task.cancelled()
                    assert task.exception() is None
                await check_nothing_is_left(not is_first, left=place != "layer.group_discard")
        finally:
            over.set()
            await begin_anew()
            over.clear()
        if fault.reached.is_set():
            return
    raise AssertionError("the call was never made")


@row(
    "await-points",
    54,
    "receive, send, a guard, the authenticator, the database, the store, the blocklist, the layer, authorize(),"
    " connect(), a permission, a handler and disconnect() each raise, exit, are cancelled or hang, one call at a time",
    "the task ends in time, one terminal row, nothing registered, no limiter held, no group joined",
)
async def test_whatever_fails_leaves_nothing_behind(judge: Judge) -> None:
    await begin_anew()
    with settings(**BUDGETS):
        request = Request(path="/member/", cookies=await cookies())
        calls = await calls_of_each_place(request)
    await begin_anew()
    for place, number in [(each, number) for each in PLACES for number in range(1, calls[each] + 1)]:
        for name in strikes_at(place):
            if (place, number, name) == ("receive", 1, "hangs"):
                continue  # a server that never begins
            with judge.case(f"await-points {place} {number} {name}", "communicator"):
                await fail(place, number, name, request)


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


WAYS: dict[str, Callable[[], BaseException | None]] = {
    "cancelled by the server": cancel_this_task,
    "raises": lambda: RuntimeError("fault"),
    "CancelledError": asyncio.CancelledError,
}
# With the least number of points at which each suspends.
LIVES = {
    "member": (Request(path="/member/"), 20),
    "stranger": (Request(path="/typed/"), 5),
    "foreign origin": (Request(path="/member/", origin="https://evil.test"), 2),
    "no route": (Request(path="/nowhere/"), 6),
    "other consumer": (Request(path="/odd-foreign/"), 12),
    "plain application": (Request(path="/plain/"), 8),
}


async def interrupt(request: Request, at: int, way: str, struck: list[int]) -> None:
    """End a connection where it suspends for the `at`th time; `struck` stays empty when it does not as often."""
    try:
        with settings(**BUDGETS):
            fault = journey.watch(Fault())
            server = Server(fault, '{"type":"say","text":"hi"}')
            scope = drive.communicator(request).scope
            run = stack(fault)(scope, server.receive, server.send)
            with wired(fault):
                task = asyncio.ensure_future(_as_coroutine(journey.interrupted(run, at, WAYS[way], struck)))
                await asyncio.wait({task}, timeout=5)
            assert task.done()
            with contextlib.suppress(asyncio.CancelledError):
                task.exception()
            await check_nothing_is_left(server.delivered > 0)
    finally:
        await begin_anew()


@row(
    "every-suspension",
    54,
    "the task of a connection is cancelled, or an exception raised in it, at each point where it suspends: of a member,"
    " a stranger, a foreign origin, an unknown route, another consumer, a plain application",
    "the task ends, one terminal row, nothing registered, no limiter held, no group joined",
)
@pytest.mark.parametrize("way", WAYS)
async def test_an_end_at_any_suspension_leaves_nothing_behind(way: str, judge: Judge) -> None:
    await begin_anew()
    signed_in = await cookies()
    for life, (request, points) in LIVES.items():
        if life != "stranger":
            request = Request(path=request.path, origin=request.origin, cookies=signed_in)
        for at in count(1):
            struck: list[int] = []
            with judge.case(f"every-suspension {life} {at} {way}", "communicator"):
                await interrupt(request, at, way, struck)
            if not struck:
                break
        assert at > points, f"{life} was hardly interrupted at all"


async def _as_coroutine(steps: Any) -> Any:
    return await steps
