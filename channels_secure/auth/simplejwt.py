"""What is asked of simplejwt where it may not be installed: then nobody comes with a token, and none is blacklisted."""

from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from typing import Any

from channels_secure.auth.base import Identity
from channels_secure.policy.decisions import Denial


@cache
def is_installed() -> bool:
    return find_spec("rest_framework_simplejwt") is not None


def identify_bearer(authorization: str) -> Identity | Denial | None:
    """The identity behind an Authorization header, None if it is no business of simplejwt's.

    Raises:
        django.db.Error: the database is away.
    """
    if not is_installed():
        return None
    from channels_secure.auth import jwt

    return jwt.identify_bearer(authorization)


def blacklisted(jtis: Collection[str]) -> set[str]:
    """Those of some token identifiers, at most some hundred, that stand in simplejwt's blacklist.

    Raises:
        django.db.Error: the database is away.
    """
    if not jtis or not is_installed():
        return set()
    from channels_secure.auth import jwt

    return jwt.blacklisted(jtis)


def password_fingerprint(user: Any) -> str | None:
    """What a token issued to the user now would say of the password; None unless tokens say it."""
    if not is_installed():
        return None
    from channels_secure.auth import jwt

    return jwt.password_fingerprint(user)
