"""Handshakes as a server would hand them over, and the answers of one authenticator."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync

from channels_secure.auth.base import Authenticator, Identity
from channels_secure.policy.addresses import Proxies
from channels_secure.policy.decisions import Denial
from channels_secure.policy.handshake import Handshake

PROXIES = Proxies.from_settings(None, "X-Forwarded-For", None)


def shake(
    *,
    authorization: str | bytes | None = None,
    cookies: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    query: Mapping[str, Any] | None = None,
    origin: str | None = "https://testserver",
) -> Handshake:
    """A handshake that carries these credentials and nothing else."""
    headers = [(b"host", b"testserver")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if authorization is not None:
        value = authorization if isinstance(authorization, bytes) else authorization.encode("utf-8")
        headers.append((b"authorization", value))
    if cookies:
        headers.append((b"cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()).encode()))
    scope = {
        "type": "websocket",
        "path": "/ws/",
        "query_string": urlencode(query or {}, doseq=True).encode(),
        "headers": headers,
        "client": ["192.0.2.1", 50000],
        "subprotocols": list(subprotocols),
    }
    return Handshake.from_scope(scope, proxies=PROXIES)


def answer_of(authenticator: Authenticator, handshake: Handshake) -> Identity | Denial | None:
    """What the authenticator says, from synchronous code."""
    return async_to_sync(authenticator.authenticate)(handshake)


def identity_of(authenticator: Authenticator, handshake: Handshake) -> Identity:
    answer = answer_of(authenticator, handshake)
    assert isinstance(answer, Identity), answer
    return answer


def denial_of(authenticator: Authenticator, handshake: Handshake) -> Denial:
    answer = answer_of(authenticator, handshake)
    assert isinstance(answer, Denial), answer
    return answer
