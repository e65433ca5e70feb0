"""JSON Web Tokens: the access tokens of djangorestframework-simplejwt, verified by simplejwt's own classes.

The only module that imports simplejwt and PyJWT. Settings are read where they are used, never bound at import.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from django.apps import apps
from django.core.signals import setting_changed
from django.db import DatabaseError, DataError, close_old_connections, router
from django.utils import translation
from jwt import PyJWKClientConnectionError
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt import authentication, state, tokens
from rest_framework_simplejwt import settings as simplejwt
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.utils import get_md5_hash_password

from channels_secure import database
from channels_secure.auth import claims as claims_of
from channels_secure.auth.base import Identity, combine
from channels_secure.auth.offers import Offer, examine, find_offers, read_header, unless_revoked
from channels_secure.conf import get_settings
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake

BLACKLIST_APP = "rest_framework_simplejwt.token_blacklist"
_FAULTS = {
    "Token has wrong type": "token_type",
    "Token has no type": "token_type",
    "Token has no id": "token_id_missing",
    "Token is blacklisted": "token_blacklisted",
}


class JWTAuthenticator:
    """Accepts simplejwt's access tokens from the places in TOKEN_SOURCES; every token that is offered must be right."""

    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None:
        found = list(find_offers(handshake, get_settings(), _schemes()))
        faults = [answer for answer in found if isinstance(answer, Denial)]
        offers = [answer for answer in found if isinstance(answer, Offer)]
        if not offers or not all(fault.ambient for fault in faults):
            return combine(faults)
        answers = zip(offers, await _run(offers), strict=True)
        return combine([*(unless_revoked(offer, answer) for offer, answer in answers), *faults])

    async def verify_token(self, token: str) -> Identity | Denial:
        """Judge a token that an open socket has sent; the same code as for a handshake."""
        offer = examine(Offer(token=token, source="refresh"))
        return offer if isinstance(offer, Denial) else (await _run([offer]))[0]


def identify_bearer(authorization: str) -> Identity | Denial | None:
    """Judge the Authorization header of an HTTP request, in this thread; None where its scheme is not ours.

    Raises:
        django.db.Error: the database is away.
    """
    token = read_header(authorization, _schemes())
    if token is None:
        return None
    offer = examine(Offer(token=token, source="header"))
    return offer if isinstance(offer, Denial) else _identify(offer)


def blacklisted(jtis: Iterable[str]) -> set[str]:
    """Those of some token identifiers, at most some hundred, that stand in simplejwt's blacklist.

    simplejwt itself asks for refresh tokens only. None is blacklisted where its app is not installed.
    """
    if not apps.is_installed(BLACKLIST_APP):
        return set()
    table = apps.get_model("token_blacklist", "BlacklistedToken")
    # The primary: a replica may lag behind a logout.
    rows = table.objects.using(router.db_for_write(table)).filter(token__jti__in=list(jtis))
    return set(rows.values_list("token__jti", flat=True))


def password_fingerprint(user: Any) -> str | None:
    """What a token issued to the user now would say of the password; None unless CHECK_REVOKE_TOKEN is on."""
    return get_md5_hash_password(user.password) if simplejwt.api_settings.CHECK_REVOKE_TOKEN else None


def _schemes() -> set[str]:
    types = simplejwt.api_settings.AUTH_HEADER_TYPES
    return {name.lower() for name in ([types] if isinstance(types, str) else types)}


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
    opened = open_access_token(offer.token)
    if opened.token is None:
        is_ours = opened.fault == "key_set_unavailable"
        return offer.refuse(opened.fault, Reason.UNAVAILABLE if is_ours else Reason.INVALID_CREDENTIALS)
    claims, names = opened.token.payload, simplejwt.api_settings
    fault = claims_of.find_fault(claims, user_id_claim=names.USER_ID_CLAIM, jti_claim=names.JTI_CLAIM)
    user = fault or _user(opened.token, claims[names.USER_ID_CLAIM])
    if isinstance(user, str):
        return offer.refuse(user)
    jti = None if names.JTI_CLAIM is None else claims[names.JTI_CLAIM]
    if jti is not None and blacklisted([jti]):
        return offer.refuse("token_blacklisted")
    if opened.is_over:
        return offer.refuse("token_expired", Reason.CREDENTIALS_EXPIRED)
    # Within the leeway a token is still good, for an open socket as for a handshake.
    end = float(claims["exp"]) + state.token_backend.get_leeway().total_seconds()
    return Identity(
        user=user,
        kind="jwt",
        expires_at=end,
        token_expires_at=end,
        jti=jti,
        issued_at=claims_of.issued_at(claims),
        fingerprint=claims.get(names.REVOKE_TOKEN_CLAIM) if names.CHECK_REVOKE_TOKEN else None,
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


def simplejwt_settings() -> Any:
    return simplejwt.api_settings


def open_access_token(text: str) -> _Opened:
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
