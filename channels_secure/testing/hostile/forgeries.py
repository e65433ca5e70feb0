"""Access tokens of the project's own making, and what an attacker makes of one."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from channels_secure.auth import simplejwt
from channels_secure.testing.hostile.verdicts import NotApplicable

YEAR = 365 * 86400


def can_be_made() -> bool:
    """Whether simplejwt is installed, and has a key to sign with."""
    if not simplejwt.is_installed():
        return False
    from channels_secure.auth import jwt

    return bool(jwt.access_token_classes()) and bool(jwt.simplejwt_settings().SIGNING_KEY)


def access_token(user: Any, lifetime: timedelta | None = None, **claims: Any) -> str:
    """A token that the project itself would issue.

    Args:
        lifetime: another than the project's; a negative one has expired.
        claims: other claims than the project's.

    Raises:
        NotApplicable: the project cannot issue any.
    """
    if not can_be_made():
        raise NotApplicable("there is no simplejwt with a key to sign access tokens")
    from channels_secure.auth import jwt

    token: Any = jwt.access_token_classes()[0].for_user(user)
    if lifetime is not None:
        token.set_exp(lifetime=lifetime)
    for name, value in claims.items():
        token[name] = value
    return str(token)


def unsigned(token: str, signature: str = "AAAA") -> str:
    """The same claims, and a header that says that no signature is needed (RFC 8725 section 2.1)."""
    _, payload, _ = token.split(".")
    return f"{_encode({'alg': 'none', 'typ': 'JWT'})}.{payload}.{signature}"


def signed_with(token: str, key: str) -> str:
    """The same claims, signed with another key by HS256, whatever the algorithm was before."""
    header, payload, _ = token.split(".")
    text = f"{_encode({**_decode(header), 'alg': 'HS256'})}.{payload}"
    return f"{text}.{_text(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest())}"


def prolonged(token: str) -> str:
    """Ten years more, under the old signature."""
    header, payload, signature = token.split(".")
    claims = _decode(payload)
    return f"{header}.{_encode({**claims, 'exp': claims['exp'] + 10 * YEAR})}.{signature}"


def _encode(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(value).encode())


def _decode(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
