"""What JWTAuthenticator says to a token in the Authorization header."""

from channels_secure.auth.base import Identity
from channels_secure.auth.jwt import JWTAuthenticator
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake
from tests.auth.handshakes import denial_of, identity_of, shake

authenticator = JWTAuthenticator()


def bearer(token: str) -> Handshake:
    return shake(authorization=f"Bearer {token}")


def identity(token: str) -> Identity:
    return identity_of(authenticator, bearer(token))


def denial(token: str) -> Denial:
    return denial_of(authenticator, bearer(token))


def assert_refused(token: str, detail: str, reason: Reason = Reason.INVALID_CREDENTIALS) -> None:
    answer = denial(token)
    assert (answer.reason, answer.detail, answer.ambient) == (reason, f"{detail} (header)", False)
