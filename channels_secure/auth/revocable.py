"""What revoking has to know of tokens. Imports simplejwt's side of the package, so nothing may import this at once."""

from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import router
from django.utils import timezone

from channels_secure.auth import claims as claims_of
from channels_secure.auth.jwt import BLACKLIST_APP, access_token_classes, open_access_token, simplejwt_settings
from channels_secure.auth.offers import Offer, examine
from channels_secure.policy.decisions import Denial


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocable:
    """An access token of ours: its identifier, the Unix time at which it is worthless anyway, and its user's id."""

    jti: str
    expires_at: float
    user_id: Any = field(repr=False)


def read_token(token: Any) -> Revocable:
    """What an access token says that we have issued, expired or not: its text, or simplejwt's object for it.

    Raises:
        ValueError: it is no access token, or none of ours, or has no `jti`.
        ConnectionError: the key set that verifies it cannot be fetched.
    """
    verified, is_over = _verify(token) if isinstance(token, str) else (token, False)
    kinds: Any = tuple(access_token_classes())
    if not isinstance(verified, kinds):
        raise ValueError("only access tokens can be revoked here: refresh tokens are blacklisted by simplejwt")
    claims, names = verified.payload, simplejwt_settings()
    if claims_of.find_fault(claims, user_id_claim=names.USER_ID_CLAIM, jti_claim=names.JTI_CLAIM):
        raise ValueError("this is not an access token of ours: its claims are odd")
    if names.JTI_CLAIM is None:
        raise ValueError("tokens have no id that could be revoked: JTI_CLAIM is None")
    leeway = 0.0 if is_over else verified.get_token_backend().get_leeway().total_seconds()
    return Revocable(
        jti=claims[names.JTI_CLAIM],
        expires_at=float(claims["exp"]) + leeway,
        user_id=claims[names.USER_ID_CLAIM],
    )


def _verify(text: str) -> tuple[Any, bool]:
    # The words never hold the token: exceptions are logged.
    if isinstance(examine(Offer(token=text, source="argument")), Denial):
        raise ValueError("this is not a JSON Web Token")
    opened = open_access_token(text)
    if opened.fault == "key_set_unavailable":
        raise ConnectionError("the key set that verifies tokens cannot be fetched")
    if opened.token is None:
        raise ValueError("this is not an access token of ours")
    return opened.token, opened.is_over


def find_owner(user_id: Any) -> Any:
    """The user whom a token is about, None if there is no such user any more."""
    users = get_user_model()._base_manager
    try:
        return users.filter(**{simplejwt_settings().USER_ID_FIELD: user_id}).first()
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None


def longest_lifetime() -> float:
    """Seconds after which no access token counts that was issued until now, with or from a refresh token."""
    names = simplejwt_settings()
    own = [kind.lifetime for kind in access_token_classes() if kind.lifetime is not None]
    lifetime = max([names.ACCESS_TOKEN_LIFETIME, names.REFRESH_TOKEN_LIFETIME, *own])
    return float(lifetime.total_seconds())


def blacklist_refresh_tokens(user: Any) -> int:
    """Put the user's refresh tokens on simplejwt's blacklist, where its app is installed; returns how many."""
    if not apps.is_installed(BLACKLIST_APP):
        return 0
    outstanding = apps.get_model("token_blacklist", "OutstandingToken")
    blacklisted = apps.get_model("token_blacklist", "BlacklistedToken")
    using = router.db_for_write(blacklisted)
    valid = outstanding.objects.using(using).filter(
        user_id=user.pk, blacklistedtoken=None, expires_at__gt=timezone.now()
    )
    rows = [blacklisted(token_id=key) for key in valid.values_list("pk", flat=True)]
    blacklisted.objects.using(using).bulk_create(rows, batch_size=500, ignore_conflicts=True)
    return len(rows)
