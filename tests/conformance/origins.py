"""Rows 1 to 11: the Origin of one upgrade request."""
# ruff: noqa: E501 - a table is read line by line

from channels_secure.policy.decisions import Reason
from tests.conformance.handshakes import bearer, case, header
from tests.conformance.table import ALLOWED_ORIGIN, COMMUNICATOR, LET_IN, Request, http

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
        lambda w, value=value: Request(origin=value),  # type: ignore[misc]
        http(Reason.ORIGIN_NOT_ALLOWED, or_server=True),
    )

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
A_LABEL = {"ALLOWED_ORIGINS": ["https://xn--exmple-cua.com"]}
case(
    "origin-a-label-capitals", 10, "`https://xn--exmple-cua.com` is allowed, Origin: https://XN--EXMPLE-CUA.com",
    lambda w: Request(origin="https://XN--EXMPLE-CUA.com"), LET_IN, on=COMMUNICATOR, settings=A_LABEL,
)  # fmt: skip
for name, sent, verdict in (
    ("u-label-utf-8", "https://exämple.com".encode(), MALFORMED),
    ("u-label-latin-1", b"https://ex\xe4mple.com", MALFORMED),
    ("u-label-percent", b"https://ex%C3%A4mple.com", MALFORMED),
    # Other spellings that an IDNA mapping would fold into the same name.
    ("u-label-decomposed", "https://exa\u0308mple.com".encode(), MALFORMED),
    ("u-label-full-width", "https://\uff58n--exmple-cua.com".encode(), MALFORMED),
    ("u-label-ideographic-dot", "https://xn--exmple-cua\u3002com".encode(), MALFORMED),
    ("ascii-twin", b"https://exmple.com", NOT_ALLOWED),
    ("ascii-look-alike", b"https://example.com", NOT_ALLOWED),
    ("other-a-label", b"https://xn--xample-9uf.com", NOT_ALLOWED),
    ("a-label-without-xn", b"https://exmple-cua.com", NOT_ALLOWED),
):
    case(
        f"origin-{name}-sent", 10, f"`https://xn--exmple-cua.com` is allowed, Origin: {sent!r}",
        lambda w, sent=sent: Request(origin=sent), verdict, on=COMMUNICATOR, settings=A_LABEL,  # type: ignore[misc]
    )  # fmt: skip

for name, first, second in (
    ("good-first", ALLOWED_ORIGIN, "https://evil.test"),
    ("good-last", "https://evil.test", ALLOWED_ORIGIN),
    ("equal", ALLOWED_ORIGIN, ALLOWED_ORIGIN),
):
    case(
        f"origin-twice-{name}", 11, f"two Origin headers: {first} and {second}",
        lambda w, first=first, second=second: Request(origin=None, headers=header(b"origin", first.encode(), second.encode())), MALFORMED,  # type: ignore[misc]
    )  # fmt: skip
