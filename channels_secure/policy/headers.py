"""Raw ASGI headers, read with caps that are looked at before anything is parsed.

Names are matched exactly, in lower-case bytes: `x_forwarded_for` is not `x-forwarded-for` (CVE-2026-3902). A reader
appends what is wrong to `flaws`, in words for the audit trail, and returns nothing instead.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

MAX_HEADERS = 128
MAX_HEADER_BYTES = 65536
MAX_COOKIE_BYTES = 32768
MAX_COOKIES = 256
MAX_COOKIE_ESCAPES = 2048
MAX_SUBPROTOCOLS = 32
# A longer credential is cut to this, and then refused by its authenticator like every one over the 8 kB of a token.
MAX_CREDENTIAL_LENGTH = 16384
MAX_VISIBLE = 256

Headers: TypeAlias = Mapping[bytes, Sequence[bytes]]

# Of these any length is let through, because their readers cut them: a 1 MB token is a bad credential, a 1 MB Origin a
# malformed origin, and neither is a bad request.
_CUT_BY_READERS = frozenset({b"authorization", b"origin", b"sec-websocket-protocol"})
# CVE-2026-44546: some of these ended a header line for Daphne before 4.2.2.
_CONTROL = bytes([*range(0x20), 0x7F])
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_QUOTED_PAIR = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))", re.DOTALL)


def visible(text: str, limit: int = MAX_VISIBLE, *, ascii_only: bool = False) -> str:
    """Text that is safe in a log line or a table: what does not print shows as ``\\xNN``, the end is cut to `...`."""
    shown = text[: limit + 1]
    if not shown.isprintable() or (ascii_only and not shown.isascii()):
        shown = "".join(map(_escape_to_ascii if ascii_only else _escape, shown))
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _escape_to_ascii(char: str) -> str:
    return _escape(char) if char.isascii() else char.encode("ascii", "backslashreplace").decode("ascii")


def read_headers(raw: Any, flaws: list[str]) -> Headers:
    """Group the values by name."""
    try:
        if len(raw) > MAX_HEADERS:
            flaws.append("too many headers")
            return {}
        headers = {name: [value] for name, value in raw}
        size = len(b"".join(chain.from_iterable(raw)))
    except (TypeError, ValueError):
        flaws.append("headers that are not pairs of bytes")
        return {}
    if size > MAX_HEADER_BYTES and _is_too_long(raw):
        flaws.append("headers too long")
        return {}
    if len(headers) != len(raw):
        headers = {name: [] for name in headers}
        for name, value in raw:
            headers[name].append(value)
    return headers


def _is_too_long(raw: Sequence[tuple[bytes, bytes]]) -> bool:
    return sum(len(name) + (0 if name in _CUT_BY_READERS else len(value)) for name, value in raw) > MAX_HEADER_BYTES


def read_text(headers: Headers, name: bytes, limit: int, flaws: list[str]) -> str | None:
    """The first value, cut to `limit`; None when there is none or it has control bytes."""
    values = headers.get(name)
    if values is None:
        return None
    value = values[0][:limit]
    if has_control(value):
        flaws.append(f"control bytes in {name.decode('ascii')}")
        return None
    return value.decode("latin-1")


def read_single(headers: Headers, name: bytes, limit: int, flaws: list[str]) -> str | None:
    """As `read_text`, for a header that must not be repeated."""
    if len(headers.get(name, ())) > 1:
        flaws.append(f"more than one {name.decode('ascii')}")
        return None
    return read_text(headers, name, limit, flaws)


def has_control(value: bytes) -> bool:
    return len(value.translate(None, _CONTROL)) != len(value)


def read_cookies(values: Sequence[bytes], flaws: list[str]) -> dict[str, str]:
    """The cookies of all header lines together (RFC 9113, section 8.2.3, splits them), as Django's `parse_cookie`."""
    joined = b"; ".join(values)
    if len(joined) > MAX_COOKIE_BYTES or joined.count(b";") >= MAX_COOKIES or joined.count(b"\\") > MAX_COOKIE_ESCAPES:
        flaws.append("too many cookies")
        return {}
    if has_control(joined):
        flaws.append("control bytes in cookie")
        return {}
    cookies = {}
    for chunk in joined.decode("latin-1").split(";") if joined else ():
        name, equals, value = chunk.partition("=")
        if not equals:
            # A cookie without a name: https://bugzilla.mozilla.org/show_bug.cgi?id=169091
            name, value = "", chunk
        name, value = name.strip(), value.strip()
        if name or value:
            cookies[name] = _unquote(value)
    return cookies


def _unquote(value: str) -> str:
    # Not `http.cookies`: its own is quadratic in backslashes before Python 3.11.10 (CVE-2024-7592).
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _QUOTED_PAIR.sub(lambda pair: chr(int(pair[1], 8)) if pair[1] else pair[2], value[1:-1])


def read_subprotocols(raw: Any, flaws: list[str]) -> tuple[str, ...]:
    """The offered subprotocols, cut to the length of a credential: distinct tokens (RFC 6455, section 4.1)."""
    if not raw:
        return ()
    if not isinstance(raw, (list, tuple)) or len(raw) > MAX_SUBPROTOCOLS:
        flaws.append("subprotocols that are no list, or too many")
        return ()
    offered = tuple(item[:MAX_CREDENTIAL_LENGTH] if isinstance(item, str) else "" for item in raw)
    if sum(map(len, offered)) > MAX_HEADER_BYTES:
        flaws.append("subprotocols too long")
        return ()
    if len(set(offered)) != len(offered) or not all(map(_TOKEN.fullmatch, offered)):
        flaws.append("subprotocols that are not distinct tokens")
        return ()
    return offered
