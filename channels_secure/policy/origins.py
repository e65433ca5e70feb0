"""Origins: reading the header strictly, and matching it against what is allowed.

An Origin is the scheme, host and port of the page that opens the socket (RFC 6454, section 6.2). Browsers send it
serialised in one way only, so everything else (user info, path, whitespace, other letters than ASCII) is refused rather
than repaired: repairs are how `https://example.com@evil.test` gets in.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Self

MAX_ORIGIN_LENGTH = 300
DEFAULT_PORTS = {"http": 80, "https": 443}
ANY_HOST = "*"

# Labels cannot be empty, so that `https://.example.com` is no subdomain; a trailing dot makes a different host.
_HOST = r"(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[1-9][0-9]{0,4}))?"
_AUTHORITY = re.compile(_HOST, re.ASCII)
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://" + _HOST, re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A page's scheme, host and port, all in lower case; `port` is None where the scheme has no default."""

    scheme: str
    host: str
    port: int | None = None

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def parse_origin(text: str) -> Origin | None:
    """Read an Origin header, or None if it is not a serialised origin; `null` is none."""
    return None if len(text) > MAX_ORIGIN_LENGTH else _parse_origin(text)


def parse_host(text: str) -> tuple[str, int | None] | None:
    """Read a Host header into host and port, or None if it is not one (RFC 9110, section 7.2)."""
    return None if len(text) > MAX_ORIGIN_LENGTH else _parse_host(text)


# A site has few origins and hosts, which come with every handshake.
@lru_cache(maxsize=256)
def _parse_origin(text: str) -> Origin | None:
    match = _match(_ORIGIN, text)
    location = match and _location(match)
    if not match or not location:
        return None
    scheme = match["scheme"]
    host, port = location
    return Origin(scheme=scheme, host=host, port=port or DEFAULT_PORTS.get(scheme))


@lru_cache(maxsize=256)
def _parse_host(text: str) -> tuple[str, int | None] | None:
    match = _match(_AUTHORITY, text)
    return _location(match) if match else None


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    # ASCII first: lower() turns the Kelvin sign into a k.
    return pattern.fullmatch(text.lower()) if text.isascii() else None


def _location(match: re.Match[str]) -> tuple[str, int | None] | None:
    host, port = match["host"], int(match["port"]) if match["port"] else None
    if port is not None and port > 65535:
        return None
    if host[0] == "[":
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except AddressValueError:
            return None
    return host, port


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginPolicy:
    """Which origins may connect.

    Args:
        exact: origins that must be equal.
        parents: origins whose subdomains, at any depth, are allowed.
        same_origin: hosts that may connect to themselves, in the grammar of ALLOWED_HOSTS: `*` or `.example.com`.
        loopback: allow http and https pages on any port of this machine's own names, for development.
    """

    exact: frozenset[Origin] = frozenset()
    parents: tuple[Origin, ...] = ()
    same_origin: tuple[str, ...] = ()
    loopback: bool = False

    @classmethod
    def compile(cls, patterns: Iterable[str], *, same_origin: bool = False, loopback: bool = False) -> Self:
        """Read patterns such as `https://chat.example.com`, `https://chat.example.com:8443`, `https://*.example.com`.

        Raises:
            ValueError: a pattern is not one; the words say what to write instead.
        """
        if isinstance(patterns, str):
            raise ValueError(f"{patterns!r} must stand in a list")
        exact, parents = _compile(patterns)
        return cls(exact=exact, parents=parents, same_origin=(ANY_HOST,) if same_origin else (), loopback=loopback)

    def allows(self, origin: Origin, *, host: str | None, secure: bool) -> bool:
        """Whether a page of this origin may connect.

        Args:
            host: the Host header, for same-origin policies.
            secure: the connection is known to be encrypted. A same-origin page must then be https. When it is False a
                proxy that nobody declared may still have ended TLS, so that http and https are both accepted.
        """
        if origin in self.exact or any(_is_subdomain(origin, parent) for parent in self.parents):
            return True
        if self.loopback and _is_loopback(origin):
            return True
        return bool(self.same_origin) and host is not None and self._is_same_origin(origin, host, secure)

    def _is_same_origin(self, origin: Origin, host: str, secure: bool) -> bool:
        location = parse_host(host)
        if location is None or origin.scheme not in DEFAULT_PORTS or (secure and origin.scheme != "https"):
            return False
        name, port = location
        if (origin.host, origin.port) != (name, port or DEFAULT_PORTS[origin.scheme]):
            return False
        return any(_is_allowed_host(name, pattern) for pattern in self.same_origin)


def _is_subdomain(origin: Origin, parent: Origin) -> bool:
    return origin.host.endswith("." + parent.host) and origin.scheme == parent.scheme and origin.port == parent.port


def _is_allowed_host(name: str, pattern: str) -> bool:
    return pattern == ANY_HOST or ("." + name.removesuffix(".")).endswith(pattern)


def _is_loopback(origin: Origin) -> bool:
    if origin.scheme not in DEFAULT_PORTS:
        return False
    # RFC 6761, section 6.3: every name below localhost is loopback.
    if origin.host in ("localhost", "[::1]") or origin.host.endswith(".localhost"):
        return True
    try:
        return IPv4Address(origin.host).is_loopback
    except AddressValueError:
        return False


def _compile(patterns: Iterable[str]) -> tuple[frozenset[Origin], tuple[Origin, ...]]:
    # A dict keeps the order of the settings, so that equal settings give equal policies.
    read = dict.fromkeys(map(_read_pattern, patterns))
    exact = frozenset(origin for origin, wildcard in read if not wildcard)
    return exact, tuple(origin for origin, wildcard in read if wildcard)


def _read_pattern(pattern: str) -> tuple[Origin, bool]:
    scheme, separator, rest = pattern.partition("://")
    wildcard = rest.startswith("*.")
    origin = parse_origin(f"{scheme}://{rest.removeprefix('*.')}")
    if separator and origin is not None and origin.scheme not in ("ws", "wss"):
        return origin, wildcard
    raise ValueError(f"{pattern[:MAX_ORIGIN_LENGTH]!r} {_complaint(pattern)}")


def _complaint(pattern: str) -> str:
    if pattern == ANY_HOST:
        return "would let every website connect with your users' cookies: list the origins"
    if not pattern.isascii():
        return "must be written in its ASCII form (A-label, xn--...), as browsers send it"
    scheme, separator, rest = pattern.partition("://")
    if pattern == "null" or not separator:
        return "is not an origin: write scheme and host, for example 'https://chat.example.com'"
    if scheme.lower() in ("ws", "wss"):
        return "must have the scheme of the page, http or https, not that of the socket"
    if "*" in rest or rest.startswith("."):
        return "may have a * only for all subdomains, written like 'https://*.example.com'"
    return "is not an origin: write scheme, host and perhaps a port, with nothing after them"


def default_patterns(
    allowed_hosts: Iterable[str], csrf_trusted_origins: Iterable[str], require_wss: bool, debug: bool
) -> OriginPolicy:
    """The policy of a project that names no origins, derived from Django's ALLOWED_HOSTS and CSRF_TRUSTED_ORIGINS.

    Exact hosts may connect by https (and http, unless `require_wss`); `*` and `.example.com` only to themselves; with
    `debug` loopback names too. Entries that Django could not match against a browser's header either are passed over.
    """
    hosts = [host.lower() for host in allowed_hosts]
    schemes = ("https",) if require_wss else ("https", "http")
    candidates = [f"{scheme}://{host}" for host in hosts for scheme in schemes if "*" not in host]
    exact, parents = _compile(filter(_is_pattern, [*candidates, *csrf_trusted_origins]))
    same_origin = tuple(dict.fromkeys(host for host in hosts if host == ANY_HOST or host.startswith(".")))
    return OriginPolicy(exact=exact, parents=parents, same_origin=same_origin, loopback=debug)


def _is_pattern(text: str) -> bool:
    try:
        _read_pattern(text)
    except ValueError:
        return False
    return True
