"""Telling the other processes over the channel layer that something changed, so that they look before they would.

A message says nothing but "look": who can write into the layer can make processes read the database a little more
often, and nothing else. A message that is lost costs the time until the next look, at most POLICY_REFRESH_INTERVAL.
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer

from channels_secure.background import start
from channels_secure.listening import listen
from channels_secure.signals import policy_changed

logger = logging.getLogger("channels_secure")

GROUP = "channels_secure.policy"
LOOK = {"type": "channels_secure.look"}

# Seconds. Channels forgets a membership after `group_expiry`, a day; Redis forgets it whenever it is emptied. Until the
# next renewal polling is what finds changes.
RENEW_INTERVAL = 15.0
# Between two messages, and between two looks that messages cause: a burst of changes needs no burst of looks.
PAUSE = 0.02
SEND_TIMEOUT = 1.0
LEAVE_TIMEOUT = 1.0


def shared_layer() -> Any:
    """The channel layer that other processes may listen to, or None."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


# Receiving ------------------------------------------------------------------------------------------------------------


async def attend(look: Callable[[], None]) -> None:
    """Call `look` for the messages of other processes, until cancelled; returns at once where there is no layer."""
    try:
        layer = shared_layer()
    except Exception as error:  # noqa: BLE001 - a layer that cannot be made is the system checks' affair
        logger.error("push.failed", extra={"error": type(error).__name__})
        return
    if layer is None:
        return
    # The default prefix: channels_redis reads one real channel per prefix, and while it waits on one it is deaf to the
    # others.
    channel = await _new_channel(layer)
    renewal = start(_keep_membership(layer, channel))

    async def receive(_: dict[str, Any]) -> None:
        look()
        await asyncio.sleep(PAUSE)

    try:
        await listen(layer, channel, receive)
    finally:
        renewal.cancel()
        # The group would keep the channel for a day, and the layer what is sent to it.
        await asyncio.wait({renewal, start(_leave(layer, channel))}, timeout=LEAVE_TIMEOUT)


async def _new_channel(layer: Any) -> str:
    while True:
        try:
            return str(await layer.new_channel())
        except Exception as error:  # noqa: BLE001 - layers raise what their clients do
            logger.warning("layer.failed", extra={"error": type(error).__name__})
            await asyncio.sleep(RENEW_INTERVAL)


async def _keep_membership(layer: Any, channel: str) -> None:
    pause = min(RENEW_INTERVAL, getattr(layer, "group_expiry", 86400) / 4)
    while True:
        try:
            await layer.group_add(GROUP, channel)
        except Exception as error:  # noqa: BLE001 - the next renewal tries again
            logger.warning("layer.failed", extra={"error": type(error).__name__})
        await asyncio.sleep(pause)


async def _leave(layer: Any, channel: str) -> None:
    try:
        await layer.group_discard(GROUP, channel)
    except Exception as error:  # noqa: BLE001 - it expires
        logger.warning("layer.failed", extra={"error": type(error).__name__})


# Sending --------------------------------------------------------------------------------------------------------------


class Loop(asyncio.SelectorEventLoop):
    """Looks names up in its own thread: once the main thread has ended, no executor takes anything any more."""

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        return socket.getaddrinfo(host, port, **options)


class Crier:
    """Sends from a thread of its own, which lives while there is something to send: whoever commits never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._due = False
        self._failed = False
        self._sent_at = 0.0

    def cry(self) -> None:
        """Have a message sent soon; those that are asked for meanwhile are one."""
        with self._lock:
            self._due = True
            if self._thread is None:
                # Not a daemon: a command that ends after its change waits for the message, for a second at most.
                thread = threading.Thread(target=self._work, name="channels_secure.push")
                thread.start()
                self._thread = thread

    def finish(self, seconds: float) -> None:
        """Wait until what was asked for has been sent."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while self._goes_on():
            pause = max(0.0, min(PAUSE, self._sent_at + PAUSE - time.monotonic()))
            time.sleep(pause)  # a burst of changes makes one message; nobody else waits in this thread
            self._send()
            self._sent_at = time.monotonic()

    def _goes_on(self) -> bool:
        with self._lock:
            if not self._due:
                self._thread = None
                return False
            self._due = False
            return True

    def _send(self) -> None:
        try:
            # A loop for each message: nothing of the layer's client outlives it, nor follows into a forked child.
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(_announce())
        except Exception as error:  # noqa: BLE001 - layers raise what their clients do; the others will look by themselves
            if not self._failed:
                logger.warning("push.failed", extra={"error": type(error).__name__})
            self._failed = True
        else:
            self._failed = False


async def _announce() -> None:
    layer = shared_layer()
    if layer is not None:
        async with asyncio.timeout(SEND_TIMEOUT):
            await layer.group_send(GROUP, LOOK)


_crier = Crier()


def finish(seconds: float = 2 * SEND_TIMEOUT) -> None:
    """Wait until the other processes have been told; for commands, and tests."""
    _crier.finish(seconds)


def _forget() -> None:
    # Threads do not survive a fork.
    global _crier
    _crier = Crier()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _policy_changed(**_: Any) -> None:
    try:
        if shared_layer() is not None:
            _crier.cry()
    except Exception as error:  # noqa: BLE001 - the change stands, and will be found
        logger.warning("push.failed", extra={"error": type(error).__name__})


policy_changed.connect(_policy_changed, dispatch_uid="channels_secure.push")
