"""Revoking access tokens: one, or all that a user has been given until now."""

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from channels_secure import audit, database
from channels_secure.blocklist.changes import name_of, stored_user
from channels_secure.models import Revocation, policy_change
from channels_secure.policy.decisions import Reason
from channels_secure.revocation.rows import insert

if TYPE_CHECKING:
    from channels_secure.auth.revocable import Revocable

MAX_JTI_LENGTH = 255


def revoke_token(token: Any, by: Any = None) -> None:
    """End what an access token has opened, everywhere within a second of the commit, and let it open nothing again.

    Args:
        token: the text, or simplejwt's object. Verified as at a handshake, but one that has expired may be revoked too.
        by: the user who revokes, or the name of something else that does, for the audit trail.

    Raises:
        ValueError: it is not an access token of ours.
        ConnectionError: the key set that verifies it cannot be fetched.
    """
    _revoke(_tokens().read_token(token), by)


def revoke_user_tokens(user: Any, by: Any = None) -> None:
    """The same for every access token that the user has been given until now; sessions are left alone.

    Where simplejwt's blacklist app is installed the user's refresh tokens are blacklisted in the same transaction.
    Without it a refresh token still makes new access tokens, which count.

    Args:
        user: a user of the project, or the primary key of one.

    Raises:
        ValueError: there is no such user.
    """
    person, tokens = stored_user(user), _tokens()
    with policy_change() as using:
        count = tokens.blacklist_refresh_tokens(person)
        lifetime = tokens.longest_lifetime()
        subject = str(person.pk)
        insert(Revocation.Kind.USER, [subject], Reason.CREDENTIALS_REVOKED, using=using, lifetime=lifetime, by=by)
        audit.write("tokens.revoked", user=person, actor=name_of(by), detail={"tokens": "all", "refresh_tokens": count})


def revoke_jti(jti: str, by: Any = None) -> None:
    """The same for a token of which only the identifier is known, from a log for example.

    Raises:
        ValueError: it cannot be an identifier.
    """
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_LENGTH or not jti.isprintable():
        raise ValueError(f"a token's identifier is text of at most {MAX_JTI_LENGTH} characters")
    _store(jti, _tokens().longest_lifetime(), None, by)


async def arevoke_token(token: Any, by: Any = None) -> None:
    """`revoke_token()` from the event loop."""
    # Fetching a key set may take its time, which must not hold up whoever writes.
    await database.write(_revoke, await database.ask_project(_tokens().read_token, token), by)


async def arevoke_user_tokens(user: Any, by: Any = None) -> None:
    """`revoke_user_tokens()` from the event loop."""
    await database.write(revoke_user_tokens, user, by)


async def arevoke_jti(jti: str, by: Any = None) -> None:
    """`revoke_jti()` from the event loop."""
    await database.write(revoke_jti, jti, by)


def _revoke(token: "Revocable", by: Any) -> None:
    _store(token.jti, token.expires_at - time.time(), _tokens().find_owner(token.user_id), by)


def _store(jti: str, lifetime: float, owner: Any, by: Any) -> None:
    with policy_change() as using:
        insert(Revocation.Kind.JTI, [jti], Reason.CREDENTIALS_REVOKED, using=using, lifetime=lifetime, by=by)
        audit.write("tokens.revoked", user=owner, actor=name_of(by), detail={"jti": jti})


def _tokens() -> Any:
    try:
        return import_module("channels_secure.auth.revocable")
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured("revoking tokens needs simplejwt: pip install 'channels-secure[jwt]'") from error
