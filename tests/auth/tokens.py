"""Tokens, good ones and every kind of bad one."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.conf import settings
from django.contrib.auth.models import User

MISSING = object()


def claims_of(user: User | None = None, **changes: Any) -> dict[str, Any]:
    """The claims of a good access token, for a user 1 who need not exist; `MISSING` takes one out."""
    now = int(time.time())
    claims = {
        "token_type": "access",
        "exp": now + 300,
        "iat": now,
        "jti": uuid4().hex,
        "user_id": "1" if user is None else str(user.pk),
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not MISSING}


def sign(
    claims: Mapping[str, Any], key: Any = None, algorithm: str = "HS256", headers: dict[str, Any] | None = None
) -> str:
    """A token signed with simplejwt's default key, unless another is given."""
    return jwt.encode(dict(claims), key or settings.SECRET_KEY, algorithm=algorithm, headers=headers)


def token_for(user: User | None = None, **changes: Any) -> str:
    return sign(claims_of(user, **changes))


def part(value: object) -> str:
    """One part of a token, from bytes as they are or from anything else as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign_raw(payload: bytes, key: str | bytes | None = None, header: object = None) -> str:
    """An HS256 token around any payload, with any header and any key, also those that PyJWT refuses to use."""
    secret = settings.SECRET_KEY if key is None else key
    head = part(header or {"alg": "HS256", "typ": "JWT"})
    signed = f"{head}.{part(payload)}"
    digest = hmac.new(secret if isinstance(secret, bytes) else secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{part(digest.digest())}"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem() -> str:
    return (
        rsa_key()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def public_pem() -> str:
    return (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def key_set() -> dict[str, Any]:
    """A JWK set with the RSA key as `main` and the elliptic-curve key as `other`."""
    main = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key().public_key(), as_dict=True)
    other = jwt.algorithms.ECAlgorithm.to_jwk(ec_key().public_key(), as_dict=True)
    return {"keys": [{**main, "kid": "main", "use": "sig"}, {**other, "kid": "other", "use": "sig"}]}
