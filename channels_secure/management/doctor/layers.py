"""The channel layers: whether everything arrives that is sent."""

import asyncio
from contextlib import suppress
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import channel_layers
from django.conf import settings as django_settings

from channels_secure.management.doctor.findings import PATIENCE, Finding

# So many messages wait in a channel while its consumer is busy for a moment.
MESSAGES = 50


async def examine() -> list[Finding]:
    found = [await _examine(alias) for alias in getattr(django_settings, "CHANNEL_LAYERS", {})]
    return [finding for finding in found if finding is not None]


async def _examine(alias: str) -> Finding | None:
    try:
        # One of our own: the project's may belong to another event loop.
        layer = channel_layers.make_backend(alias)
    except Exception as error:  # noqa: BLE001 - whatever a back-end raises is the finding
        return Finding(
            f"The channel layer {alias!r} cannot be made ({type(error).__name__}).", "Correct CHANNEL_LAYERS."
        )
    try:
        async with asyncio.timeout(PATIENCE):
            return await _send_and_count(alias, layer)
    except Exception as error:  # noqa: BLE001 - whatever a back-end raises is the finding
        return Finding(
            f"The channel layer {alias!r} does not answer ({type(error).__name__}).",
            "Start its server, or correct CHANNEL_LAYERS; until then groups reach one process only.",
        )
    finally:
        await _close(layer)


async def _send_and_count(alias: str, layer: Any) -> Finding | None:
    channel = await layer.new_channel("ws_doctor")
    for number in range(MESSAGES):
        try:
            await layer.send(channel, {"type": "ws.doctor", "number": number})
        except ChannelFull:
            await _receive(layer, channel, number)
            return Finding(
                f"The channel layer {alias!r} is full after {number} messages: a consumer that is busy loses the next.",
                "Raise its capacity; 100 is the default.",
            )
    received = await _receive(layer, channel, MESSAGES)
    if received == MESSAGES:
        return None
    return Finding(
        f"The channel layer {alias!r} lost {MESSAGES - received} of {MESSAGES} messages.",
        "Look for a server that evicts keys (maxmemory-policy), several servers behind one address, or a short expiry.",
    )


async def _receive(layer: Any, channel: str, count: int) -> int:
    """Take what arrives, until it is all or nothing comes any more; returns how many were received."""
    numbers = set()
    with suppress(TimeoutError):
        for _ in range(count):
            async with asyncio.timeout(PATIENCE / 5):
                numbers.add((await layer.receive(channel))["number"])
    return len(numbers)


async def _close(layer: Any) -> None:
    close = getattr(layer, "close_pools", None)
    if close is not None:
        with suppress(Exception):
            await close()
