"""What the claims of a verified token may be: a signature says who wrote them, not that they make sense."""

from collections.abc import Mapping
from typing import Any, TypeGuard

MAX_CLAIM_LENGTH = 255
# Year 9999, the last that Python's datetime knows.
MAX_TIME = 253402300799


def find_fault(claims: Mapping[str, Any], *, user_id_claim: str, jti_claim: str | None) -> str:
    """A word for the first claim that cannot be used, or nothing."""
    end, user_id = claims.get("exp"), claims.get(user_id_claim)
    if not _is_time(end):
        return "claims_invalid: exp"
    # `True` is an integer to Python and user 1 to the database.
    if not _is_plain_text(user_id) and (isinstance(user_id, bool) or not isinstance(user_id, int)):
        return "claims_invalid: user id"
    if isinstance(user_id, int) and not 0 <= user_id < 2**63:
        return "claims_invalid: user id"
    if jti_claim is not None and not _is_plain_text(claims.get(jti_claim)):
        return "claims_invalid: jti"
    return ""


def issued_at(claims: Mapping[str, Any]) -> float:
    """The Unix time of a token's `iat`; a token that does not say counts as older than every revocation."""
    moment = claims.get("iat")
    return float(moment) if _is_time(moment) else 0.0


def _is_time(value: Any) -> TypeGuard[float]:
    # Comparing takes NaN and integers of a thousand digits, which converting does not.
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 < value <= MAX_TIME


def _is_plain_text(value: Any) -> bool:
    # PostgreSQL refuses NUL, and no database takes a lone surrogate; neither is printable.
    return isinstance(value, str) and 0 < len(value) <= MAX_CLAIM_LENGTH and value.isprintable()
