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
from channels_secure.stores.memory import MemoryStore
from tests.conformance import drive, journey
from tests.conformance.conftest import Judge
from tests.conformance.journey import STRIKES, Fault, Server, Strike, exit_interpreter
from tests.conformance.table import Request
from tests.conformance.test_faults import row, settings
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)
BUDGETS = {
    "HANDSHAKE_RATES": {"ip": "600/m", "user": "600/m"},
    "MESSAGE_RATES": {"connection": "20/s", "user": "600/m", "ip": "600/m"},
    "POLICY_REFRESH_INTERVAL": 0.05,
    "SEND_HELLO": True,
}
# Only for faults that a deadline ends: with these a busy machine might time out where nothing hangs.
HURRIED = {
    "HANDSHAKE_TIMEOUT": 0.15,
    "HANDLER_TIMEOUT": 0.15,
    "SEND_TIMEOUT": 0.15,
    "IDLE_TIMEOUT": 0.15,
    "DISCONNECT_TIMEOUT": 0.1,
}
TERMINAL = ("connection.closed", "handshake.denied", "credentials.failed")
# Application code may also try to end the process.
OF_THE_APPLICATION = ("authorize", "permission", "connect", "connected", "handler", "disconnect")
# Where a connection waits for somebody else; each is reached at least once in the life of a member.
PLACES = (
    "receive", "send", "guard", "authenticator", "database.run", "store.take", "blocklist.refresh", "layer.new_channel",
    "layer.group_add", "layer.group_send", "layer.group_discard", *OF_THE_APPLICATION,
)  # fmt: skip


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
    return await database.run(world.session, world.alice)


def stack(fault: Fault) -> Any:
    async def guard(handshake: Any) -> None:
        await fault.passes("guard")

    made = SecureMiddlewareStack(journey.application)
    made.guards = (*guards.DEFAULT_GUARDS, guard)
    return made


async def live(fault: Fault, request: Request, *, cancel: bool = False) -> tuple[Server, asyncio.Task[Any]]:
    """Serve one connection to its end; with `cancel`, the server cancels it as soon as the fault has struck."""
    server = Server(journey.watch(fault), '{"type":"say","text":"hi"}', '{"type":"nope"}', '{"type":"say","text":"ho"}')
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


async def forget_layer() -> None:
    """A layer that failed may have kept a subscription."""
    await drive.settle()
    hubs: dict[Any, dict[str, groups.Hub]] = vars(groups)["_hubs"]
    for hub in [hub for of_loop in hubs.values() for hub in of_loop.values()]:
        # A group whose members could not leave would be renewed a minute later, in the middle of another case.
        for group in vars(hub)["_groups"].values():
            group.close()
    hubs.clear()
    await get_channel_layer().flush()


def strikes_at(place: str) -> dict[str, Strike]:
    if place in OF_THE_APPLICATION:
        return STRIKES | {"exits": exit_interpreter}
    return STRIKES


async def calls_of_each_place(request: Request) -> dict[str, int]:
    fault = Fault()
    server, task = await live(fault, request)
    assert task.exception() is None
    assert server.delivered == len(server.events)
    assert server.sent.count("websocket.accept") == 1
    await check_nothing_is_left(True)
    assert set(PLACES) <= set(fault.calls), "a place is never reached"
    return {place: fault.calls[place] for place in PLACES}


@row(
    "await-points",
    54,
    "receive, send, a guard, the authenticator, the database, the store, the blocklist, the layer, authorize(),"
    " connect(), a permission, a handler and disconnect() each raise, exit, are cancelled or hang, one call at a time",
    "the task ends in time, one terminal row, nothing registered, no limiter held, no group joined",
)
async def test_whatever_fails_leaves_nothing_behind(judge: Judge) -> None:
    with settings(**BUDGETS):
        request = Request(path="/member/", cookies=await cookies())
        calls = await calls_of_each_place(request)
    await forget_layer()
    for place, number in [(each, number) for each in PLACES for number in range(1, calls[each] + 1)]:
        is_first = (place, number) == ("receive", 1)
        for name, strike in strikes_at(place).items():
            if is_first and name == "hangs":
                continue  # a server that never begins
            by_server = name == "cancelled by the server"
            with (
                judge.case(f"await-points {place} {number} {name}", "communicator"),
                settings(**BUDGETS, **(HURRIED if name == "hangs" else {})),
            ):
                _, task = await live(Fault(place, number, strike), request, cancel=by_server)
                assert task.done()
                if not is_first and not by_server:
                    assert not task.cancelled()
                    assert task.exception() is None
                await check_nothing_is_left(not is_first, left=place != "layer.group_discard")
            await forget_layer()


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


@row(
    "every-suspension",
    54,
    "the task of a connection is cancelled, or an exception raised in it, at each point where it suspends: of a member,"
    " a stranger, a foreign origin, an unknown route, another consumer, a plain application",
    "the task ends, one terminal row, nothing registered, no limiter held, no group joined",
)
@pytest.mark.parametrize("way", WAYS)
async def test_an_end_at_any_suspension_leaves_nothing_behind(way: str, judge: Judge) -> None:
    with settings(**BUDGETS):
        signed_in = await cookies()
        for life, (request, points) in LIVES.items():
            if life != "stranger":
                request = Request(path=request.path, origin=request.origin, cookies=signed_in)
            for at in count(1):
                struck: list[int] = []
                with judge.case(f"every-suspension {life} {at} {way}", "communicator"):
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
                await forget_layer()
                if not struck:
                    break
            assert at > points, f"{life} was hardly interrupted at all"


async def _as_coroutine(steps: Any) -> Any:
    return await steps
