"""A declared handler can be reached by messages alone: an event of the layer would pass its schema by."""

from typing import Any

import pytest
from channels.db import database_sync_to_async

from channels_secure.conf import get_settings
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.consumers.handlers import plan_of


class Threaded(SecureJsonConsumer):
    @handles("say")
    @database_sync_to_async  # type: ignore[untyped-decorator]
    def say(self, message: dict[str, Any]) -> None: ...

    @handles("ask")
    async def ask(self, message: dict[str, Any]) -> None: ...


class Overriding(Threaded):
    """An override keeps the declaration, and does not bear the mark itself."""

    async def say(self, message: dict[str, Any]) -> None: ...

    async def ask(self, message: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("consumer", [Threaded, Overriding])
def test_no_event_names_a_handler_however_it_was_made(consumer: Any) -> None:
    plan = plan_of(consumer, SecureJsonConsumer, get_settings())
    assert (set(plan.handlers), plan.events) == ({"say", "ask"}, frozenset())
