"""The audit trail: `record()` costs microseconds and never waits, `flush()` writes what was recorded.

`write()` is for changes of security itself, which must be stored in the transaction that makes them or not at all.
"""

import os

from channels_secure.audit import chain, flushing, recorder, spooling
from channels_secure.audit import stores as stores  # it listens
from channels_secure.audit.acting import acting_from
from channels_secure.audit.flushing import (
    flush,
    flush_all,
    flush_at_exit,
    flush_now,
    is_writable,
    log_rest,
    pending,
    queue_size,
)
from channels_secure.audit.recorder import Facts, record, tell, write
from channels_secure.audit.source import Source, source_of

__all__ = [
    "Facts",
    "Source",
    "acting_from",
    "flush",
    "flush_all",
    "flush_at_exit",
    "flush_now",
    "is_writable",
    "log_rest",
    "pending",
    "queue_size",
    "record",
    "reset",
    "source_of",
    "tell",
    "write",
]


def reset() -> None:
    """Forget everything not yet written; for tests, and for a child process, whose parent writes what is its own."""
    for part in (recorder, flushing, chain, spooling):
        part.reset()


# A lock that was held while the process forked would never be freed in the child. Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)
