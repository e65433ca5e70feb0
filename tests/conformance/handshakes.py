"""Rows 1 to 50: one upgrade request each."""
# ruff: noqa: E501 - a table is read line by line

import time
from collections.abc import Callable
from typing import Any

from channels_secure.policy.decisions import Reason
from tests.conformance.table import (
    ALLOWED_ORIGIN,
    CANARY,
    COMMUNICATOR,
    EVERYWHERE,
    LET_IN,
    Driver,
    Handshake,
    Request,
    Verdict,
    add,
    http,
    socket,
)
from tests.conformance.world import World

LONG = 16_384


def case(
    id: str,  # noqa: A002 - the table's own word
    row: int,
    given: str,
    request: Callable[[World], Request],
    required: Verdict,
    on: tuple[Driver, ...] = EVERYWHERE,
    **more: Any,
) -> None:
    add(Handshake(id=id, row=row, given=given, request=request, required=required, on=on, **more))


def header(name: bytes, *values: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, value) for value in values)


def bearer(token: str) -> tuple[tuple[bytes, bytes], ...]:
    return header(b"authorization", b"Bearer " + token.encode("latin-1", "replace"))


# 4.1 Origin ----------------------------------------------------------------------------------------------------------

NOT_ALLOWED = http(Reason.ORIGIN_NOT_ALLOWED)
MALFORMED = http(Reason.ORIGIN_MALFORMED, or_server=True)

case(
    "origin-foreign", 1, "a session cookie and a foreign Origin",
    lambda w: Request(path="/typed/", origin="https://evil.test", cookies=w.session(w.alice)), NOT_ALLOWED,
)  # fmt: skip
case(
    "origin-foreign-token", 1, "a bearer token and a foreign Origin",
    lambda w: Request(path="/typed/", origin="https://evil.test", headers=bearer(w.token())), NOT_ALLOWED,
)  # fmt: skip
case(
    "origin-foreign-anonymous",
    1,
    "no credential and a foreign Origin",
    lambda w: Request(origin="https://evil.test"),
    NOT_ALLOWED,
)
case(
    "origin-foreign-unrouted",
    1,
    "a foreign Origin and no route",
    lambda w: Request(path="/nowhere/", origin="https://evil.test"),
    NOT_ALLOWED,
)
case(
    "origin-missing-session", 2, "a session cookie and no Origin",
    lambda w: Request(path="/typed/", origin=None, cookies=w.session(w.alice)), http(Reason.ORIGIN_MISSING),
)  # fmt: skip
case(
    "origin-missing-token",
    3,
    "a bearer token and no Origin",
    lambda w: Request(path="/typed/", origin=None, headers=bearer(w.token())),
    LET_IN,
)
case(
    "origin-missing-token-and-session", 3, "a bearer token, a session cookie of the same user and no Origin",
    lambda w: Request(path="/typed/", origin=None, headers=bearer(w.token()), cookies=w.session(w.alice)), LET_IN,
)  # fmt: skip
case(
    "origin-missing-never", 3, "a bearer token and no Origin, ALLOW_MISSING_ORIGIN is `never`",
    lambda w: Request(path="/typed/", origin=None, headers=bearer(w.token())), http(Reason.ORIGIN_MISSING),
    on=COMMUNICATOR, settings={"ALLOW_MISSING_ORIGIN": "never"},
)  # fmt: skip
case(
    "origin-missing-always", 3, "a session cookie and no Origin, ALLOW_MISSING_ORIGIN is `always`",
    lambda w: Request(path="/typed/", origin=None, cookies=w.session(w.alice)), LET_IN,
    on=COMMUNICATOR, settings={"ALLOW_MISSING_ORIGIN": "always"},
)  # fmt: skip
case(
    "origin-missing-anonymous",
    2,
    "no credential and no Origin where everybody may enter",
    lambda w: Request(origin=None),
    http(Reason.ORIGIN_MISSING),
)
case("origin-null", 4, "Origin: null", lambda w: Request(origin="null"), http(Reason.ORIGIN_MALFORMED))
case("origin-NULL", 4, "Origin: NULL", lambda w: Request(origin="NULL"), http(Reason.ORIGIN_MALFORMED, or_server=True))

for name, value, verdict in (
    ("suffix", "https://example.com.evil.test", NOT_ALLOWED),
    ("prefix", "https://evilexample.com", NOT_ALLOWED),
    ("subdomain", "https://www.example.com", NOT_ALLOWED),
    ("userinfo", "https://example.com@evil.test", MALFORMED),
    ("userinfo-reversed", "https://evil.test@example.com", MALFORMED),
    ("userinfo-password", "https://a:b@example.com", MALFORMED),
    ("backslash", "https://evil.test\\@example.com", MALFORMED),
    ("path", "https://example.com/", MALFORMED),
    ("deep-path", "https://example.com/chat", MALFORMED),
    ("query", "https://example.com?x=1", MALFORMED),
    ("fragment", "https://example.com#x", MALFORMED),
    ("space", "https://exam ple.com", MALFORMED),
    ("two-in-one", "https://example.com https://evil.test", MALFORMED),
    ("comma", "https://example.com,https://evil.test", MALFORMED),
):
    case(f"origin-{name}", 5, f"Origin: {value}", lambda w, value=value: Request(origin=value), verdict)  # type: ignore[misc]

for name, raw in (
    ("open-bracket", b"https://[::1"),
    ("port-too-big", b"https://example.com:99999"),
    ("port-word", b"https://example.com:abc"),
    ("port-empty", b"https://example.com:"),
    ("port-zero", b"https://example.com:0"),
    ("port-leading-zero", b"https://example.com:0443"),
    ("port-negative", b"https://example.com:-443"),
    ("no-host", b"https://"),
    ("only-scheme", b"https:"),
    ("scheme-relative", b"//example.com"),
    ("only-host", b"example.com"),
    ("empty", b""),
    ("10-kB", b"https://" + b"a" * 10_000 + b".example.com"),
    ("latin-1", b"https://ex\xe4mple.com"),
    ("utf-8", "https://exämple.com".encode()),
    ("kelvin-sign", "https://\u212aexample.com".encode()),
    ("tab", b"https://example\t.com"),
    ("ipv4-in-brackets", b"https://[127.0.0.1]"),
    ("zone", b"https://[fe80::1%25eth0]"),
    ("percent", b"https://example%2ecom"),
    ("empty-label", b"https://example..com"),
    ("javascript", b"javascript:alert(1)"),
    ("file", b"file://"),
    ("word", b"not a url"),
):
    case(f"origin-{name}", 6, f"Origin: {raw[:60]!r}", lambda w, raw=raw: Request(origin=raw), MALFORMED)  # type: ignore[misc]
for name, raw in (
    ("nul", b"https://example\0.com"),
    ("vertical-tab", b"https://example.com\x0b"),
    ("delete", b"https://example.com\x7f"),
):
    case(f"origin-{name}", 6, f"Origin: {raw!r}", lambda w, raw=raw: Request(origin=raw), MALFORMED)  # type: ignore[misc]
case(
    "origin-1-MB",
    6,
    "an Origin of 1 MB",
    lambda w: Request(origin=b"https://" + b"a" * 1_000_000),
    http(Reason.ORIGIN_MALFORMED),
    on=COMMUNICATOR,
)

for value in ("HTTPS://EXAMPLE.com", "https://example.com:443", "https://EXAMPLE.COM:443"):
    case(f"origin-same-{value}", 7, f"Origin: {value}", lambda w, value=value: Request(origin=value), LET_IN)  # type: ignore[misc]
for value in (
    "http://example.com", "http://example.com:443", "https://example.com:8443", "https://example.com:80", "https://example.com.",
    "chrome-extension://example.com", "wss://example.com", "ws://example.com",
):  # fmt: skip
    case(
        f"origin-other-{value}",
        8,
        f"Origin: {value}",
        lambda w, value=value: Request(origin=value),
        http(Reason.ORIGIN_NOT_ALLOWED, or_server=True),
    )  # type: ignore[misc]

case(
    "origin-subdomain-allowed", 7, "`https://*.example.com` is allowed, Origin: https://a.b.example.com",
    lambda w: Request(origin="https://a.b.example.com"), LET_IN, on=COMMUNICATOR, settings={"ALLOWED_ORIGINS": ["https://*.example.com"]},
)  # fmt: skip
for value in (
    "https://example.com",
    "https://evilexample.com",
    "http://a.example.com",
    "https://a.example.com:8443",
    "https://a.example.com.",
):
    case(
        f"origin-wildcard-{value}", 8, f"`https://*.example.com` is allowed, Origin: {value}",
        lambda w, value=value: Request(origin=value), NOT_ALLOWED, on=COMMUNICATOR, settings={"ALLOWED_ORIGINS": ["https://*.example.com"]},  # type: ignore[misc]
    )  # fmt: skip
case(
    "origin-wildcard-empty-label", 8, "`https://*.example.com` is allowed, Origin: https://.example.com",
    lambda w: Request(origin="https://.example.com"), http(Reason.ORIGIN_MALFORMED), on=COMMUNICATOR, settings={"ALLOWED_ORIGINS": ["https://*.example.com"]},
)  # fmt: skip
case(
    "origin-a-label",
    10,
    "`https://xn--exmple-cua.com` is allowed and sent",
    lambda w: Request(origin="https://xn--exmple-cua.com"),
    LET_IN,
    on=COMMUNICATOR,
    settings={"ALLOWED_ORIGINS": ["https://xn--exmple-cua.com"]},
)

for name, first, second in (
    ("good-first", ALLOWED_ORIGIN, "https://evil.test"),
    ("good-last", "https://evil.test", ALLOWED_ORIGIN),
    ("equal", ALLOWED_ORIGIN, ALLOWED_ORIGIN),
):
    case(
        f"origin-twice-{name}", 11, f"two Origin headers: {first} and {second}",
        lambda w, first=first, second=second: Request(origin=None, headers=header(b"origin", first.encode(), second.encode())), MALFORMED,  # type: ignore[misc]
    )  # fmt: skip
for name in (b"x_forwarded_for", b"x_forwarded_proto", b"x_real_ip", b"x_forwarded_host"):
    case(
        f"underscore-{name.decode()}", 13, f"a header spelt {name.decode()}, which nobody reads",
        lambda w, name=name: Request(headers=header(name, b"6.6.6.6")), LET_IN,  # type: ignore[misc]
    )  # fmt: skip

case(
    "route-missing",
    14,
    "a path without a route, from a browser",
    lambda w: Request(path="/nowhere/"),
    socket(Reason.NOT_FOUND),
)
case(
    "route-missing-session",
    14,
    "a path without a route, logged in",
    lambda w: Request(path="/nowhere/", cookies=w.session(w.alice)),
    socket(Reason.NOT_FOUND),
)
case(
    "route-missing-program",
    14,
    "a path without a route, from a program",
    lambda w: Request(path="/nowhere/", origin=None, headers=bearer(w.token())),
    http(Reason.NOT_FOUND),
)
case(
    "route-percent",
    14,
    "a path of percent-encoded control characters",
    lambda w: Request(path="/nowhere/%0d%0aSet-Cookie:x=y%00%1b[31m/"),
    Verdict(reason=Reason.NOT_FOUND, told="socket", or_server=True),
)
case("route-dots", 14, "a path that climbs", lambda w: Request(path="/open/../../etc/passwd"), socket(Reason.NOT_FOUND))
case(
    "route-long",
    14,
    "a path of 4 kB",
    lambda w: Request(path="/" + "a" * 4096 + "/"),
    Verdict(reason=Reason.NOT_FOUND, told="socket", or_server=True),
)

case(
    "subprotocol-token", 15, "a token as a subprotocol beside channels-secure.v1",
    lambda w: Request(path="/typed/", subprotocols=("channels-secure.v1", f"channels-secure.bearer.{w.token()}")),
    Verdict(subprotocol="channels-secure.v1"),
)  # fmt: skip
case(
    "subprotocol-token-first", 15, "a token as the first subprotocol",
    lambda w: Request(path="/typed/", subprotocols=(f"channels-secure.bearer.{w.token()}", "channels-secure.v1")),
    Verdict(subprotocol="channels-secure.v1"),
)  # fmt: skip
case(
    "subprotocol-token-alone",
    15,
    "a token as the only subprotocol",
    lambda w: Request(path="/typed/", subprotocols=(f"channels-secure.bearer.{w.token()}",)),
    LET_IN,
)
case(
    "subprotocol-token-bad", 15, "a wrong token as a subprotocol, from a browser",
    lambda w: Request(path="/typed/", subprotocols=("channels-secure.v1", f"channels-secure.bearer.{w.token(key='x' * 40)}")),
    Verdict(reason=Reason.INVALID_CREDENTIALS, told="socket", subprotocol="channels-secure.v1"),
)  # fmt: skip
case(
    "subprotocol-two-tokens", 15, "two tokens as subprotocols",
    lambda w: Request(path="/typed/", subprotocols=("channels-secure.v1", f"channels-secure.bearer.{w.token()}", f"channels-secure.bearer.{w.token(w.bob)}")),
    Verdict(reason=Reason.BAD_REQUEST, told="socket", subprotocol="channels-secure.v1"),
)  # fmt: skip
case(
    "subprotocol-empty-token",
    15,
    "a subprotocol with an empty token",
    lambda w: Request(path="/typed/", subprotocols=("channels-secure.v1", "channels-secure.bearer.")),
    Verdict(reason=Reason.INVALID_CREDENTIALS, told="socket", subprotocol="channels-secure.v1"),
)
case("subprotocol-unknown", 17, "a subprotocol nobody knows", lambda w: Request(subprotocols=("graphql-ws",)), LET_IN)
case(
    "subprotocol-1000",
    17,
    "1,000 subprotocols",
    lambda w: Request(subprotocols=tuple(f"p{i}" for i in range(1000))),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "subprotocol-33",
    17,
    "33 subprotocols",
    lambda w: Request(subprotocols=tuple(f"p{i}" for i in range(33))),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "subprotocol-duplicate",
    17,
    "the same subprotocol twice",
    lambda w: Request(subprotocols=("a", "a")),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "subprotocol-space",
    17,
    "a subprotocol with a space",
    lambda w: Request(subprotocols=("a b",)),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "subprotocol-non-ascii",
    17,
    "a subprotocol that is not ASCII",
    lambda w: Request(subprotocols=("pröt",)),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "subprotocol-empty",
    17,
    "an empty subprotocol",
    lambda w: Request(subprotocols=("a", "", "b")),
    http(Reason.BAD_REQUEST, or_server=True),
    on=("communicator", "daphne"),
)

# Families around 4.1: header floods, duplicates, transport ------------------------------------------------------------

case(
    "headers-130",
    17,
    "130 headers",
    lambda w: Request(headers=tuple((b"x-%d" % i, b"1") for i in range(130))),
    http(Reason.BAD_REQUEST, or_server=True),
    on=("communicator", "daphne"),
)
case(
    "headers-70-kB",
    17,
    "a header of 70 kB",
    lambda w: Request(headers=header(b"x-long", b"a" * 70_000)),
    http(Reason.BAD_REQUEST),
    on=COMMUNICATOR,
)
case(
    "cookies-300",
    17,
    "300 cookies",
    lambda w: Request(headers=header(b"cookie", b"; ".join(b"c%d=1" % i for i in range(300)))),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "cookie-control",
    17,
    "a cookie with a control character",
    lambda w: Request(headers=header(b"cookie", b"a=\x01b")),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "query-100",
    17,
    "100 query parameters",
    lambda w: Request(path="/open/?" + "&".join(f"a{i}=1" for i in range(100))),
    http(Reason.BAD_REQUEST, or_server=True),
)
case(
    "query-20-kB",
    17,
    "a query of 20 kB",
    lambda w: Request(path="/open/?a=" + "b" * 20_000),
    http(Reason.BAD_REQUEST),
    on=COMMUNICATOR,
)
case("query-odd", 17, "a query of broken percent signs", lambda w: Request(path="/open/?%=%zz&%ff%fe&&&=;"), LET_IN)
case(
    "host-twice",
    17,
    "two Host headers",
    lambda w: Request(headers=header(b"host", b"testserver")),
    http(Reason.BAD_REQUEST, or_server=True),
    on=COMMUNICATOR,
)
case(
    "authorization-twice",
    17,
    "two Authorization headers",
    lambda w: Request(path="/typed/", headers=(*bearer(w.token()), *bearer(w.token()))),
    http(Reason.BAD_REQUEST),
    on=("communicator", "uvicorn"),
)
case(
    "user-agent-long", 17, "a User-Agent of 6 kB", lambda w: Request(headers=header(b"user-agent", b"a" * 6000)), LET_IN
)
case(
    "wss-required",
    0,
    "an unencrypted connection, REQUIRE_WSS is on",
    lambda w: Request(),
    http(Reason.WSS_REQUIRED),
    on=("daphne", "uvicorn"),
    settings={"REQUIRE_WSS": True},
)

# 4.2 Credentials ------------------------------------------------------------------------------------------------------

INVALID = socket(Reason.INVALID_CREDENTIALS)

case("session-valid", 24, "a valid session", lambda w: Request(path="/typed/", cookies=w.session(w.alice)), LET_IN)
case("token-valid", 24, "a valid token", lambda w: Request(path="/typed/", headers=bearer(w.token())), LET_IN)
case(
    "two-users",
    22,
    "a session of Alice and a token of Bob",
    lambda w: Request(path="/typed/", cookies=w.session(w.alice), headers=bearer(w.token(w.bob))),
    socket(Reason.AMBIGUOUS_CREDENTIALS),
)
case(
    "two-users-program",
    22,
    "the same without Origin",
    lambda w: Request(path="/typed/", origin=None, cookies=w.session(w.alice), headers=bearer(w.token(w.bob))),
    http(Reason.AMBIGUOUS_CREDENTIALS),
)
case(
    "two-tokens-two-users",
    22,
    "a header token of Alice, a subprotocol token of Bob",
    lambda w: Request(
        path="/typed/",
        headers=bearer(w.token()),
        subprotocols=("channels-secure.v1", f"channels-secure.bearer.{w.token(w.bob)}"),
    ),
    Verdict(reason=Reason.AMBIGUOUS_CREDENTIALS, told="socket", subprotocol="channels-secure.v1"),
)
case(
    "two-that-agree",
    22,
    "a session and a token of Alice",
    lambda w: Request(path="/typed/", cookies=w.session(w.alice), headers=bearer(w.token())),
    LET_IN,
)
case(
    "explicit-wrong-session-right",
    23,
    "a valid session and a wrong token",
    lambda w: Request(path="/typed/", cookies=w.session(w.alice), headers=bearer(w.token(key="k" * 40))),
    INVALID,
)
case(
    "explicit-wrong-open",
    23,
    "a wrong token where everybody may enter",
    lambda w: Request(headers=bearer(w.token(key="k" * 40))),
    INVALID,
)
case(
    "session-wrong-open",
    23,
    "a stale session where everybody may enter",
    lambda w: Request(cookies={"sessionid": "abcdefgh12345678abcdefgh12345678"}),
    INVALID,
)
case(
    "session-wrong-token-right",
    23,
    "a stale session and a valid token",
    lambda w: Request(
        path="/typed/", cookies={"sessionid": "abcdefgh12345678abcdefgh12345678"}, headers=bearer(w.token())
    ),
    LET_IN,
)
case(
    "anonymous-browser",
    24,
    "no credential, from a browser",
    lambda w: Request(path="/typed/"),
    socket(Reason.UNAUTHENTICATED),
)
case(
    "anonymous-program",
    24,
    "no credential, from a program",
    lambda w: Request(path="/typed/", origin=None),
    http(Reason.UNAUTHENTICATED),
)
case(
    "anonymous-http-mode",
    24,
    "no credential, from a browser, REJECTION is `http`",
    lambda w: Request(path="/typed/"),
    http(Reason.UNAUTHENTICATED),
    on=COMMUNICATOR,
    settings={"REJECTION": "http"},
)
case(
    "anonymous-foreign",
    24,
    "no credential, to a consumer that is not ours",
    lambda w: Request(path="/foreign/"),
    socket(Reason.UNAUTHENTICATED),
)
case(
    "anonymous-plain",
    24,
    "no credential, to a plain ASGI application",
    lambda w: Request(path="/plain/"),
    socket(Reason.UNAUTHENTICATED),
)
case("anonymous-allowed", 24, "no credential where everybody may enter", lambda w: Request(path="/open/"), LET_IN)
case(
    "session-foreign",
    24,
    "a session, to a consumer that is not ours",
    lambda w: Request(path="/foreign/", cookies=w.session(w.alice)),
    LET_IN,
)
case(
    "session-plain",
    24,
    "a session, to a plain ASGI application",
    lambda w: Request(path="/plain/", cookies=w.session(w.alice)),
    LET_IN,
)
case(
    "scheme-other",
    24,
    "Authorization: Basic",
    lambda w: Request(path="/typed/", headers=header(b"authorization", b"Basic YTpi")),
    socket(Reason.UNAUTHENTICATED),
)


def deleted(world: World) -> str:
    token = world.token(world.dave)
    world.delete_dave()
    return token


def token_case(
    name: str, row: int, given: str, make: Callable[[World], str], required: Verdict = INVALID, **more: Any
) -> None:
    case(name, row, given, lambda w: Request(path="/typed/", headers=bearer(make(w))), required, **more)


RSA_PUBLIC = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf\n-----END PUBLIC KEY-----\n"

token_case("alg-none", 25, "alg none", lambda w: w.forge({"alg": "none", "typ": "JWT"}, w.claims(w.alice)))
token_case("alg-NonE", 25, "alg NonE", lambda w: w.forge({"alg": "NonE", "typ": "JWT"}, w.claims(w.alice)))
token_case(
    "alg-none-signed", 25, "alg none with a signature", lambda w: w.forge({"alg": "none"}, w.claims(w.alice), b"x" * 32)
)
token_case("alg-hs384", 25, "HS384 with the right key", lambda w: w.token(algorithm="HS384"))
token_case("alg-number", 25, "an alg that is a number", lambda w: w.forge({"alg": 5}, w.claims(w.alice), b"x" * 32))
token_case("alg-list", 25, "an alg that is a list", lambda w: w.forge({"alg": ["HS256"]}, w.claims(w.alice), b"x" * 32))
token_case(
    "alg-rs256", 25, "RS256 with a made-up signature", lambda w: w.forge({"alg": "RS256"}, w.claims(w.alice), b"x" * 64)
)
token_case("header-list", 25, "a header that is a list", lambda w: w.forge(["HS256"], w.claims(w.alice), b"x" * 32))
token_case(
    "key-wrong", 25, "signed with another key", lambda w: w.token(key="another-key-of-more-than-thirty-two-bytes")
)
token_case("key-empty", 25, "signed with an empty key", lambda w: w.forge({"alg": "HS256"}, w.claims(w.alice), b""))
token_case(
    "signature-changed",
    25,
    "the signature's last character changed",
    lambda w: w.keep((token := w.token())[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]),
)
token_case(
    "kid-path",
    25,
    "a kid that is a path",
    lambda w: w.forge({"alg": "HS256", "kid": "../../dev/null"}, w.claims(w.alice), b"x" * 32),
)
token_case("padding", 25, "a valid token with padding", lambda w: w.keep(w.token() + "="))
token_case("refresh-token", 26, "a refresh token", lambda w: w.token(token_type="refresh"))
token_case("sliding-token", 26, "a sliding token", lambda w: w.token(token_type="sliding"))
token_case("token-type-list", 26, "a token_type that is a list", lambda w: w.token(token_type=["access"]))
token_case("token-type-null", 26, "a token_type of null", lambda w: w.token(token_type=None))
token_case(
    "expired", 27, "an expired token", lambda w: w.token(exp=int(time.time()) - 10), socket(Reason.CREDENTIALS_EXPIRED)
)
token_case(
    "expired-long-ago", 27, "a token that expired in 1970", lambda w: w.token(exp=1), socket(Reason.CREDENTIALS_EXPIRED)
)
token_case(
    "expired-wrong-key",
    27,
    "expired and signed with another key",
    lambda w: w.token(exp=int(time.time()) - 10, key="another-key-of-more-than-thirty-two-bytes"),
)
token_case(
    "expired-refresh",
    27,
    "an expired refresh token",
    lambda w: w.token(exp=int(time.time()) - 10, token_type="refresh"),
)
token_case(
    "expired-inactive",
    27,
    "an expired token of an inactive user",
    lambda w: w.token(w.carol, exp=int(time.time()) - 10),
)
token_case("nbf-future", 27, "not yet valid (nbf)", lambda w: w.token(nbf=int(time.time()) + 3600))
token_case("iat-future", 27, "issued in the future (iat)", lambda w: w.token(iat=int(time.time()) + 3600))
for claim in ("exp", "jti", "token_type", "user_id"):
    token_case(f"without-{claim}", 28, f"no {claim}", lambda w, claim=claim: w.token(**{claim: ...}))  # type: ignore[misc]
token_case(
    "crit-unknown",
    28,
    "an unknown crit header",
    lambda w: w.forge({"alg": "HS256", "crit": ["x"], "x": 1}, w.claims(w.alice), b"x" * 32),
)
for claim, texts in {
    "exp": ("1e308", "1" + "0" * 30, "NaN", "Infinity", '"abc"', "true", "null", "[1]", "{}", "-1", "1" + "0" * 400),
    "user_id": (
        "true",
        "1.0",
        "[1]",
        "{}",
        '""',
        '"1\\u0000"',
        '"abc"',
        str(2**70),
        "-1",
        "null",
        '" 1"',
        '"+1"',
        '"0x1"',
        '"١"',
        '"1_0"',
        "NaN",
        '"\\ud800"',
    ),
    "jti": ("true", "5", "[]", "null", '""', '"a\\u0000b"', '"' + "a" * 300 + '"'),
}.items():
    for number, text in enumerate(texts):
        token_case(
            f"claim-{claim}-{number}", 29, f"validly signed, {claim} is `{text[:20]}`",
            lambda w, claim=claim, text=text: w.sign_text(signed_with(w, claim, text)), on=COMMUNICATOR,  # type: ignore[misc]
        )  # fmt: skip
token_case("payload-list", 29, "validly signed, the payload is a list", lambda w: w.sign_text("[]"))
token_case("payload-text", 29, "validly signed, the payload is no JSON", lambda w: w.sign_text("hello"))
token_case(
    "payload-duplicate",
    29,
    "validly signed, user_id twice",
    lambda w: w.sign_text(signed_with(w, "user_id", f'"{w.bob.pk}"')[:-1] + ',"token_type":"refresh"}'),
)


def signed_with(world: World, claim: str, text: str) -> str:
    """The claims of Alice's token as JSON, with one of them written as given."""
    import json

    claims = world.claims(world.alice, **{claim: ...})
    return json.dumps(claims)[:-1] + f',"{claim}":{text}}}'


token_case(
    "9-kB",
    30,
    "a token of 9 kB",
    lambda w: w.keep("a" * 3000 + "." + "b" * 3000 + "." + "c" * 3000),
    Verdict(reason=Reason.INVALID_CREDENTIALS, told="socket", or_server=True),
)
token_case("1-MB", 30, "a token of 1 MB", lambda w: "a" * 500_000 + "." + "b" * 500_000 + ".c", on=COMMUNICATOR)
token_case(
    "deep",
    30,
    "a payload of 1,000 nested arrays, validly signed",
    lambda w: w.sign_text('{"a":' + "[" * 1000 + "]" * 1000 + "}"),
    on=COMMUNICATOR,
)
token_case("empty", 30, "Authorization: Bearer, and nothing", lambda w: "")
token_case("word", 30, "a word instead of a token", lambda w: "token")
token_case("two-dots", 30, "two dots", lambda w: "..")
token_case("non-ascii", 30, "bytes that are no ASCII", lambda w: "a.b.\xff\xfe")
token_case("spaces", 30, "a token with a space inside", lambda w: w.keep(w.token().replace(".", ". ", 1)))
token_case(
    "tab",
    30,
    "a token with a TAB",
    lambda w: "a.b\t.c",
    Verdict(reason=Reason.BAD_REQUEST, told="http", or_server=True),
)
token_case("inactive-user", 32, "a token of an inactive user", lambda w: w.token(w.carol))
token_case("deleted-user", 32, "a token of a deleted user", deleted)


case(
    "session-inactive",
    32,
    "a session of an inactive user",
    lambda w: Request(path="/typed/", cookies=w.session(w.carol)),
    INVALID,
)
case(
    "session-deleted",
    32,
    "a session of a deleted user",
    lambda w: Request(path="/typed/", cookies=deleted_session(w)),
    INVALID,
)
case(
    "session-hash",
    32,
    "a session from before the password changed",
    lambda w: Request(path="/typed/", cookies=w.session(w.alice, _auth_user_hash="0" * 64)),
    INVALID,
)
case(
    "session-backend",
    32,
    "a session of an unknown authentication backend",
    lambda w: Request(path="/typed/", cookies=w.session(w.alice, _auth_user_backend="no.such.Backend")),
    INVALID,
)
case(
    "session-user-odd",
    32,
    "a session of a user id that is no number",
    lambda w: Request(path="/typed/", cookies=w.session(w.alice, _auth_user_id="abc")),
    INVALID,
)
case(
    "session-user-huge",
    32,
    "a session of a user id beyond 64 bits",
    lambda w: Request(path="/typed/", cookies=w.session(w.alice, _auth_user_id=str(2**70))),
    INVALID,
)
case(
    "session-key-path",
    32,
    "a session key that climbs",
    lambda w: Request(path="/typed/", cookies={"sessionid": "../../etc/passwd"}),
    INVALID,
)
case(
    "session-key-long",
    32,
    "a session key of 5,000 characters",
    lambda w: Request(path="/typed/", cookies={"sessionid": "a" * 5000}),
    INVALID,
)
case(
    "session-twice-good-last",
    32,
    "two session cookies, the good one last",
    lambda w: Request(
        path="/typed/",
        headers=header(b"cookie", b"sessionid=" + b"x" * 32, b"sessionid=" + w.session(w.alice)["sessionid"].encode()),
    ),
    LET_IN,
    on=("communicator", "uvicorn"),
)


def deleted_session(world: World) -> dict[str, str]:
    cookies = world.session(world.dave)
    world.delete_dave()
    return cookies


case(
    "query-token",
    33,
    "a token in the query",
    lambda w: Request(path=f"/typed/?token={w.token()}"),
    socket(Reason.BAD_REQUEST),
)
case(
    "query-token-session",
    33,
    "a token in the query, and a session",
    lambda w: Request(path=f"/typed/?token={w.token()}", cookies=w.session(w.alice)),
    socket(Reason.BAD_REQUEST),
)
case(
    "query-token-encoded",
    33,
    "a token in the query, percent-encoded",
    lambda w: Request(path=f"/typed/?%74oken={w.token().replace('e', '%65', 1)}"),
    socket(Reason.BAD_REQUEST),
)
case(
    "query-token-open",
    33,
    "a token in the query where everybody may enter",
    lambda w: Request(path=f"/open/?token={w.token()}"),
    socket(Reason.BAD_REQUEST),
)
case(
    "query-word",
    33,
    "something else called token in the query",
    lambda w: Request(path=f"/open/?token={CANARY}"),
    LET_IN,
)
case(
    "query-token-enabled",
    33,
    "a token in the query, which is enabled",
    lambda w: Request(path=f"/typed/?token={w.token()}"),
    LET_IN,
    on=COMMUNICATOR,
    settings={"TOKEN_SOURCES": ["query"]},
)
case(
    "cookie-token",
    33,
    "a token in a cookie, which is not enabled",
    lambda w: Request(path="/typed/", cookies={"access_token": w.token()}),
    socket(Reason.UNAUTHENTICATED),
)
case(
    "cookie-token-enabled",
    33,
    "a token in a cookie, which is enabled",
    lambda w: Request(path="/typed/", cookies={"access_token": w.token()}),
    LET_IN,
    on=COMMUNICATOR,
    settings={"TOKEN_SOURCES": ["cookie"]},
)
case(
    "cookie-token-no-origin",
    33,
    "a token in a cookie, enabled, and no Origin",
    lambda w: Request(path="/typed/", origin=None, cookies={"access_token": w.token()}),
    http(Reason.ORIGIN_MISSING),
    on=COMMUNICATOR,
    settings={"TOKEN_SOURCES": ["cookie"]},
)

# 4.3 Addresses --------------------------------------------------------------------------------------------------------

SPOOFED = (
    b"6.6.6.6", b"6.6.6.6, 7.7.7.7", b"<script>", b"", b"1" * 3000, b"[2001:db8::1]:99", b"1.2.3.4:55", b"::ffff:1.2.3.4", b"0x7f.1", b"127.1",
    b"fe80::1%eth0", b"unknown", b",,,", b"\xff",
)  # fmt: skip
for number, value in enumerate(SPOOFED):
    case(
        f"spoofed-{number}", 47, f"X-Forwarded-For: {value[:30]!r} from a peer that is no trusted proxy",
        lambda w, value=value: Request(headers=header(b"x-forwarded-for", value)), LET_IN, settings={"TRUSTED_PROXIES": []},  # type: ignore[misc]
    )  # fmt: skip
case(
    "spoofed-twice",
    47,
    "two X-Forwarded-For headers from a peer that is no trusted proxy",
    lambda w: Request(headers=header(b"x-forwarded-for", b"6.6.6.6", b"7.7.7.7")),
    LET_IN,
    settings={"TRUSTED_PROXIES": []},
)
BEHIND_PROXY = {"TRUSTED_PROXIES": ["192.0.2.0/24"]}
for number, value in enumerate(
    (
        b"",
        b"<script>",
        b"6.6.6.6, <script>",
        b"unknown",
        b"0x7f.1",
        b"127.1",
        b"01.2.3.4",
        b"1.2.3.4:99999999",
        b"x" * 9000,
        b"\xff",
        b"[::1",
        b"1.2.3.4;5.6.7.8",
    )
):
    case(
        f"forwarded-malformed-{number}",
        48,
        f"X-Forwarded-For: {value[:30]!r} from a trusted proxy",
        lambda w, value=value: Request(headers=header(b"x-forwarded-for", value)),
        http(Reason.BAD_REQUEST),
        on=COMMUNICATOR,
        settings=BEHIND_PROXY,
    )  # type: ignore[misc]
