"""Who may not connect: asked in memory, changed in the database.

Handshakes and open sockets ask the process's `Snapshot`, which costs dictionary look-ups; `refresh()` keeps it no older
than the settings allow. `block()` and `unblock()` change the rows, in one transaction with the audit trail.
"""

from channels_secure.blocklist import automatic, snapshot
from channels_secure.blocklist.automatic import ablock_automatically, next_duration
from channels_secure.blocklist.changes import ablock, aunblock, block, lift, unblock
from channels_secure.blocklist.snapshot import Hit, Snapshot, age, current, denial, refresh

__all__ = [
    "Hit",
    "Snapshot",
    "ablock",
    "ablock_automatically",
    "age",
    "aunblock",
    "block",
    "current",
    "denial",
    "lift",
    "next_duration",
    "refresh",
    "reset",
    "unblock",
]


def reset() -> None:
    """Forget what this process knows; for tests."""
    snapshot.reset()
    automatic.reset()
