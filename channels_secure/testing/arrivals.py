"""What a client of the project's own comes with: a session, and an Origin that is allowed."""

from importlib import import_module
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import OperationalError

from channels_secure.conf import get_settings
from channels_secure.policy.origins import parse_origin

# The mistake of every first test.
UNSEEN = (
    "{!r} is not stored, or in a transaction that only the test sees: sockets are checked in threads of their own, so "
    "the test needs @pytest.mark.django_db(transaction=True), or a TransactionTestCase"
)


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

    Raises:
        ValueError: there is no such user in the database, as far as it can be seen from here.
    """
    if not _is_seen(user):
        raise ValueError(UNSEEN.format(user))
    session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = django_settings.AUTHENTICATION_BACKENDS[0]
    if hasattr(user, "get_session_auth_hash"):
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    key: str = session.session_key
    return key


def _is_seen(user: Any) -> bool:
    try:
        return user.pk is not None and type(user)._base_manager.filter(pk=user.pk).exists()
    except OperationalError as error:
        # A database in memory is not only invisible to other threads, but locked.
        raise ValueError(UNSEEN.format(user)) from error
