"""The open sockets of this process, and what may be done with one: send, answer, close, sever."""

from channels_secure.connections.connection import Connection
from channels_secure.connections.disconnecting import adisconnect, arecheck, disconnect, recheck
from channels_secure.connections.live import Registry, claim_slot, make_room, registry

__all__ = [
    "Connection",
    "Registry",
    "adisconnect",
    "arecheck",
    "claim_slot",
    "disconnect",
    "make_room",
    "recheck",
    "registry",
]
