"""What a class declares, read to the letter: tags, costs, and coroutines that are not written with `async def`."""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import pytest
from asgiref.sync import markcoroutinefunction
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from msgspec import Meta, Struct

from channels_secure.conf import get_settings
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.consumers.handlers import BadDeclaration, Plan, plan_of
from channels_secure.policy.messages import MessageDecoder, Refused
from channels_secure.policy.schemas import envelop
from tests.sockets import ask, connect, quiet  # noqa: F401

F = TypeVar("F", bound=Callable[..., Any])


def plan(consumer: Any) -> Plan:
    return plan_of(consumer, SecureJsonConsumer, get_settings())


# Tags ----------------------------------------------------------------------------------------------------------------

Small = Annotated[int, Meta(ge=0, le=9)]


class Point(Struct, tag=True):
    """Its tag is required where it stands in a union, and nowhere else."""

    x: Small


class Circle(Struct, tag=True):
    r: Small


class Move(Struct):
    to: Point


class Draw(Struct):
    what: Point | Circle


DECODER = MessageDecoder([envelop("move", Move), envelop("draw", Draw)], {}, max_depth=32)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"move","to":{"x":1,"x":2}}',
        '{"type":"move","to":{"x":1},"to":{"x":2}}',
        '{"type":"move","to":{"type":"Point","x":1,"x":2}}',
        '{"type":"draw","what":{"type":"Point","x":1,"x":2}}',
        '{"type":"draw","what":{"type":"Point","type":"Circle","r":1,"x":2}}',
    ],
)
def test_no_key_of_a_tagged_schema_may_come_twice(text: str) -> None:
    parsed = DECODER.decode(text)
    assert isinstance(parsed, Refused)
    assert parsed.denial.reason == "invalid_message"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"move","to":{"x":1}}', Move(Point(1))),
        ('{"type":"move","to":{"type":"Point","x":1}}', Move(Point(1))),
        ('{"type":"draw","what":{"type":"Circle","r":1}}', Draw(Circle(1))),
    ],
)
def test_a_tagged_schema_with_each_key_once_is_read(text: str, message: Any) -> None:
    assert DECODER.decode(text) == (text[9:13], None, message)


# Costs ---------------------------------------------------------------------------------------------------------------


def costing(cost: int, **attributes: Any) -> type[Any]:
    @handles("dear", cost=cost)
    async def dear(self: Any, message: dict[str, Any]) -> None:
        await self.send_json({"type": "done"})

    return type("Dear", (SecureJsonConsumer,), {"allow_anonymous": True, "dear": dear, **attributes})


@pytest.mark.parametrize(
    "rates",
    [
        {"connection": "5/s", "user": "100/m", "ip": None},
        {"connection": "100/s", "user": "5/m", "ip": None},
        {"connection": None, "user": None, "ip": "5/s"},
    ],
)
def test_a_cost_that_no_budget_ever_holds_is_said_to_be_so(rates: Any) -> None:
    with pytest.raises(BadDeclaration, match="a cost above a message rate's amount, 5, is never admitted"):
        plan(costing(6, message_rates=rates))
    assert plan(costing(5, message_rates=rates)).handlers["dear"].cost == 5


def test_where_no_rate_is_set_any_cost_is_admitted() -> None:
    free = {"connection": None, "user": None, "ip": None}
    assert plan(costing(10**9, message_rates=free)).handlers["dear"].cost == 10**9


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_cost_of_a_whole_budget_is_admitted_once() -> None:
    rates = {"connection": "5/m", "user": None, "ip": None}
    async with connect(costing(5, message_rates=rates)) as socket:
        assert await ask(socket, {"type": "dear"}) == {"type": "done"}
        assert (await ask(socket, {"type": "dear"}))["code"] == "rate_limited"


# Coroutines ----------------------------------------------------------------------------------------------------------


def counted(method: F) -> F:
    """A decorator as projects write them: it returns the coroutine of another function, and says so."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return cast("F", markcoroutinefunction(call))


class Decorated(SecureJsonConsumer):
    allow_anonymous = True
    groups = ["lobby"]

    @handles("say")
    @counted
    async def say(self, message: dict[str, Any]) -> None:
        await self.send_json({"type": "said"})

    @counted
    async def news(self, event: Any) -> None:
        await self.send_json({"type": "news"})

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def stored(self, event: Any) -> None:
        asyncio.run_coroutine_threadsafe(self.send_json({"type": "stored"}), self.connection.loop).result(5)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_whatever_returns_a_coroutine_and_says_so_handles_messages_and_events() -> None:
    async with connect(Decorated) as socket:
        assert await ask(socket, {"type": "say"}) == {"type": "said"}
        for kind in ("news", "stored"):
            await get_channel_layer().group_send("lobby", {"type": kind})
            assert await socket.receive_json_from() == {"type": kind}
