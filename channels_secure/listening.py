"""Listening to a channel of the layer, through whatever becomes of the layer."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

logger = logging.getLogger("channels_secure")

RETRY_FIRST, RETRY_LAST = 0.1, 2.0


async def listen(layer: Any, channel: str, receive: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Receive from a channel for ever; a layer that fails is asked again, later and later.

    Channels ends the consumer at the first error of its layer, so that a blip of Redis closes every socket.
    """
    pause = RETRY_FIRST
    while True:
        try:
            event = await layer.receive(channel)
        except Exception as error:  # noqa: BLE001 - layers raise what their clients do
            if pause == RETRY_FIRST:
                logger.warning("layer.failed", extra={"error": type(error).__name__})
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            pause = min(RETRY_LAST, pause * 2)
            continue
        pause = RETRY_FIRST
        try:
            await receive(event)
        except Exception:
            # Anybody who reaches the layer may write into it; one event must not deafen a whole group.
            logger.exception("layer.bad_event")
