"""What a client of the project's own comes with: a session, and an Origin that is allowed."""

from importlib import import_module
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from channels_secure.conf import get_settings
from channels_secure.policy.origins import parse_origin


def allowed_origin() -> str:
    """An origin that the settings in force allow: one that they name, the test client's, or with DEBUG this machine."""
    settings = get_settings()
    named = [pattern.replace("*", "www") for pattern in settings.allowed_origins or ()]
    for text in (*named, "https://testserver", "https://localhost"):
        origin = parse_origin(text)
        if origin is not None and settings.origins.allows(origin, host=origin.host, secure=True):
            return text
    return "https://testserver"


def log_in(user: Any) -> str:
    """Make the session that Django's `login()` would make, for a user who is stored; returns its key.

    It asks the session store, so from a coroutine it is called in a thread.
    """
    session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = django_settings.AUTHENTICATION_BACKENDS[0]
    if hasattr(user, "get_session_auth_hash"):
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    key: str = session.session_key
    return key
