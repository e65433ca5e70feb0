"""What a process remembers between handshakes, and how a test forgets it."""

import sys
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.test import override_settings

# Every limit of the settings, switched off; a consumer class's own attributes and its handlers' rates stand.
_OFF: Mapping[str, Any] = {
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MESSAGE_RATES": {"connection": None, "user": None, "ip": None},
    "MAX_CONNECTIONS": {"user": None, "ip": None},
    "TICKET_RATE": None,
    "REFRESH_RATE": None,
    "ERROR_BUDGET": None,
    "AUTO_BLOCK_AFTER": None,
}


def reset() -> None:
    """Forget budgets, the blocklist's snapshot, unwritten audit events and the settings read; ends the threads.

    Modules that nobody has imported have nothing to forget, and are not imported for it.
    """
    _call("channels_secure.database", "shutdown")
    _call("channels_secure.audit", "reset")
    _call("channels_secure.blocklist", "reset")
    for module, name in (
        ("channels_secure.stores", "get_store"),
        ("channels_secure.conf", "get_settings"),
        ("channels_secure.admission", "authenticators"),
    ):
        cached: Any = getattr(sys.modules.get(module), name, None)
        if cached is not None:
            cached.cache_clear()


def _call(module: str, name: str) -> None:
    function = getattr(sys.modules.get(module), name, None)
    if function is not None:
        function()


def unlimited(*names: str, **changes: Any) -> override_settings:
    """Settings without rates and limits, for a test that is about something else.

    It is Django's `override_settings`: a context manager, and a decorator of functions and test cases.

    Args:
        names: only these keys of CHANNELS_SECURE; all that limit unless given.
        changes: further keys to set, for example ``ALLOWED_ORIGINS=["https://chat.example.com"]``.
    """
    off = {name: _OFF[name] for name in names or _OFF}
    return override_settings(CHANNELS_SECURE={**getattr(settings, "CHANNELS_SECURE", {}), **off, **changes})
