"""The one background task of an event loop: everything periodic happens here.

It starts with the first connection and ends when there is neither a connection nor anything to write, so that an idle
process and a test leave no task behind. A step that fails is logged and tried again at the next pass.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from channels_secure import audit, blocklist
from channels_secure.background import start
from channels_secure.conf import get_settings
from channels_secure.connections import Registry, registry
from channels_secure.signals import policy_changed
from channels_secure.stores import get_store
from channels_secure.supervisor import sweeping

logger = logging.getLogger("channels_secure")

PASS_INTERVAL = 1.0
# A full reload finds blocks made by raw SQL, which changes no version.
FULL_RELOAD_INTERVAL = 60.0


class Supervisor:
    """Watches the connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Registry) -> None:
        self._loop = loop
        self._connections = connections
        self._task: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._awake: asyncio.Event = asyncio.Event()
        self._reloaded_at = time.monotonic()
        self._policy_due = False
        self._policy_failed = False
        self._enforced: blocklist.Snapshot | None = None

    def ensure(self) -> None:
        """Start the task unless it runs."""
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run(), name="channels_secure.supervisor")

    def policy_is_due(self) -> None:
        """Look for changed blocks now rather than at the next pass."""
        self._policy_due = True
        self._awake.set()

    def wake(self) -> None:
        self._awake.set()

    async def _run(self) -> None:
        while self._connections or audit.pending():
            self._awake.clear()
            self._enforce()
            self._step("policy", self._refresh_policy())
            self._step("audit", audit.flush())
            try:
                await sweeping.sweep(self._connections, time.monotonic())
                get_store().sweep()
            except Exception:
                logger.exception("supervisor.failed")
            await self._pause()

    async def _pause(self) -> None:
        settings = get_settings()
        pause = min(PASS_INTERVAL, settings.policy_refresh_interval, settings.audit_flush_interval)
        try:
            async with asyncio.timeout(pause):
                await self._awake.wait()
        except TimeoutError:
            return

    def _step(self, name: str, step: Coroutine[Any, Any, Any]) -> None:
        """Begin a step that waits for a database, unless the last one still runs: deadlines must not wait for it."""
        if name in self._running and not self._running[name].done():
            step.close()
            return
        self._running[name] = start(step)

    async def _refresh_policy(self) -> None:
        now = time.monotonic()
        # Half the interval, so that what another process changed is found within the whole of it.
        if not self._policy_due and blocklist.age(now) < get_settings().policy_refresh_interval / 2:
            return
        full = now - self._reloaded_at >= FULL_RELOAD_INTERVAL
        self._policy_due = False
        try:
            await blocklist.refresh(full=full)
        except DatabaseError as error:
            if not self._policy_failed:
                logger.error("policy.refresh_failed", extra={"error": type(error).__name__})
            self._policy_failed = True
            return
        self._policy_failed = False
        if full:
            self._reloaded_at = now
        self._enforce()

    def _enforce(self) -> None:
        """Apply a snapshot to the open sockets once, whoever loaded it: a handshake may have been first."""
        snapshot = blocklist.current()
        if snapshot is not None and snapshot is not self._enforced:
            self._enforced = snapshot
            sweeping.enforce_blocks(self._connections, snapshot)


_supervisors: WeakKeyDictionary[asyncio.AbstractEventLoop, Supervisor] = WeakKeyDictionary()


def current() -> Supervisor:
    """The supervisor of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _supervisors.get(loop)
    if found is None:
        found = _supervisors[loop] = Supervisor(loop, registry())
    return found


def _policy_changed(**_: Any) -> None:
    """Blocks changed in this process, in whatever thread: the loops need not wait for their next look."""
    for loop, supervisor in list(_supervisors.items()):
        if not loop.is_closed():
            loop.call_soon_threadsafe(supervisor.policy_is_due)


policy_changed.connect(_policy_changed, dispatch_uid="channels_secure.supervisor")
