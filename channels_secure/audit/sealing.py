"""The formulas of the chain, pure: what stands in a row's hash, and how personal fields can leave without breaking it.

    commitment        = H(salt ‖ the personal fields as JSON)
    actor_commitment  = H(actor_salt ‖ the actor, and from where, as JSON), empty without an actor
    digest            = H(the other fields and both commitments, as JSON)
    hash              = H(position ‖ the predecessor's hash ‖ digest)

H is HMAC-SHA-256 with `AUDIT_KEY`, or SHA-256 without a key (RFC 2104, FIPS 180-4). Salts are 128 random bits, so that
a commitment whose salt is gone tells nothing, not even to somebody who guesses (NIST SP 800-188 on de-identification).
A row that is not linked yet carries its digest in place of the hash.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from secrets import token_hex
from typing import Any, Protocol

import msgspec

from channels_secure.policy.decisions import Reason

# Of what comes before the first row.
GENESIS = "0" * 64
# In place of the digest of a row that was waiting to be linked and is not what the package had recorded.
FORGED = "forged"

_encode = msgspec.json.Encoder(order="sorted").encode
_REASONS = frozenset(Reason)
_EXACT = 2**63
# Bytes that SHA-256 takes in at a time.
BLOCK = 64


class Recorded(Protocol):
    """A row of the trail, as far as it is sealed."""

    uid: str
    kind: str
    reason: str
    created_at: datetime
    last_at: datetime
    count: int
    user_key: str
    username: str
    ip: str
    path: str
    origin: str
    user_agent: str
    connection_id: str
    actor: str
    actor_from: str
    detail: Any
    salt: str
    commitment: str
    actor_salt: str
    actor_commitment: str


@dataclass(frozen=True, slots=True)
class Seal:
    """H, with one key or with none."""

    key: bytes | None = None

    def of(self, content: bytes) -> str:
        """64 hexadecimal digits."""
        if self.key is None:
            return hashlib.sha256(content).hexdigest()
        begun, outer = _begun(self.key)
        inner, outer = begun.copy(), outer.copy()
        inner.update(content)
        outer.update(inner.digest())
        return outer.hexdigest()

    def commit(self, row: Recorded) -> None:
        """Commit a row that is new to its personal fields."""
        row.salt = token_hex(16)
        row.commitment = self.commitment(row)
        if row.actor or row.actor_from:
            row.actor_salt = token_hex(16)
            row.actor_commitment = self.actor_commitment(row)

    def commitment(self, row: Recorded) -> str:
        return self.of(row.salt.encode() + _encode(personal(row)))

    def actor_commitment(self, row: Recorded) -> str:
        return self.of(row.actor_salt.encode() + _encode([row.actor, row.actor_from]))

    def digest(self, row: Recorded) -> str:
        """The seal of a row's content, wherever it stands in the chain."""
        begun = _text(row.created_at)
        content = (
            row.uid,
            row.kind,
            public_reason(row.reason),
            begun,
            begun if row.last_at == row.created_at else _text(row.last_at),
            row.count,
            row.connection_id,
            row.commitment,
            row.actor_commitment,
        )
        return self.of(_encode(content))

    def link(self, position: int, before: str, digest: str) -> str:
        """The hash of the row at a position, after its predecessor's."""
        return self.of(f"{position}:{before}:{digest}".encode())


def seals(keys: Sequence[str]) -> tuple[Seal, ...]:
    """The newest key's, which seals, then those of older keys, which only verify."""
    return tuple(Seal(key.encode()) for key in keys) or (Seal(),)


def personal(row: Recorded) -> list[Any]:
    """What may have to be erased. An operator's own words are among it, one of the package's reasons is not."""
    words = "" if row.reason in _REASONS else row.reason
    return [
        row.user_key,
        row.username,
        row.ip,
        row.path,
        row.origin,
        row.user_agent,
        words,
        _canonical(row.detail),
    ]


def public_reason(reason: str) -> str:
    """A reason, if it is one of the package's own."""
    return str(reason) if reason in _REASONS else ""


@lru_cache(maxsize=16)
def _begun(key: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """The two hashes of an HMAC, begun with the key: a copy of them costs half of what beginning anew does."""
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    return hashlib.sha256(bytes(byte ^ 0x36 for byte in block)), hashlib.sha256(bytes(byte ^ 0x5C for byte in block))


def _text(moment: datetime) -> str:
    # A project without time zones stores local times, which no conversion could be trusted with.
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).isoformat(timespec="microseconds")


def _canonical(value: Any) -> Any:
    """JSON that is the same after a database has had it: PostgreSQL stores 1e2 as 100 and sorts keys in its own way."""
    if type(value) is str or value is None:
        return value
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        # As it is written: 6.6e+16 comes back as an integer that a float of the same value need not be.
        value = int(Decimal(repr(value)))
    if isinstance(value, int) and not -_EXACT <= value < _EXACT:
        return str(value)
    return value
