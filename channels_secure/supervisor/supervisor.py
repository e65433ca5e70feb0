"""The one background task of an event loop: everything periodic happens here.

It starts with the first connection and ends when there is neither a connection nor anything to write, so that an idle
process and a test leave no task behind. A step that fails is logged and tried again at the next pass.
"""

import asyncio
import logging
import os
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseTrouble

from channels_secure import audit, blocklist
from channels_secure.background import start
from channels_secure.conf import get_settings
from channels_secure.connections import Registry, registry
from channels_secure.signals import policy_changed
from channels_secure.stores import get_store
from channels_secure.supervisor import push, rounds, sweeping
from channels_secure.supervisor.counting import Counting
from channels_secure.supervisor.enforcing import Enforcement
from channels_secure.supervisor.janitor import Janitor
from channels_secure.supervisor.presence import Presence
from channels_secure.supervisor.renewal import Renewal
from channels_secure.supervisor.rounds import Rounds

logger = logging.getLogger("channels_secure")

PASS_INTERVAL = 1.0
# A full reload finds blocks made by raw SQL, which changes no version.
FULL_RELOAD_INTERVAL = 60.0


class Supervisor:
    """Watches the connections of one event loop.

    It holds nothing of the loop while its task does not run: the loop is the weak key under which it is found.
    """

    def __init__(self, connections: Registry) -> None:
        self.connections = connections
        self.presence = Presence(connections)
        self._task: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._awake = asyncio.Event()
        self._sweep_due_at = 0.0
        self._policy_due = False
        self._policy_failed = False
        # When the last look at the version was begun.
        self._policy_began = 0.0
        self._enforcement = Enforcement(connections)
        self._rounds = Rounds(connections)
        self._renewal = Renewal(connections)
        self._janitor = Janitor()
        self._counting = Counting(connections)

    def ensure(self) -> None:
        """Start the task unless it runs."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="channels_secure.supervisor")
            self._task.add_done_callback(self._ended)

    def policy_is_due(self) -> None:
        """Look for changed blocks and revocations now rather than at the next pass."""
        self._policy_due = True
        if self._task is not None:
            self._step("policy", self._refresh_policy())

    def wake(self) -> None:
        self._sweep_due_at = self._counting.due_at = 0.0
        self._awake.set()

    async def _run(self) -> None:
        ear = start(push.attend(self.policy_is_due))
        try:
            while self._is_needed():
                self._awake.clear()
                try:
                    await self._pass()
                except Exception:
                    logger.exception("supervisor.failed")
                await self._pause()
                if not self._is_needed():
                    # Before the question is asked once more: a connection may come while the store is at it.
                    await _rest_store()
        finally:
            ear.cancel()
            # With nobody here, nobody does without a database.
            self._counting.tell(database_is_away=False)

    def _is_needed(self) -> bool:
        return bool(self.connections) or audit.pending() or self.presence.pending()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
            self._running.clear()
            self._awake = asyncio.Event()

    async def _pass(self) -> None:
        """What one act raises must not keep the others from being done, the deadlines least of all."""
        for act in (self._enforce, self._begin_steps, self._watch_database, self._count, _sweep_store):
            try:
                act()
            except Exception:
                logger.exception("supervisor.failed")
        now = time.monotonic()
        if now >= self._sweep_due_at:
            # Not at each pass: looking at ten thousand deadlines takes longer than all the rest of it.
            interval = min(PASS_INTERVAL, get_settings().policy_refresh_interval)
            self._sweep_due_at = now + 0.9 * interval
            await sweeping.sweep(self.connections, now)

    def _begin_steps(self) -> None:
        self._step("policy", self._refresh_policy())
        self._step("presence", self.presence.look())
        self._step("audit", audit.flush())
        self._step("revalidation", self._rounds.go())
        self._step("slots", self._renewal.look())
        self._step("janitor", self._janitor.look())

    def _watch_database(self) -> None:
        # A look that hangs fails without an error.
        look = self._running.get("policy")
        is_stuck = look is not None and not look.done() and time.monotonic() - self._policy_began > rounds.PATIENCE
        self._rounds.watch(policy_is_away=self._policy_failed or is_stuck)

    def _count(self) -> None:
        self._counting.look(database_is_away=self._rounds.is_away)

    async def _pause(self) -> None:
        settings = get_settings()
        pause = min(
            PASS_INTERVAL,
            settings.policy_refresh_interval,
            settings.audit_flush_interval,
            settings.revalidate_interval / 4,
        )
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
        if name == "policy":
            self._policy_began = time.monotonic()
        self._running[name] = start(step)

    async def _refresh_policy(self) -> None:
        now = time.monotonic()
        # Half the interval, so that what another process changed is found within the whole of it. A look that failed is
        # tried again though a handshake may have had more luck: only our own look ends what `watch` holds for trouble.
        is_wanted = self._policy_due or self._policy_failed
        if not is_wanted and blocklist.age(now) < get_settings().policy_refresh_interval / 2:
            return
        snapshot = blocklist.current()
        full = snapshot is None or now - snapshot.loaded_at >= FULL_RELOAD_INTERVAL
        self._policy_due = False
        try:
            await blocklist.refresh(full=full)
        except DatabaseTrouble as error:
            if not self._policy_failed:
                logger.error("policy.refresh_failed", extra={"error": type(error).__name__})
            self._policy_failed = True
            return
        finally:
            if self._policy_due:
                # Changed again while we looked.
                self._awake.set()
        self._policy_failed = False
        self._enforce()

    def _enforce(self) -> None:
        """Apply a snapshot to the open sockets once, whoever loaded it: a handshake may have been first."""
        snapshot = blocklist.current()
        if snapshot is not None:
            self._enforcement.meet(snapshot)
        if self._enforcement.is_due:
            self._step("enforcement", self._enforcement.go())
        if self._enforcement.rechecks:
            self._step("recheck", self._enforcement.rechecks.go())


def _sweep_store() -> None:
    get_store().sweep()


async def _rest_store() -> None:
    try:
        await get_store().rest()
    except Exception:
        logger.exception("supervisor.failed")


_supervisors: WeakKeyDictionary[asyncio.AbstractEventLoop, Supervisor] = WeakKeyDictionary()
# A child process has no part in its parent's connections, and must not record their end when it ends itself.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_supervisors.clear)


def current() -> Supervisor:
    """The supervisor of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _supervisors.get(loop)
    if found is None:
        found = _supervisors[loop] = Supervisor(registry())
    return found


def everybody() -> list[Supervisor]:
    """The supervisors of all event loops of this process."""
    return list(_supervisors.values())


def _policy_changed(**_: Any) -> None:
    """Blocks changed in this process, in whatever thread: the loops need not wait for their next look."""
    # `keyrefs()` is a copy: loops begin and end in other threads while this one goes through them.
    for loop in filter(None, (reference() for reference in _supervisors.keyrefs())):
        supervisor = _supervisors.get(loop)
        # A loop may be closed at any moment, also between the question and the call.
        with suppress(RuntimeError):
            if supervisor is not None:
                loop.call_soon_threadsafe(supervisor.policy_is_due)


policy_changed.connect(_policy_changed, dispatch_uid="channels_secure.supervisor")
