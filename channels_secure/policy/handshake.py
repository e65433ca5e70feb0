"""The facts of a handshake, read once from the ASGI scope; what is wrong with it is a fact too, never an exception."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import parse_qsl

from channels_secure.policy.addresses import Client, IPAddress, Proxies, resolve_client
from channels_secure.policy.headers import (
    MAX_CREDENTIAL_LENGTH,
    MAX_VISIBLE,
    Headers,
    read_cookies,
    read_headers,
    read_single,
    read_subprotocols,
    read_text,
    visible,
)
from channels_secure.policy.origins import MAX_ORIGIN_LENGTH, Origin, parse_host, parse_origin

MAX_QUERY_BYTES = 16384
MAX_QUERY_FIELDS = 64
MAX_PATH_LENGTH = 8192

# One for all: three empty dicts for every open socket would be two hundred bytes.
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Handshake:
    """What a client asks for and how, before anything is decided.

    Args:
        path: as the server decoded it; show `safe_path` instead.
        query: the values of each query parameter.
        client: who connects.
        origin: the page that opens the socket; None when the header is missing, malformed or repeated.
        origin_text: the header made safe to show; None when there is none.
        host: the Host header, or X-Forwarded-Host where the project says so.
        secure: the connection is known to be encrypted.
        user_agent: made safe to show.
        authorization: the header as sent, cut at 16 kB.
        cookies: of all Cookie headers; the last of equal names wins, as in Django.
        subprotocols: what the client offers.
        headers: raw, for authenticators of the project's own; see `header()`.
        malformed: why the handshake is a bad request, for the audit trail; None when it is not.
    """

    path: str
    client: Client
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    origin: Origin | None = None
    origin_text: str | None = None
    host: str | None = None
    secure: bool = False
    user_agent: str = ""
    authorization: str | None = field(default=None, repr=False)
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    subprotocols: tuple[str, ...] = field(default=(), repr=False)
    headers: Headers = field(default_factory=dict, repr=False)
    malformed: str | None = None

    @classmethod
    def from_scope(
        cls,
        scope: Mapping[str, Any],
        *,
        proxies: Proxies,
        secure_header: tuple[str, str] | None = None,
        assume_wss: bool = False,
        use_forwarded_host: bool = False,
    ) -> Self:
        """Read a scope of any server.

        Args:
            secure_header: Django's SECURE_PROXY_SSL_HEADER; like `use_forwarded_host` (USE_X_FORWARDED_HOST) believed
                from every peer until proxies are declared, and then only from these.
            assume_wss: the server ends TLS itself and does not say so, as Daphne.
        """
        flaws: list[str] = []
        ssl = (_raw_name(secure_header[0]), secure_header[1]) if secure_header else None
        headers = read_headers(scope.get("headers", ()), flaws)
        client = _read_client(scope, headers, proxies, flaws)
        believed = client.trusted_proxy or not proxies.declared
        origin, origin_text = _read_origin(headers.get(b"origin", ()))
        return cls(
            path=_read_path(scope.get("path"), flaws),
            client=client,
            query=_read_query(scope.get("query_string", b""), flaws),
            origin=origin,
            origin_text=origin_text,
            host=_read_host(headers, use_forwarded_host and believed, flaws),
            secure=assume_wss
            or scope.get("scheme") == "wss"
            or (client.trusted_proxy and _is_forwarded_securely(headers))
            or (ssl is not None and believed and _is_promised_secure(headers, *ssl)),
            user_agent=_read_user_agent(headers, flaws),
            authorization=read_single(headers, b"authorization", MAX_CREDENTIAL_LENGTH, flaws),
            cookies=read_cookies(headers.get(b"cookie", ()), flaws),
            subprotocols=read_subprotocols(scope.get("subprotocols", ()), flaws),
            headers=headers,
            malformed=flaws[0] if flaws else None,
        )

    def without_credentials(self) -> Self:
        """The facts that are wanted for as long as the connection lives: no header, token, cookie or query."""
        return replace(self, query=_NOTHING, authorization=None, cookies=_NOTHING, subprotocols=(), headers=_NOTHING)

    @property
    def address(self) -> IPAddress | None:
        return self.client.address

    @property
    def peer(self) -> IPAddress | None:
        return self.client.peer

    @property
    def origin_missing(self) -> bool:
        return self.origin_text is None

    @property
    def safe_path(self) -> str:
        return visible(self.path)

    def header(self, name: str) -> str | None:
        """The value of any other header; None when it is missing, repeated or has control bytes."""
        return read_single(self.headers, name.lower().encode("latin-1", "replace"), MAX_CREDENTIAL_LENGTH, [])

    def query_values(self, name: str) -> tuple[str, ...]:
        return self.query.get(name, ())


def _raw_name(name: str) -> bytes:
    """`HTTP_X_FORWARDED_PROTO`, as Django's settings write it, to `x-forwarded-proto`."""
    return name.removeprefix("HTTP_").replace("_", "-").lower().encode("ascii", "replace")


def _is_forwarded_securely(headers: Headers) -> bool:
    # The rightmost value is the one that the trusted proxy wrote.
    values = headers.get(b"x-forwarded-proto", (b"",))
    return values[-1].rpartition(b",")[2].strip().lower() in (b"https", b"wss")


def _is_promised_secure(headers: Headers, name: bytes, value: str) -> bool:
    # The leftmost, as in Django's `HttpRequest.scheme`: the project promises that clients cannot write this header.
    values = headers.get(name)
    return values is not None and values[0].partition(b",")[0].decode("latin-1").strip() == value


def _read_user_agent(headers: Headers, flaws: list[str]) -> str:
    text = read_text(headers, b"user-agent", MAX_VISIBLE + 1, flaws)
    return visible(text, ascii_only=True) if text else ""


def _read_path(path: Any, flaws: list[str]) -> str:
    if not isinstance(path, str) or len(path) > MAX_PATH_LENGTH:
        flaws.append("path missing or too long")
        return path[:MAX_VISIBLE] if isinstance(path, str) else ""
    return path


def _listens_on_port(server: Any) -> bool:
    """Whether the server is none on a UNIX socket: uvicorn forgets the address of a peer that has reset already."""
    return isinstance(server, (list, tuple)) and len(server) > 1 and isinstance(server[1], int)


def _read_client(scope: Mapping[str, Any], headers: Headers, proxies: Proxies, flaws: list[str]) -> Client:
    raw = scope.get("client")
    if raw is None and _listens_on_port(scope.get("server")):
        flaws.append("no client address")
    first = raw[0] if isinstance(raw, (list, tuple)) and raw else ""
    # No client at all is a UNIX socket; everything else that is no text is no address either.
    peer = None if raw is None else first if isinstance(first, str) else ""
    client = resolve_client(peer, headers.get(proxies.header, ()), proxies)
    if flaws and not headers and client.trusted_proxy:
        # The headers could not be read, so nobody knows who stands behind the proxy.
        return replace(client, address=None, malformed=True)
    if client.malformed:
        flaws.append("no address from a trusted proxy")
    return client


def _read_origin(values: Sequence[bytes]) -> tuple[Origin | None, str | None]:
    if not values:
        return None, None
    # A repeated header is no origin, whether the server joins the lines with a comma, as Daphne, or leaves it to us.
    text = ",".join(value[: MAX_ORIGIN_LENGTH + 1].decode("latin-1") for value in values)
    return parse_origin(text), visible(text, ascii_only=True)


def _read_host(headers: Headers, forwarded: bool, flaws: list[str]) -> str | None:
    name = b"x-forwarded-host" if forwarded and b"x-forwarded-host" in headers else b"host"
    if name != b"host" and len(headers.get(b"host", ())) > 1:
        flaws.append("more than one host")
    host = read_single(headers, name, MAX_ORIGIN_LENGTH + 1, flaws)
    if host and parse_host(host) is None:
        flaws.append(f"{name.decode('ascii')} that is no host")
        return None
    return host or None


def _read_query(raw: Any, flaws: list[str]) -> dict[str, tuple[str, ...]]:
    if not raw:
        return {}
    if not isinstance(raw, (bytes, str)) or len(raw) > MAX_QUERY_BYTES:
        flaws.append("query too long or unreadable")
        return {}
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        flaws.append("too many query parameters")
        return {}
    query: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        query[name] = (*query.get(name, ()), value)
    return query
