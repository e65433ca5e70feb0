"""What a consumer has of the channel layer: groups, and a channel of its own."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer

from channels_secure.background import start
from channels_secure.connections.connection import Connection
from channels_secure.consumers.inbox import Inbox, subscribes, unsubscribe
from channels_secure.exceptions import PeerGone
from channels_secure.groups import encode, group_name, hub

logger = logging.getLogger("channels_secure")


class Membership:
    """Joining, leaving and broadcasting for a consumer, and the end of it all."""

    channel_layer_alias: str = DEFAULT_CHANNEL_LAYER
    channel_layer: Any
    connection: Connection
    inbox: Inbox

    _channel: str
    _joined: dict[str, None]

    @property
    def channel_name(self) -> str:
        """The name of a channel of this consumer's own; it listens there from the first time somebody asks."""
        if not self._channel:
            raise AttributeError("there is no channel layer, or it is away, so there is no channel")
        self.inbox.listen(self.channel_layer, self._channel)
        return self._channel

    async def join(self, name: str) -> None:
        """Join a group, whatever characters its name has; left at the end of the connection.

        A channel layer in trouble is told later; until then the group's members in this process are heard.

        Raises:
            PeerGone: the socket has ended.
        """
        if self.connection.ended:
            raise PeerGone
        group = group_name(name)
        self._joined[group] = None
        await hub(self.channel_layer_alias).join(self, group)
        if self.connection.leaving:
            # A task of the project's own, too late for the clean-up.
            await hub(self.channel_layer_alias).leave(self, group)

    async def leave(self, name: str) -> None:
        """Leave a group joined with `join` or named in `groups`."""
        group = group_name(name)
        self._joined.pop(group, None)
        await hub(self.channel_layer_alias).leave(self, group)

    async def broadcast(self, name: str, content: Mapping[str, Any]) -> None:
        """Send a JSON message to every member of a group; encoded once.

        A channel layer in trouble is left out: then it reaches the members in this process.
        """
        text = await self.encode_json(content)
        await hub(self.channel_layer_alias).broadcast(group_name(name), text, must_arrive=False)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        """JSON by msgspec: also dates, UUIDs, decimals, dataclasses and Structs; anything else by `str()`."""
        return encode(content).decode()

    async def _enter_layer(self) -> None:
        self._joined = {}
        self.connection.groups = self._joined
        self._channel = ""
        self.channel_layer = get_channel_layer(self.channel_layer_alias)
        if self.channel_layer is None:
            return
        try:
            self._channel = await self.channel_layer.new_channel()
        except Exception as error:  # noqa: BLE001 - most consumers need no channel, so they need no layer either
            logger.warning("layer.failed", extra={"error": type(error).__name__})

    async def _leave_layer(self, deadline: float) -> None:
        """Let go of groups and channel; neither a layer that hangs nor the server's cancellation keeps them."""
        if self._joined or (self._channel and subscribes(self.channel_layer)):
            await asyncio.wait({start(self._let_go())}, timeout=deadline)

    async def _let_go(self) -> None:
        if self._joined:
            await hub(self.channel_layer_alias).leave_all(self, list(self._joined))
        if self._channel:
            await unsubscribe(self.channel_layer, self._channel)
