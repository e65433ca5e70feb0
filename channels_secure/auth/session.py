"""Django's session cookie, read without ever writing: a handshake neither deletes, creates nor rotates a session.

`django.contrib.auth.get_user` flushes a session that does not verify and rotates one that a fallback key verifies. Both
would be lost here, because a WebSocket handshake cannot hand the browser a new cookie.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare

from channels_secure import database
from channels_secure.auth.base import Identity
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake

# Django's own keys are 32 lower-case letters and digits; the database column holds 40.
_GENERATED_KEY = re.compile(r"[A-Za-z0-9_-]{8,40}", re.ASCII)
# Engines that make their own, signed cookies among them. Browsers keep at most 4096 bytes of one cookie.
_OWN_KEY = re.compile(r"[!-~]{8,4096}", re.ASCII)
_WRITERS = ("create", "save", "delete", "flush", "cycle_key")


class SessionAuthenticator:
    """Accepts the session of a logged-in user, whatever SESSION_ENGINE keeps it; two queries with the database engine.

    The credential is ambient: a browser sends the cookie whichever site asked, so only the Origin shows who did.
    """

    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None:
        key = _cookie(handshake)
        if not key:
            return None
        if not _is_wellformed(key):
            return _refuse("session_key_malformed")
        return await database.run(identify, key)


def open_session(handshake: Handshake) -> SessionBase:
    """The session of a client that is nobody yet, empty if it sent no cookie; the store is asked on first use only."""
    key = _cookie(handshake)
    session: SessionBase = session_store()(key if key and _is_wellformed(key) else None)
    return session


def _cookie(handshake: Handshake) -> str | None:
    return handshake.cookies.get(settings.SESSION_COOKIE_NAME)


def session_store() -> Any:
    """The class that SESSION_ENGINE names."""
    return import_module(settings.SESSION_ENGINE).SessionStore


def _is_wellformed(key: str) -> bool:
    store = session_store()
    makers = ("_get_new_session_key", "_get_session_key")
    is_generated = all(getattr(store, name) is getattr(SessionBase, name) for name in makers)
    return (_GENERATED_KEY if is_generated else _OWN_KEY).fullmatch(key) is not None


def _refuse(detail: str) -> Denial:
    return Denial(reason=Reason.INVALID_CREDENTIALS, detail=detail, ambient=True)


def identify(key: str) -> Identity | Denial | None:
    """Whom the session of a key logs in, None for nobody; loaded from the store, in this thread."""
    found = load_session(key)
    if found is None:
        return _refuse("session_unknown")
    session, expires_at = found
    if expires_at <= time.time():
        return _refuse("session_expired")
    if SESSION_KEY not in session:
        return None
    user = _user(session)
    if isinstance(user, str):
        return _refuse(user)
    return Identity(
        user=user,
        kind="session",
        expires_at=expires_at,
        session_expires_at=expires_at,
        session_key=key,
        ambient=True,
        session=session,
    )


def load_session(key: str) -> tuple[SessionBase, float] | None:
    """A stored session and the Unix time at which it ends, or None; nothing is written, whatever the engine.

    The row knows when the session was last saved, and so when it ends; the other engines can only say at the latest.
    """
    session = session_store()(key)
    with _read_only(session) as learnt:
        _ = SESSION_KEY in session  # loads
    if learnt.get("written") or session.session_key is None:
        return None
    return session, (learnt.get("expires") or session.get_expiry_date()).timestamp()


@contextmanager
def _read_only(session: SessionBase) -> Iterator[dict[str, Any]]:
    """Shadow what writes while the session loads, as Django's own `clear_expired` does; yields what loading learnt.

    Hazard: the file engine's `load()` deletes an expired session and creates another, signed cookies create one too.
    """
    learnt: dict[str, Any] = {}
    shadows: dict[str, Any] = dict.fromkeys(_WRITERS, lambda *_, **__: learnt.update(written=True))
    find = getattr(session, "_get_session_from_db", None)
    if find is not None:
        shadows["_get_session_from_db"] = lambda: _note_expiry(find(), learnt)
    vars(session).update(shadows)
    try:
        yield learnt
    finally:
        for name in shadows:
            del vars(session)[name]


def _note_expiry(row: Any, learnt: dict[str, Any]) -> Any:
    learnt["expires"] = getattr(row, "expire_date", None)
    return row


def _user(session: SessionBase) -> Any:
    """The user whom the session logs in, or a word for what is wrong with it."""
    path = session.get(BACKEND_SESSION_KEY)
    if path is None or path not in settings.AUTHENTICATION_BACKENDS:
        return "session_backend"
    try:
        user = load_backend(path).get_user(get_user_model()._meta.pk.to_python(session[SESSION_KEY]))
    except ValidationError:
        return "user_unknown"
    if user is None:
        # Django's own backend says the same of a deleted user and of an inactive one.
        return "user_unknown"
    if not getattr(user, "is_active", True):
        return "user_inactive"
    return user if hash_matches(session, user) else "session_hash"


def hash_matches(session: Mapping[str, Any] | SessionBase, user: Any) -> bool:
    """Whether the password is the one that the session logged in with; SECRET_KEY_FALLBACKS count."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    given = session.get(HASH_SESSION_KEY) or ""
    if constant_time_compare(given, user.get_session_auth_hash()):
        return True
    return any(constant_time_compare(given, earlier) for earlier in user.get_session_auth_fallback_hash())
