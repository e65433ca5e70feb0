"""Who may not connect, and what no longer counts: asked in memory, changed in the database.

Handshakes and open sockets ask the process's `Snapshot`, which costs dictionary look-ups; `refresh()` keeps it no older
than the settings allow. `block()` and `unblock()` change the rows, in one transaction with the audit trail.
"""

from channels_secure.blocklist import automatic, in_force
from channels_secure.blocklist.automatic import ablock_automatically, next_duration
from channels_secure.blocklist.changes import ablock, aunblock, block, lift, unblock
from channels_secure.blocklist.in_force import age, current, refresh
from channels_secure.blocklist.revoked import Change, Revoked
from channels_secure.blocklist.snapshot import Hit, Snapshot, denial, longest

__all__ = [
    "Change",
    "Hit",
    "Revoked",
    "Snapshot",
    "ablock",
    "ablock_automatically",
    "age",
    "aunblock",
    "block",
    "current",
    "denial",
    "lift",
    "longest",
    "next_duration",
    "refresh",
    "reset",
    "unblock",
]


def reset() -> None:
    """Forget what this process knows; for tests."""
    in_force.reset()
    automatic.reset()
