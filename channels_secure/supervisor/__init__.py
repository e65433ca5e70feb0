"""One background task per event loop for everything periodic."""

from channels_secure.supervisor.supervisor import Supervisor, current, record_ends

__all__ = ["Supervisor", "current", "record_ends"]
