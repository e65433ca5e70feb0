"""Whether what let open sockets in still stands: users, sessions and tokens, looked up many at a time.

Blocking, for a thread of the package's own. OWASP ASVS 5.0 sections 7.4 and 17.
"""

import copy
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseTrouble
from django.db import router

from channels_secure.auth import simplejwt
from channels_secure.auth.base import Identity
from channels_secure.auth.session import hash_matches
from channels_secure.auth.session_lookup import StoredSession, are_read_together, look_up_sessions
from channels_secure.policy.decisions import Denial, Reason

logger = logging.getLogger("channels_secure")

# As many users in one query; fewer where something has to be asked for each, so that nobody waits long for the thread.
TOGETHER, SINGLY = 500, 50
# Sessions that a store fails to give one by one, before it counts as away.
PATIENCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an open socket claims: `user_key` is the primary key as text, which a deleted user's object has lost."""

    user_key: str
    identity: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A claim that still holds: the user as stored now, and the Unix time at which the session ends, if one speaks."""

    user: Any = field(repr=False)
    session_expires_at: float | None = None


def batch_size() -> int:
    """How many claims to look up at a time."""
    own_look_ups = any(_finds_users_itself(load_backend(path)) for path in settings.AUTHENTICATION_BACKENDS)
    return SINGLY if own_look_ups or not are_read_together() else TOGETHER


def look_up(claims: Sequence[Claim]) -> list[Standing | Denial | None]:
    """Judge claims, in their order; None for one of which nothing could be learnt.

    Raises:
        django.db.Error: the database is away.
    """
    review = _Review(claims)
    return [review.judge(claim) for claim in claims]


def _finds_users_itself(backend: Any) -> bool:
    return type(backend).get_user is not ModelBackend.get_user


def _ended(detail: str) -> Denial:
    return Denial(reason=Reason.SESSION_ENDED, detail=detail)


class _Review:
    """One look at some claims: at most one query each for sessions, users and simplejwt's blacklist."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._model = get_user_model()
        self._claims = claims
        self._sessions = _read_sessions(_keys(claims))
        self._blacklisted = simplejwt.blacklisted(_jtis(claims))
        self._backends = {path: load_backend(path) for path in settings.AUTHENTICATION_BACKENDS}
        self._given: set[str] = set()

    def judge(self, claim: Claim) -> Standing | Denial | None:
        """What has become of one claim; what the project's own code raises concerns no other."""
        try:
            return self._judge(claim)
        except DatabaseTrouble:
            raise
        except Exception:
            logger.exception("revalidation.failed")
            return None

    def _judge(self, claim: Claim) -> Standing | Denial | None:
        identity, session = claim.identity, None
        if identity.session_key is not None:
            if identity.session_key not in self._sessions:
                return None
            session = self._sessions[identity.session_key]
            fault = _session_fault(session, claim.user_key)
            if fault:
                return _ended(fault)
        if not isinstance(identity.user, self._model):
            # An authenticator's own idea of a user: nothing is stored that could have changed.
            return Standing(user=identity.user)
        user = self._user(claim.user_key, session)
        if user is None or not getattr(user, "is_active", True):
            return _ended("user unknown or inactive")
        if session is not None and not hash_matches(session.data, user):
            return _ended("password changed")
        if identity.auth_hash is not None and not hash_matches({HASH_SESSION_KEY: identity.auth_hash}, user):
            return _ended("password changed")
        return self._token_denial(identity, user) or Standing(
            user=user, session_expires_at=None if session is None else session.expires_at
        )

    def _token_denial(self, identity: Identity, user: Any) -> Denial | None:
        if not self._blacklisted.isdisjoint(identity.jtis):
            return Denial(reason=Reason.CREDENTIALS_REVOKED, detail="token blacklisted")
        said = identity.fingerprint
        if said is not None and simplejwt.password_fingerprint(user) not in (None, said):
            return _ended("password changed")
        return None

    def _user(self, key: str, session: StoredSession | None) -> Any:
        """The user, an object for each claim: what one socket's handlers do to it is no other's business."""
        backend = None if session is None else self._backends[session.data[BACKEND_SESSION_KEY]]
        if backend is not None and _finds_users_itself(backend):
            return backend.get_user(self._model._meta.pk.to_python(key))
        user = self._users.get(key)
        if user is None or (isinstance(backend, ModelBackend) and not backend.user_can_authenticate(user)):
            return None
        if key in self._given:
            return copy.copy(user)
        self._given.add(key)
        return user

    @cached_property
    def _users(self) -> Mapping[str, Any]:
        """The users of all claims, found as Django's own backend finds them; of gone sessions too, which are few."""
        pk = self._model._meta.pk
        keys = {claim.user_key for claim in self._claims if isinstance(claim.identity.user, self._model)}
        manager = self._model._default_manager.using(router.db_for_write(self._model))
        return {str(user.pk): user for user in manager.filter(pk__in=[pk.to_python(key) for key in keys])}


def _keys(claims: Iterable[Claim]) -> set[str]:
    return {claim.identity.session_key for claim in claims if claim.identity.session_key is not None}


def _jtis(claims: Iterable[Claim]) -> set[str]:
    return {jti for claim in claims for jti in claim.identity.jtis}


def _read_sessions(keys: set[str]) -> dict[str, StoredSession | None]:
    """The sessions of some keys, None for those that are gone; one that cannot be read is left out.

    Where they cannot be read together each is asked for, because one that a class of another version was put into must
    not keep hundreds of others from being judged. A store that answers nothing at all is not asked again and again.
    """
    found: dict[str, StoredSession | None] = {}
    refused = _read(keys, found)
    if refused is None:
        return found
    failures = 0
    for key in keys if len(keys) > 1 else ():
        failures += _read({key}, found) is not None
        if failures >= PATIENCE and not found:
            break
    logger.error("sessions.unavailable", exc_info=refused, extra={"sessions": len(keys) - len(found)})
    return found


def _read(keys: set[str], found: dict[str, StoredSession | None]) -> Exception | None:
    try:
        stored = look_up_sessions(keys)
    except DatabaseTrouble:
        raise
    except Exception as error:  # noqa: BLE001 - caches and engines raise what they like
        return error
    found.update({key: stored.get(key) for key in keys})
    return None


def _session_fault(session: StoredSession | None, user_key: str) -> str:
    if session is None:
        return "session gone"
    if session.expires_at <= time.time():
        return "session expired"
    try:
        named = get_user_model()._meta.pk.to_python(session.data.get(SESSION_KEY))
    except ValidationError:
        named = None
    if named is None or str(named) != user_key:
        return "session logged out"
    return "" if session.data.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS else "session backend gone"
