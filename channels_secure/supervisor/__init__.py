"""One background task per event loop for everything periodic."""

from channels_secure.supervisor.leaving import leave_at_exit, record_ends
from channels_secure.supervisor.supervisor import Supervisor, current

__all__ = ["Supervisor", "current", "leave_at_exit", "record_ends"]
