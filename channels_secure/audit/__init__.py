"""The audit trail: `record()` costs microseconds and never waits, `flush()` writes what was recorded.

`write()` is for changes of security itself, which must be stored in the transaction that makes them or not at all.
"""

from channels_secure.audit import stores  # noqa: F401 - it listens
from channels_secure.audit.recorder import (
    Facts,
    flush,
    flush_all,
    flush_at_exit,
    flush_now,
    pending,
    record,
    reset,
    write,
)

__all__ = ["Facts", "flush", "flush_all", "flush_at_exit", "flush_now", "pending", "record", "reset", "write"]
