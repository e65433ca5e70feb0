"""Taking rights back: tokens, and whatever else ends open sockets in every process.

A revocation is a row. `revoke_token()` and `revoke_user_tokens()` make those that also refuse handshakes;
`channels_secure.connections.disconnect()` and the receivers of Django's signals make the others.
"""

from channels_secure.revocation.rows import delete_expired, insert
from channels_secure.revocation.standing import is_revoked
from channels_secure.revocation.tokens import (
    arevoke_jti,
    arevoke_token,
    arevoke_user_tokens,
    revoke_jti,
    revoke_token,
    revoke_user_tokens,
)

__all__ = [
    "arevoke_jti",
    "arevoke_token",
    "arevoke_user_tokens",
    "delete_expired",
    "insert",
    "is_revoked",
    "revoke_jti",
    "revoke_token",
    "revoke_user_tokens",
]
