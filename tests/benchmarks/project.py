"""The Django project of the benchmarks: the tests' settings, a database of its own, and one logged-in user.

`prepare()` stands before everything that imports Django's models; server processes inherit its environment.
"""

import json
import os
from pathlib import Path
from typing import Any

# Every guard is asked and none refuses: a limiter costs the same whether its budget is large or small.
GENEROUS = {
    "MESSAGE_RATES": {"connection": "100000000/s", "user": "100000000/s"},
    "HANDSHAKE_RATES": {"ip": "100000000/s", "user": "100000000/s"},
    "MAX_CONNECTIONS": {"user": 100_000, "ip": 100_000},
    "TRUSTED_PROXIES": [],
}
USERNAME = "alice"
# A page of the project itself: Channels allows any port of an allowed host, channels_secure the exact origin.
ORIGIN = "http://localhost"


def prepare(directory: Path) -> None:
    """Set Django up with an empty database in `directory`."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    os.environ["DATABASE"] = "sqlite"
    os.environ["CHANNELS_SECURE_TEST_DATABASE_NAME"] = str(directory / "benchmarks.sqlite3")
    os.environ["CHANNELS_SECURE_TEST_SETTINGS"] = json.dumps(GENEROUS)
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def session_of(user: Any) -> dict[str, str]:
    """Return what Django's `login()` keeps in a session."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    return {
        SESSION_KEY: str(user.pk),
        BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
        HASH_SESSION_KEY: user.get_session_auth_hash(),
    }


def log_in(username: str = USERNAME) -> str:
    """Return the Cookie header of a session of this user, who is made if need be."""
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.contrib.sessions.backends.db import SessionStore

    user, _ = get_user_model().objects.get_or_create(username=username)
    session = SessionStore()
    session.update(session_of(user))
    session.save()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"
