"""The consumer to inherit from, and the decorator for its message handlers."""

from channels_secure.consumers.consumer import SecureJsonConsumer
from channels_secure.consumers.handlers import handles

__all__ = ["SecureJsonConsumer", "handles"]
