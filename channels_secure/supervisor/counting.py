"""Telling whoever counts how many sockets there are: every few seconds, so that no message costs anything for it."""

import time

from channels_secure import audit
from channels_secure.connections import Registry
from channels_secure.signals import sockets_counted

# Seconds.
INTERVAL = 2.0


class Counting:
    """Has the connections of one event loop counted."""

    def __init__(self, connections: Registry) -> None:
        self._connections = connections
        self.due_at = 0.0

    def look(self, *, database_is_away: bool) -> None:
        """Tell, if it is time; what came since the last call is told with the next."""
        now = time.monotonic()
        if now >= self.due_at:
            self.due_at = now + INTERVAL
            self.tell(database_is_away=database_is_away)

    def tell(self, *, database_is_away: bool) -> None:
        """Tell now, for instance because nobody will look any more."""
        audit.tell()
        sockets_counted.send_robust(Registry, connections=self._connections, database_is_away=database_is_away)
