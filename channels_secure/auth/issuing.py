"""Issuing tickets, and what is stored of them.

A ticket is 256 random bits. What is stored under its SHA-256 is signed, so that nobody who can write into the store
makes a ticket, and can be read with the ticket only, because it may hold a session key.
"""

import base64
import hashlib
import math
import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from django.core.signing import BadSignature, Signer

from channels_secure import database
from channels_secure.auth import shelves
from channels_secure.auth.base import Identity, digest_of
from channels_secure.conf import get_settings
from channels_secure.policy.addresses import parse_address

SALT = "channels_secure.ticket"
BYTES = 32
MAX_LIFETIME = 366 * 86400
MAX_PATH_LENGTH = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a ticket says: whose it is, what binds it, and what the socket that it opens inherits.

    Args:
        user: the primary key as text.
        issued_at: Unix time at which the credential that it was issued for began, or the ticket itself.
        auth_hash: what Django's sessions keep of the password, so that changing it ends the ticket.
        path: the only URL path that it opens, None for any.
        ip: the only address that may come with it, None for any.
        expires_at: Unix time at which the socket ends, None if nothing ends it.
    """

    user: str
    issued_at: float
    auth_hash: str = field(default="", repr=False)
    path: str | None = None
    ip: str | None = None
    session_key: str | None = field(default=None, repr=False)
    jti: str | None = None
    expires_at: float | None = None
    fingerprint: str | None = field(default=None, repr=False)


_decode = msgspec.json.Decoder(Grant).decode


def seal(grant: Grant, ticket: str) -> str:
    """The text to store under the ticket's digest."""
    signed = Signer(salt=SALT).sign(msgspec.json.encode(grant).decode())
    return base64.b64encode(_mask(signed.encode(), ticket)).decode()


def unseal(content: str, ticket: str) -> Grant | None:
    """What was sealed, or None for anything that was not sealed here and for this very ticket."""
    try:
        signed = _mask(base64.b64decode(content), ticket).decode()
        return _decode(Signer(salt=SALT).unsign(signed))
    except (ValueError, BadSignature, msgspec.MsgspecError):
        return None


def _mask(data: bytes, ticket: str) -> bytes:
    """Cover or uncover: a stream cipher whose key, the ticket's 256 random bits, is used for this one text only."""
    stream = hashlib.shake_256(f"{SALT}:{ticket}".encode()).digest(len(data))
    return bytes(one ^ other for one, other in zip(data, stream, strict=True))


def issue_ticket(
    user: Any,
    *,
    path: str | None = None,
    ip: str | None = None,
    lifetime: float | None = None,
    session_key: str | None = None,
    jti: str | None = None,
    expires_at: float | datetime | None = None,
    issued_at: float | None = None,
) -> str:
    """A ticket with which one WebSocket may be opened as this user, within `lifetime` seconds.

    Args:
        path: the only URL path that it opens.
        ip: the only client address that may come with it.
        lifetime: seconds; TICKET_LIFETIME unless given.
        session_key: the session that it is issued for, which must still be there; the socket ends with it.
        jti: the token that it is issued for; revoking it ends the socket.
        expires_at: when the socket ends, as Unix time or datetime.
        issued_at: Unix time at which the token was issued; now unless given.

    Raises:
        ValueError: the user is anonymous, not stored or inactive, or another argument makes no sense.
        channels_secure.exceptions.Unavailable: the store or the database is away.
    """
    seconds = _lifetime(lifetime)
    grant = _grant(user, path, ip, session_key, jti, expires_at, issued_at)
    ticket = secrets.token_urlsafe(BYTES)
    shelves.keep(digest_of(ticket), seal(grant, ticket), seconds)
    return ticket


async def aissue_ticket(
    user: Any,
    *,
    path: str | None = None,
    ip: str | None = None,
    lifetime: float | None = None,
    session_key: str | None = None,
    jti: str | None = None,
    expires_at: float | datetime | None = None,
    issued_at: float | None = None,
) -> str:
    """`issue_ticket()` from the event loop."""
    seconds = _lifetime(lifetime)
    # In a thread, because the user of a request may not have been read yet.
    grant = await database.run(_grant, user, path, ip, session_key, jti, expires_at, issued_at)
    ticket = secrets.token_urlsafe(BYTES)
    await shelves.akeep(digest_of(ticket), seal(grant, ticket), seconds)
    return ticket


def issue_for(identity: Identity, *, path: str | None = None) -> str:
    """A ticket that inherits everything that ends the credential it is issued for.

    Raises:
        ValueError, channels_secure.exceptions.Unavailable: as `issue_ticket`.
    """
    grant = Grant(
        user=_text_of(identity.user),
        issued_at=time.time() if identity.issued_at is None else identity.issued_at,
        auth_hash=_auth_hash(identity.user),
        path=checked_path(path),
        session_key=identity.session_key,
        jti=identity.jti,
        # A session's end is looked up again, because using the session moves it.
        expires_at=identity.token_expires_at,
        fingerprint=identity.fingerprint,
    )
    ticket = secrets.token_urlsafe(BYTES)
    shelves.keep(digest_of(ticket), seal(grant, ticket), get_settings().ticket_lifetime)
    return ticket


def _grant(
    user: Any,
    path: str | None,
    ip: str | None,
    session_key: str | None,
    jti: str | None,
    expires_at: float | datetime | None,
    issued_at: float | None,
) -> Grant:
    return Grant(
        user=_text_of(user),
        issued_at=time.time() if issued_at is None else issued_at,
        auth_hash=_auth_hash(user),
        path=checked_path(path),
        ip=_ip(ip),
        session_key=session_key,
        jti=jti,
        expires_at=expires_at.timestamp() if isinstance(expires_at, datetime) else expires_at,
    )


def _lifetime(given: float | None) -> float:
    seconds = get_settings().ticket_lifetime if given is None else given
    if isinstance(seconds, bool) or not math.isfinite(seconds) or not 0 < seconds <= MAX_LIFETIME:
        raise ValueError(f"{given!r} is not a lifetime: give seconds above 0")
    return seconds


def _text_of(user: Any) -> str:
    if getattr(user, "pk", None) is None or not user.is_authenticated or not getattr(user, "is_active", True):
        raise ValueError("a ticket is issued to a user who is stored and active")
    return str(user._meta.pk.value_to_string(user))


def _auth_hash(user: Any) -> str:
    return str(user.get_session_auth_hash()) if hasattr(user, "get_session_auth_hash") else ""


def checked_path(given: str | None) -> str | None:
    """The path that a ticket may be bound to.

    Raises:
        ValueError: it is no path of a URL.
    """
    if given is None:
        return None
    if (
        not isinstance(given, str)
        or not given.startswith("/")
        or len(given) > MAX_PATH_LENGTH
        or set("?#") & set(given)
    ):
        raise ValueError("a path begins with a slash and has neither a query nor a fragment")
    return given


def _ip(given: str | None) -> str | None:
    if given is None:
        return None
    address = parse_address(str(given))
    if address is None:
        raise ValueError(f"{given!r} is not an address")
    return str(address)
