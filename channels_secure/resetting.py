"""How a process forgets, between two tests, what it remembers between handshakes.

It imports nothing: it also runs where Django has no settings, or where nobody uses what it would forget.
"""

import sys
from typing import Any


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
