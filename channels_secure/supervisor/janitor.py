"""Deleting what has expired: tickets that nobody redeemed, and revocations that concern nothing any more."""

import random
import time

from channels_secure import database, revocation
from channels_secure.auth import tickets

# Seconds; every process does it, so that none has to be chosen.
INTERVAL = 60.0


class Janitor:
    """Deletes in small batches, when it is due."""

    def __init__(self) -> None:
        self._due_at = time.monotonic() + INTERVAL * random.random()  # noqa: S311 - so that processes take turns

    async def look(self) -> None:
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + INTERVAL
        for delete_expired in (tickets.delete_expired, revocation.delete_expired):
            # Until nothing is left, one batch after another, with other writes in between.
            while await database.write(delete_expired):
                pass
