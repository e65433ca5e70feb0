"""JSON Web Tokens: the access tokens of djangorestframework-simplejwt, verified by simplejwt's own classes.

The only module that imports simplejwt and PyJWT. Settings are read where they are used, never bound at import.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from django.core.signals import setting_changed
from django.db import DatabaseError, DataError, close_old_connections
from django.utils import translation
from jwt import PyJWKClientConnectionError
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt import authentication, state, tokens
from rest_framework_simplejwt import settings as simplejwt
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError

from channels_secure import database
from channels_secure.auth.base import Identity, combine
from channels_secure.auth.offers import Offer, find_offers
from channels_secure.conf import get_settings
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake

MAX_CLAIM_LENGTH = 255
# Year 9999, the last that Python's datetime knows.
MAX_TIME = 253402300799
_FAULTS = {
    "Token has wrong type": "token_type",
    "Token has no type": "token_type",
    "Token has no id": "token_id_missing",
    "Token is blacklisted": "token_blacklisted",
}


class JWTAuthenticator:
    """Accepts simplejwt's access tokens from the places in TOKEN_SOURCES; every token that is offered must be right."""

    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None:
        types = simplejwt.api_settings.AUTH_HEADER_TYPES
        schemes = {name.lower() for name in ([types] if isinstance(types, str) else types)}
        found = list(find_offers(handshake, get_settings(), schemes))
        faults = [answer for answer in found if isinstance(answer, Denial)]
        offers = [answer for answer in found if isinstance(answer, Offer)]
        if not offers or not all(fault.ambient for fault in faults):
            return combine(faults)
        return combine([*await _run(offers), *faults])


async def _run(offers: Sequence[Offer]) -> list[Identity | Denial]:
    if state.token_backend.jwks_client is None:
        return await database.run(_judge, offers)
    # PyJWT fetches key sets under a lock and waits 30 s for them: that must not hold up the package's database work.
    return await asyncio.get_running_loop().run_in_executor(_network_pool(), _judge_apart, offers)


@cache
def _network_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="channels_secure_keys")


def _judge_apart(offers: Sequence[Offer]) -> list[Identity | Denial]:
    close_old_connections()
    try:
        return _judge(offers)
    finally:
        close_old_connections()


def _judge(offers: Sequence[Offer]) -> list[Identity | Denial]:
    return [_identify(offer) for offer in offers]


def _identify(offer: Offer) -> Identity | Denial:
    opened = _open_as_any(offer.token)
    if opened.token is None:
        is_ours = opened.fault == "key_set_unavailable"
        return offer.refuse(opened.fault, Reason.UNAVAILABLE if is_ours else Reason.INVALID_CREDENTIALS)
    claims = opened.token.payload
    fault = _claims_fault(claims)
    user = fault or _user(opened.token, claims[simplejwt.api_settings.USER_ID_CLAIM])
    if isinstance(user, str):
        return offer.refuse(user)
    if opened.is_over:
        return offer.refuse("token_expired", Reason.CREDENTIALS_EXPIRED)
    name = simplejwt.api_settings.JTI_CLAIM
    return Identity(
        user=user,
        kind="jwt",
        # Within the leeway a token is still good, for an open socket as for a handshake.
        expires_at=float(claims["exp"]) + state.token_backend.get_leeway().total_seconds(),
        jti=None if name is None else claims[name],
        ambient=offer.is_ambient,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A verified token, or a word for what is wrong with it; `is_over` when nothing but its time is."""

    token: Any = field(default=None, repr=False)
    fault: str = ""
    is_over: bool = False


def access_token_classes() -> list[Any]:
    """Those of simplejwt's AUTH_TOKEN_CLASSES that are access tokens: refresh, sliding and untyped ones are not."""
    kinds = simplejwt.api_settings.AUTH_TOKEN_CLASSES
    kind_of_access = tokens.AccessToken.token_type
    return [kind for kind in kinds if issubclass(kind, tokens.AccessToken) or kind.token_type == kind_of_access]


def _open_as_any(text: str) -> _Opened:
    opened = _Opened(fault="token_type")
    for kind in access_token_classes():
        opened = _open(kind, text)
        if opened.token is not None:
            break
    return opened


def _open(kind: Any, text: str, *, is_over: bool = False) -> _Opened:
    try:
        return _Opened(token=kind(text.encode("ascii")), is_over=is_over)
    except ExpiredTokenError:
        # PyJWT stops at the time: what it has not looked at may be wrong too.
        return _Opened(fault="token_expired") if is_over else _open(_timeless(kind), text, is_over=True)
    except TokenError as error:
        return _Opened(fault=_explain(error))
    except Exception as error:  # noqa: BLE001  # odd claims and key ids make simplejwt and PyJWT raise anything
        return _Opened(fault=_blame_claims(error))


def _timeless(kind: Any) -> Any:
    """The token class with a leeway that lets every past `exp` through."""

    class Timeless(kind):
        def get_token_backend(self) -> Any:
            backend = copy(super().get_token_backend())
            backend.leeway = timedelta(days=366 * 100)
            return backend

    return Timeless


def _explain(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PyJWKClientConnectionError):
            return "key_set_unavailable"
        cause = cause.__cause__
    with translation.override(None):
        return _FAULTS.get(str(error), "token_invalid")


def _blame_claims(error: Exception) -> str:
    """The word for an exception that what the token says has caused; a database that is away is nobody's claim."""
    if isinstance(error, DatabaseError) and not isinstance(error, DataError):
        raise error
    return f"claims_invalid: {type(error).__name__}"


def _claims_fault(claims: Mapping[str, Any]) -> str:
    settings = simplejwt.api_settings
    end, user_id = claims.get("exp"), claims.get(settings.USER_ID_CLAIM)
    if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end) or not 0 < end <= MAX_TIME:
        return "claims_invalid: exp"
    # `True` is an integer to Python and user 1 to the database.
    if not _is_plain_text(user_id) and (isinstance(user_id, bool) or not isinstance(user_id, int)):
        return "claims_invalid: user id"
    if isinstance(user_id, int) and not 0 <= user_id < 2**63:
        return "claims_invalid: user id"
    if settings.JTI_CLAIM is not None and not _is_plain_text(claims.get(settings.JTI_CLAIM)):
        return "claims_invalid: jti"
    return ""


def _is_plain_text(value: Any) -> bool:
    # PostgreSQL refuses NUL, and no database takes a lone surrogate; neither is printable.
    return isinstance(value, str) and 0 < len(value) <= MAX_CLAIM_LENGTH and value.isprintable()


def _user(token: Any, user_id: str | int) -> Any:
    """The user whom simplejwt finds for the token, or a word for what is wrong."""
    try:
        user = authentication.JWTAuthentication().get_user(token)
    except AuthenticationFailed as error:
        detail = error.detail
        return str(detail["code"]) if isinstance(detail, dict) else "user_refused"
    except Exception as error:  # noqa: BLE001  # each kind of field raises what it likes on an odd user id
        return _blame_claims(error)
    found = getattr(user, simplejwt.api_settings.USER_ID_FIELD)
    # int() reads " 1", "+1" and "1_0" too; one user has one name.
    if isinstance(found, int) and str(found) != str(user_id):
        return "claims_invalid: user id"
    return user if getattr(user, "is_active", True) else "user_inactive"


def _follow_settings(*, setting: str, **_: Any) -> None:
    """Let `override_settings(SIMPLE_JWT=…)` reach the modules of simplejwt that imported its settings by name."""
    if setting == "SIMPLE_JWT":
        current = simplejwt.api_settings
        for module in (authentication, state, tokens):
            vars(module)["api_settings"] = current
        names = ("ALGORITHM", "SIGNING_KEY", "VERIFYING_KEY", "AUDIENCE", "ISSUER", "JWK_URL", "LEEWAY", "JSON_ENCODER")
        state.token_backend = type(state.token_backend)(*(getattr(current, name) for name in names))


setting_changed.connect(_follow_settings, dispatch_uid="channels_secure.auth.jwt")
