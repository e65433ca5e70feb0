"""Where a handshake may carry a token, and what is refused before anything is verified.

Too long, or not three parts of base64url: no cryptography is spent on it (RFC 7519 section 7.2, RFC 8725 section 2).
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from channels_secure import blocklist
from channels_secure.auth.base import Identity
from channels_secure.auth.subprotocols import BEARER_PREFIX
from channels_secure.conf import Settings
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake

MAX_TOKEN_BYTES = 8192
# The query parameter that carries a ticket.
TICKET_PARAMETER = "ticket"
# No padding, no whitespace: PyJWT would overlook both, and one token would have many spellings.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A token and the source in TOKEN_SOURCES where it was found."""

    token: str = field(repr=False)
    source: str

    @property
    def is_ambient(self) -> bool:
        return self.source == "cookie"

    def refuse(self, detail: str, reason: Reason = Reason.INVALID_CREDENTIALS) -> Denial:
        return Denial(reason=reason, detail=f"{detail} ({self.source})", ambient=self.is_ambient)


def find_offers(handshake: Handshake, settings: Settings, schemes: Collection[str]) -> Iterator[Offer | Denial]:
    """Yield the token of each source that has one, or what is wrong with it at first sight.

    Args:
        schemes: the words that may stand before a token in the Authorization header, in lower case.
    """
    for source in settings.token_sources:
        found = _in_header(handshake, schemes) if source == "header" else _READERS[source](handshake, settings)
        if len(found) > 1:
            yield Denial(reason=Reason.BAD_REQUEST, detail=f"several_tokens ({source})")
        elif found:
            offer = Offer(token=found[0], source=source)
            if offer.is_ambient and handshake.origin is None:
                yield offer.refuse("cookie_without_origin", Reason.ORIGIN_MISSING)
            else:
                yield examine(offer)


def examine(offer: Offer) -> Offer | Denial:
    """The offer, or what is wrong with its token at first sight."""
    if len(offer.token) > MAX_TOKEN_BYTES:
        return offer.refuse("token_too_large")
    return offer if _COMPACT.fullmatch(offer.token) else offer.refuse("token_malformed")


def without_credentials(query: bytes | str, settings: Settings) -> bytes:
    """A query string as the application may see it: without ticket and token, however their names are escaped."""
    names = {TICKET_PARAMETER}
    if "query" in settings.token_sources:
        names.add(settings.token_query_name)
    # Bytes by the standard; not every server keeps it.
    raw = query.encode("utf-8", "surrogatepass") if isinstance(query, str) else query
    fields = raw.split(b"&")
    left = [field for field in fields if unquote_plus(field.partition(b"=")[0].decode("utf-8", "replace")) not in names]
    return b"&".join(left)


def read_header(authorization: str, schemes: Collection[str]) -> str | None:
    """What stands in an Authorization header after one of the schemes; None where another stands there."""
    # RFC 9110 section 11.1: the name of the scheme is case-insensitive.
    scheme, _, token = authorization.lstrip(" ").partition(" ")
    return token if scheme.lower() in schemes else None


def _in_header(handshake: Handshake, schemes: Collection[str]) -> Sequence[str]:
    token = read_header(handshake.authorization or "", schemes)
    return [] if token is None else [token]


def _in_subprotocol(handshake: Handshake, settings: Settings) -> Sequence[str]:
    return [name.removeprefix(BEARER_PREFIX) for name in handshake.subprotocols if name.startswith(BEARER_PREFIX)]


def _in_cookie(handshake: Handshake, settings: Settings) -> Sequence[str]:
    # A cookie that was emptied at logout is no token.
    token = handshake.cookies.get(settings.token_cookie_name)
    return [token] if token else []


def _in_query(handshake: Handshake, settings: Settings) -> Sequence[str]:
    return handshake.query_values(settings.token_query_name)


_READERS: Mapping[str, Callable[[Handshake, Settings], Sequence[str]]] = {
    "subprotocol": _in_subprotocol,
    "cookie": _in_cookie,
    "query": _in_query,
}


def unless_revoked(offer: Offer, answer: Identity | Denial) -> Identity | Denial:
    """A revoked token is a wrong one: in a cookie, beside a good one, it counts as absent.

    By the snapshot in force; what is revoked from now on is found when the connection is registered.
    """
    snapshot = blocklist.current()
    if isinstance(answer, Identity) and snapshot is not None and snapshot.revoked.refuses(answer):
        return offer.refuse("revoked")
    return answer
