"""Groups: one channel of the layer for all members in this process, fanned out to them here.

Plain Channels gives every socket a channel, so that a broadcast to a thousand sockets of one process costs a thousand
layer messages, dispatches and JSON encodings. Here it costs one of each.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Mapping
from functools import partial
from secrets import token_hex
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from channels import DEFAULT_CHANNEL_LAYER
from channels.exceptions import InvalidChannelLayerError
from channels.layers import get_channel_layer

from channels_secure.background import start
from channels_secure.consumers.inbox import unsubscribe
from channels_secure.listening import listen
from channels_secure.members import LocalGroup, Member
from channels_secure.policy.group_names import group_name as group_name

logger = logging.getLogger("channels_secure")

BROADCAST = "channels_secure.broadcast"
RENEW_INTERVAL = 60.0
# Seconds: how long a consumer waits for the layer; until one that has failed is asked again.
PATIENCE, RETRY = 1.0, 2.0


def _nearest(value: Any) -> Any:
    """What msgspec does not know, as the nearest thing it does."""
    if isinstance(value, str):
        return str.__str__(value)  # `str()` of a SafeString is a SafeString
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    return str(value)


encode = msgspec.json.Encoder(enc_hook=_nearest).encode


class Hub:
    """The groups of one event loop on one channel layer."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._id = token_hex(8)
        self._groups: dict[str, LocalGroup] = {}
        self._failed_at: float | None = None  # once the layer has answered again

    async def join(self, member: Member, name: str) -> None:
        """Add a member; the first one of a group subscribes this process.

        While the layer is in trouble members hear what is said in this process, and the others once it is back.
        """
        group = self._groups.setdefault(name, LocalGroup())
        group.members[member] = None
        if group.listener is None:
            telling = await self._agree_soon(name, group)
            if telling.done() and not telling.cancelled():
                telling.result()
        else:
            self._renew(name, group)

    async def leave(self, member: Member, name: str) -> None:
        """Remove a member; the last one of a group unsubscribes this process."""
        group = self._groups.get(name)
        if group is None:
            return
        group.members.pop(member, None)
        if not group.members:
            group.give_up()
            await self._agree_soon(name, group)

    async def leave_all(self, member: Member, names: Iterable[str]) -> None:
        """Remove a member that has gone."""
        for name in names:
            await self.leave(member, name)

    async def broadcast(self, name: str, text: str, *, must_arrive: bool = True) -> None:
        """Send an encoded frame to every member: here directly, elsewhere through the layer.

        Args:
            must_arrive: raise what the layer raises; otherwise one in trouble is left out, and asked again later.
        """
        group = self._groups.get(name)
        if group is not None:
            group.fan_out(text)
        if must_arrive:
            await self._send(name, text)
        elif self._failed_at is None or time.monotonic() - self._failed_at >= RETRY:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._send(name, text)
            except TypeError:
                raise  # a name or a message that no layer takes is the program's fault
            except Exception as error:  # noqa: BLE001 - layers raise what their clients do
                self._note_failure(error)
        # Members' frames leave before the next broadcast is queued, or a burst would look like a slow reader.
        await asyncio.sleep(0)

    async def _send(self, name: str, text: str) -> None:
        await self._layer.group_send(name, {"type": BROADCAST, "text": text, "from": self._id})
        self._failed_at = None

    async def _agree_soon(self, name: str, group: LocalGroup) -> asyncio.Task[None]:
        """Wait for the layer, but not for long: what hangs goes on in the background."""
        group.telling = start(self._agree_or_retry(name, group))
        await asyncio.wait({group.telling}, timeout=PATIENCE)
        return group.telling

    async def _agree_or_retry(self, name: str, group: LocalGroup) -> None:
        try:
            await self._agree(name, group)
        except TypeError:
            raise  # as above
        except Exception as error:  # noqa: BLE001 - layers raise what their clients do
            self._note_failure(error)
            if self._groups.get(name) is group and group.timer is None:
                pause = RETRY * (0.5 + random.random())  # noqa: S311 - jitter, not a secret
                group.timer = asyncio.get_running_loop().call_later(pause, self._try_again, name, group)

    def _try_again(self, name: str, group: LocalGroup) -> None:
        group.timer = None
        group.telling = start(self._agree_or_retry(name, group))

    def _note_failure(self, error: Exception) -> None:
        if self._failed_at is None:
            logger.warning("layer.failed", extra={"error": type(error).__name__})
        self._failed_at = time.monotonic()

    async def _agree(self, name: str, group: LocalGroup) -> None:
        """Make the layer agree with who is here now; the lock keeps a late leave from undoing a new join."""
        async with group.changing:
            if self._groups.get(name) is not group:
                return
            if group.members and group.listener is None:
                # The default prefix: channels_redis reads one real channel per prefix, and while it waits on one it is
                # deaf to the others.
                group.channel = group.channel or await self._layer.new_channel()
                await self._layer.group_add(name, group.channel)
                group.listener = start(listen(self._layer, group.channel, partial(self._receive, group)))
                self._schedule(name, group)
            elif not group.members:
                del self._groups[name]
                group.close()
                if group.renewal is not None:
                    # One that is half-way would subscribe again what is unsubscribed now.
                    await asyncio.wait({group.renewal})
                if group.channel:
                    try:
                        await self._layer.group_discard(name, group.channel)
                    finally:
                        await unsubscribe(self._layer, group.channel)

    def _schedule(self, name: str, group: LocalGroup) -> None:
        # Channels forgets a membership after `group_expiry`, a day; Redis forgets it whenever it is emptied.
        pause = min(RENEW_INTERVAL, getattr(self._layer, "group_expiry", 86400) / 4)
        group.timer = asyncio.get_running_loop().call_later(pause, self._on_timer, name, group)

    def _on_timer(self, name: str, group: LocalGroup) -> None:
        self._renew(name, group)
        self._schedule(name, group)

    def _renew(self, name: str, group: LocalGroup) -> None:
        """Tell the layer again that this process is in the group, in the background and one call at a time."""
        if group.renewal is None or group.renewal.done():
            group.renewal = start(self._add_again(name, group.channel))

    async def _add_again(self, name: str, channel: str) -> None:
        try:
            await self._layer.group_add(name, channel)
        except Exception as error:  # noqa: BLE001 - the next renewal tries again
            self._note_failure(error)
        else:
            self._failed_at = None

    async def _receive(self, group: LocalGroup, event: dict[str, Any]) -> None:
        if event.get("type") != BROADCAST:
            group.deliver(event)
        elif event.get("from") != self._id:
            text = event["text"]
            if not isinstance(text, str):
                raise TypeError(f"a broadcast's text is a string, not {type(text).__name__}")
            group.fan_out(text)
        await asyncio.sleep(0)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Hub]] = WeakKeyDictionary()


def hub(alias: str = DEFAULT_CHANNEL_LAYER) -> Hub:
    """The hub of the running event loop for a channel layer.

    Raises:
        InvalidChannelLayerError: no such layer is configured.
    """
    hubs = _hubs.setdefault(asyncio.get_running_loop(), {})
    if alias not in hubs:
        layer = get_channel_layer(alias)
        if layer is None:
            raise InvalidChannelLayerError(f"groups need a channel layer: CHANNEL_LAYERS has no {alias!r}")
        hubs[alias] = Hub(layer)
    return hubs[alias]


async def broadcast(name: str, content: Mapping[str, Any], *, alias: str = DEFAULT_CHANNEL_LAYER) -> None:
    """Send a JSON message to every member of a group, from anywhere: a view, a task, a command.

    Raises:
        Exception: what the channel layer raises while it is away; members in this process have the message.
    """
    await hub(alias).broadcast(group_name(name), encode(content).decode())
