"""A connection's whole life under a server that a test controls, and the places where something can be made to fail."""

import asyncio
import types
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import msgspec
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.db import OperationalError
from django.urls import path

from channels_secure import groups
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.stores import get_store
from tests.live.app import routes

ROOM = "journey"
Strike = Callable[[], Coroutine[Any, Any, None]]


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Fault:
    """Lets every call of every place pass but one: there it does what it was made for, once.

    Args:
        place: the name of the place, and which of its calls is meant, counted from 1.
        strike: what happens there; nothing by default, to count the calls.
    """

    def __init__(self, place: str = "", call: int = 0, strike: Strike | None = None):
        self.target, self.strike = (place, call), strike
        self.calls: Counter[str] = Counter()
        self.reached = asyncio.Event()

    async def passes(self, place: str) -> None:
        """Suspend once, as a server or a database does; strike if this is the call."""
        self.calls[place] += 1
        await asyncio.sleep(0)
        if (place, self.calls[place]) == self.target and self.strike is not None:
            self.reached.set()
            await self.strike()

    def around(self, place: str, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """The function, behind the place."""

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            await self.passes(place)
            return await function(*args, **kwargs)

        return guarded


async def raise_error() -> None:
    raise RuntimeError("fault")


async def raise_os_error() -> None:
    raise OSError("fault")


async def raise_database_error() -> None:
    raise OperationalError("fault")


async def exit_interpreter() -> None:
    raise SystemExit(3)


async def raise_cancelled() -> None:
    raise asyncio.CancelledError


async def hang() -> None:
    await asyncio.Event().wait()


STRIKES: dict[str, Strike] = {
    "raises": raise_error,
    "OSError": raise_os_error,
    "database": raise_database_error,
    "CancelledError": raise_cancelled,
    "hangs": hang,
    "cancelled by the server": hang,
}


class _Place:
    """Holds the fault of the run under way; the consumer below has no other way to reach it."""

    fault = Fault()


async def _permits(consumer: Any, message: Any) -> bool:
    await _Place.fault.passes("permission")
    return True


class Member(SecureJsonConsumer):
    """Joins, answers, tells the others, leaves: everything that a consumer can await."""

    allow_anonymous = True
    groups = (f"{ROOM}.declared",)

    async def authorize(self) -> bool:
        await _Place.fault.passes("authorize")
        return True

    async def connect(self) -> None:
        await _Place.fault.passes("connect")
        await self.join(ROOM)
        await self.accept()
        await _Place.fault.passes("connected")

    @handles("say", rate="50/m", cost=2, permission=_permits)
    async def say(self, message: Say) -> None:
        await _Place.fault.passes("handler")
        await self.broadcast(ROOM, {"type": "said", "text": message.text})
        await self.send_json({"type": "told"})

    async def disconnect(self, code: int) -> None:
        await _Place.fault.passes("disconnect")


application = URLRouter([path("member/", Member.as_asgi()), *routes.routes])


class Server:
    """The ASGI server of one connection: what it delivers is written down, every call is a place."""

    def __init__(self, fault: Fault, *texts: str) -> None:
        self.fault = fault
        self.events: list[dict[str, Any]] = [
            {"type": "websocket.connect"},
            *({"type": "websocket.receive", "text": text} for text in texts),
            {"type": "websocket.disconnect", "code": 1000},
        ]
        self.delivered = 0
        self.sent: list[str] = []

    async def receive(self) -> dict[str, Any]:
        await self.fault.passes("receive")
        if self.delivered == len(self.events):
            await asyncio.Event().wait()
        self.delivered += 1
        return self.events[self.delivered - 1]

    async def send(self, event: dict[str, Any]) -> None:
        await self.fault.passes("send")
        self.sent.append(event["type"])


@types.coroutine
def interrupted(
    coroutine: Coroutine[Any, Any, Any], at: int, strike: Callable[[], BaseException | None], struck: list[int]
) -> Generator[Any, Any, Any]:
    """Run a coroutine, and strike when it suspends for the `at`th time.

    `strike` cancels the task, or returns what is raised in the coroutine instead of the result that it waits for.
    """
    value: Any = None
    error: BaseException | None = None
    suspended = 0
    while True:
        try:
            waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        suspended += 1
        value = error = None
        if suspended == at:
            struck.append(at)
            error = strike()
            if error is not None:
                continue
        try:
            value = yield waits_for
        except BaseException as raised:  # noqa: BLE001 - it is the coroutine's, a cancellation too
            error = raised


def holders() -> int:
    """How many limiters of the process's store are still kept by a connection."""
    buckets: dict[Any, Any] = vars(get_store())["_buckets"]
    return sum(bucket.holders for bucket in buckets.values())


def memberships() -> dict[str, Any]:
    """The groups that the layer still knows, and those of this process."""
    here: dict[str, Any] = vars(groups.hub())["_groups"]
    return {**get_channel_layer().groups, **here}


def watch(fault: Fault) -> Fault:
    """Let the consumer strike with this fault from now on."""
    _Place.fault = fault
    return fault
