"""Rows 13 to 17 and the transport: routes, subprotocols and headers of one upgrade request."""
# ruff: noqa: E501 - a table is read line by line

from channels_secure.policy.decisions import Reason
from tests.conformance.handshakes import bearer, case, header
from tests.conformance.table import COMMUNICATOR, LET_IN, Request, Verdict, http, socket

for spelling in (b"x_forwarded_for", b"x_forwarded_proto", b"x_real_ip", b"x_forwarded_host"):
    case(
        f"underscore-{spelling.decode()}", 13, f"a header spelt {spelling.decode()}, which nobody reads",
        lambda w, spelling=spelling: Request(headers=header(spelling, b"6.6.6.6")), LET_IN,  # type: ignore[misc]
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
for name, given, settings, headers, verdict in (
    ("plain", "an unencrypted connection", {}, (), http(Reason.WSS_REQUIRED)),
    (
        "plain-foreign-proxy",
        "the same, X-Forwarded-Proto: https from a peer that is no trusted proxy",
        {"TRUSTED_PROXIES": []},
        header(b"x-forwarded-proto", b"https"),
        http(Reason.WSS_REQUIRED),
    ),
    (
        "plain-proxy-underscore",
        "the same, X_Forwarded_Proto: https from a trusted proxy",
        {"TRUSTED_PROXIES": ["192.0.2.0/24"]},
        header(b"x_forwarded_proto", b"https"),
        http(Reason.WSS_REQUIRED),
    ),
    (
        "plain-proxy-http",
        "X-Forwarded-Proto: http from a trusted proxy",
        {"TRUSTED_PROXIES": ["192.0.2.0/24"]},
        header(b"x-forwarded-proto", b"http"),
        http(Reason.WSS_REQUIRED),
    ),
    (
        "plain-proxy-client-https",
        "X-Forwarded-Proto: https, http from a trusted proxy, the client's word first",
        {"TRUSTED_PROXIES": ["192.0.2.0/24"]},
        header(b"x-forwarded-proto", b"https, http"),
        http(Reason.WSS_REQUIRED),
    ),
    (
        "proxy",
        "X-Forwarded-Proto: https from a trusted proxy",
        {"TRUSTED_PROXIES": ["192.0.2.0/24"]},
        header(b"x-forwarded-proto", b"https"),
        LET_IN,
    ),
    ("assumed", "an unencrypted connection, ASSUME_WSS is on", {"ASSUME_WSS": True}, (), LET_IN),
    ("not-required", "an unencrypted connection, REQUIRE_WSS is off", {"REQUIRE_WSS": False}, (), LET_IN),
):
    case(
        f"wss-{name}", 0, f"{given}, REQUIRE_WSS is on" if "REQUIRE_WSS" not in settings else given,
        lambda w, headers=headers: Request(scheme="ws", headers=headers), verdict,  # type: ignore[misc]
        on=COMMUNICATOR, settings={"REQUIRE_WSS": True, **settings},
    )  # fmt: skip
case(
    "wss-encrypted", 0, "an encrypted connection, REQUIRE_WSS is on",
    lambda w: Request(), LET_IN, on=COMMUNICATOR, settings={"REQUIRE_WSS": True},
)  # fmt: skip
