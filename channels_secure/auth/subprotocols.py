"""Credentials in the Sec-WebSocket-Protocol header, the only one that JavaScript may set on a handshake."""

import base64
import binascii
import re
from collections.abc import Iterable

SUBPROTOCOL = "channels-secure.v1"
BEARER_PREFIX = "channels-secure.bearer."
TICKET_PREFIX = "channels-secure.ticket."

# RFC 7515 section 7.1 and RFC 7516 section 7.1: three parts when signed, five when encrypted; all but the first may be
# empty.
_COMPACT = re.compile(r"\s*([A-Za-z0-9_-]{8,})(?:\.[A-Za-z0-9_-]*){2,4}=*\s*", re.ASCII)


def without_tokens(subprotocols: Iterable[str]) -> tuple[str, ...]:
    """The offered subprotocols that the application may see: none that carries a token or a ticket, in any spelling."""
    carriers = (BEARER_PREFIX, TICKET_PREFIX)
    return tuple(name for name in subprotocols if not name.lower().startswith(carriers))


def looks_like_jwt(text: str) -> bool:
    """Whether the text has the shape of a JWT in compact form, its header a JSON object; nothing is verified."""
    match = _COMPACT.fullmatch(text)
    if match is None:
        return False
    try:
        return base64.urlsafe_b64decode(match[1][:8]).lstrip().startswith(b"{")
    except binascii.Error:
        return False
