"""Prolonging the slots of the open connections, where several processes count them."""

import time
from typing import Any

from channels_secure.connections import Registry
from channels_secure.connections.slots import held_slots
from channels_secure.exceptions import Unavailable
from channels_secure.signals import store_recovered
from channels_secure.stores import get_store

# Seconds; half of the lease, so that after a renewal that failed two more tries fit into what is left.
INTERVAL, RETRY = 15.0, 5.0


class Renewal:
    """Renews when it is due, and at once when a store that was away is back: it may have forgotten everything."""

    def __init__(self, connections: Registry) -> None:
        self._connections = connections
        self._due_at = 0.0
        store_recovered.connect(self._now)

    async def look(self) -> None:
        slots, now = get_store().slots, time.monotonic()
        if slots is None or now < self._due_at:
            return
        self._due_at = now + INTERVAL
        try:
            await slots.renew(held_slots(self._connections))
        except Unavailable:
            # The store says so itself. Not later than it may be due already: the store may have come back meanwhile.
            self._due_at = min(self._due_at, time.monotonic() + RETRY)

    def _now(self, **_: Any) -> None:
        self._due_at = 0.0
