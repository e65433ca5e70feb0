"""The members that a group has in this process."""

import asyncio
from typing import Any, Protocol

from channels_secure.connections.connection import Connection
from channels_secure.consumers.inbox import Inbox


class Member(Protocol):
    """What the hub needs of a consumer."""

    connection: Connection
    inbox: Inbox


class LocalGroup:
    """The members of one group in this process, and the channel by which the layer reaches all of them."""

    __slots__ = ("changing", "channel", "listener", "members", "renewal", "telling", "timer")

    def __init__(self) -> None:
        self.members: dict[Member, None] = {}
        # Empty until the layer has been told of it.
        self.channel = ""
        self.changing = asyncio.Lock()
        self.listener: asyncio.Task[None] | None = None
        self.renewal: asyncio.Task[None] | None = None
        # The last try to make the layer agree with who is here.
        self.telling: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def fan_out(self, text: str) -> None:
        for member in list(self.members):
            member.connection.post(text)

    def deliver(self, event: dict[str, Any]) -> None:
        for member in list(self.members):
            member.inbox.put(dict(event))

    def give_up(self) -> None:
        """Tell the layer no more of who was here: it may hang for long."""
        if self.telling is not None:
            self.telling.cancel()

    def close(self) -> None:
        """End what runs for the group."""
        if self.timer is not None:
            self.timer.cancel()
        for task in (self.listener, self.renewal):
            if task is not None:
                task.cancel()
