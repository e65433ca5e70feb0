"""Safe WebSockets for Django Channels: guards for the handshake, for every message, and for every open socket."""

__version__ = "0.1.0"
