"""When an open socket's rights are looked up again, and who is told what was found."""

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channels_secure.connections.connection import Connection


@dataclass(slots=True)
class Validity:
    """What re-validation keeps for one connection.

    Args:
        due_at: the monotonic second at which its rights are to be looked up; None until the first time is set.
        was_due_at: the same of the last look.
        urgent: the look has been asked for, or has failed, and waits for no others.
        read_at: the monotonic second at which the look was begun that is in force.
        scope: the one that a consumer of ours holds, whose `user` is replaced; routers copy scopes on their way.
        summon: has a consumer's `authorize()` asked again when no handler runs; None where it says nothing.
        asked: resolved when that has been done, with whether an answer could be had.
    """

    due_at: float | None = None
    was_due_at: float = 0.0
    urgent: bool = False
    read_at: float = 0.0
    scope: MutableMapping[str, Any] | None = None
    summon: Callable[[], None] | None = None
    asked: "asyncio.Future[bool] | None" = None

    def ask(self) -> "asyncio.Future[bool] | None":
        """Have `authorize()` asked again, after this call; those who come before it begins share the asking."""
        if self.summon is None:
            return None
        if self.asked is None:
            self.asked = asyncio.get_running_loop().create_future()
            self.summon()
        return self.asked

    def take(self) -> "asyncio.Future[bool] | None":
        """What is being answered now; who asks from now on asks anew."""
        asked, self.asked = self.asked, None
        return asked

    def let_go(self) -> None:
        """The consumer has ended: nobody answers any more."""
        self.scope = self.summon = None
        answer(self.take(), True)


def answer(asked: "asyncio.Future[bool] | None", could_ask: bool) -> None:
    """Tell whoever waits, if somebody does."""
    if asked is not None and not asked.done():
        asked.set_result(could_ask)


def has_expired(connection: "Connection") -> bool:
    """Whether a socket whose `expires_at` has come is at its end; a session may have been prolonged by use.

    Asked at each message, because the supervisor looks only now and then.
    """
    return connection.identity is None or not connection.identity.ends_with_session
