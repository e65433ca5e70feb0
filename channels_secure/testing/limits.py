"""The project's settings as a test wants them: without limits."""

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


def unlimited(*names: str, **changes: Any) -> override_settings:
    """Settings without rates and limits, for a test that is about something else.

    It is Django's `override_settings`: a context manager, and a decorator of functions and test cases.

    Args:
        names: only these keys of CHANNELS_SECURE; all that limit unless given.
        changes: further keys to set, for example ``ALLOWED_ORIGINS=["https://chat.example.com"]``.
    """
    off = {name: _OFF[name] for name in names or _OFF}
    return override_settings(CHANNELS_SECURE={**getattr(settings, "CHANNELS_SECURE", {}), **off, **changes})
