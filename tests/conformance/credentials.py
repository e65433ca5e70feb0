"""Rows 22 to 33: the credentials of one upgrade request."""
# ruff: noqa: E501 - a table is read line by line

import json
import time
from collections.abc import Callable
from typing import Any

from channels_secure.policy.decisions import Reason
from tests.auth.tokens import private_pem, public_pem, sign_raw
from tests.conformance.handshakes import bearer, case, header
from tests.conformance.table import CANARY, COMMUNICATOR, LET_IN, Request, Verdict, http, socket
from tests.conformance.world import World

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


token_case("alg-none", 25, "alg none", lambda w: w.forge({"alg": "none", "typ": "JWT"}, w.claims(w.alice)))
token_case("alg-NonE", 25, "alg NonE", lambda w: w.forge({"alg": "NonE", "typ": "JWT"}, w.claims(w.alice)))
token_case(
    "alg-none-signed", 25, "alg none with a signature", lambda w: w.forge({"alg": "none"}, w.claims(w.alice), b"x" * 32)
)
token_case("alg-hs384", 25, "HS384 with the right key", lambda w: w.token(algorithm="HS384"))
token_case(
    "alg-hs512", 25, "HS512 with the right key", lambda w: w.token(key="k" * 64, algorithm="HS512"),
    on=COMMUNICATOR, django={"SIMPLE_JWT": {"SIGNING_KEY": "k" * 64}},
)  # fmt: skip
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
RS256 = {"SIMPLE_JWT": {"ALGORITHM": "RS256", "SIGNING_KEY": private_pem(), "VERIFYING_KEY": public_pem()}}
token_case(
    "rs256-valid", 25, "RS256 is configured, signed with the private key",
    lambda w: w.token(key=private_pem(), algorithm="RS256"), LET_IN, on=COMMUNICATOR, django=RS256,
)  # fmt: skip
for name, given, header_of in (
    ("hs256-public-key", "HS256 signed with the public key", {"alg": "HS256", "typ": "JWT"}),
    ("rs256-hmac", "an HMAC of the public key that says it is RS256", {"alg": "RS256", "typ": "JWT"}),
    ("none-public-key", "alg none and an HMAC of the public key", {"alg": "none", "typ": "JWT"}),
):
    token_case(
        f"alg-{name}", 25, f"RS256 is configured, {given}",
        lambda w, header_of=header_of: w.keep(sign_raw(json.dumps(w.claims(w.alice)).encode(), public_pem(), header_of)),  # type: ignore[misc]
        on=COMMUNICATOR, django=RS256,
    )  # fmt: skip
token_case("alg-hs256-where-rs256", 25, "RS256 is configured, HS256 signed with SECRET_KEY", lambda w: w.token(), on=COMMUNICATOR, django=RS256)  # fmt: skip

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
LEEWAY = {"SIMPLE_JWT": {"LEEWAY": 30}}
for name, given, ages, verdict in (
    ("exp-inside", "expired 10 s ago", {"exp": -10}, LET_IN),
    ("exp-outside", "expired 40 s ago", {"exp": -40}, socket(Reason.CREDENTIALS_EXPIRED)),
    ("nbf-inside", "valid in 10 s (nbf)", {"nbf": 10}, LET_IN),
    ("nbf-outside", "valid in 90 s (nbf)", {"nbf": 90}, INVALID),
    ("iat-inside", "issued in 10 s (iat)", {"iat": 10}, LET_IN),
    ("iat-outside", "issued in 90 s (iat)", {"iat": 90}, INVALID),
):
    token_case(
        f"leeway-{name}", 27, f"{given}, the leeway is 30 s",
        lambda w, ages=ages: w.token(**{claim: int(time.time()) + age for claim, age in ages.items()}),  # type: ignore[misc]
        verdict, on=COMMUNICATOR, django=LEEWAY,
    )  # fmt: skip
token_case("exp-just-over", 27, "expired a second ago, no leeway", lambda w: w.token(exp=int(time.time()) - 1), socket(Reason.CREDENTIALS_EXPIRED), on=COMMUNICATOR)  # fmt: skip
for claim in ("exp", "jti", "token_type", "user_id"):
    token_case(f"without-{claim}", 28, f"no {claim}", lambda w, claim=claim: w.token(**{claim: ...}))  # type: ignore[misc]
RIGHT = {"aud": "chat", "iss": "https://login.example.com"}
NAMED = {"SIMPLE_JWT": {"AUDIENCE": "chat", "ISSUER": "https://login.example.com"}}
for name, named, verdict in (
    ("right", {}, LET_IN),
    ("aud-wrong", {"aud": "mail"}, INVALID),
    ("aud-list", {"aud": ["mail", "calendar"]}, INVALID),
    ("aud-number", {"aud": 5}, INVALID),
    ("aud-missing", {"aud": ...}, INVALID),
    ("iss-wrong", {"iss": "https://login.example.com.evil.test"}, INVALID),
    ("iss-missing", {"iss": ...}, INVALID),
):
    token_case(
        f"named-{name}", 28, f"audience and issuer are configured: {name.replace('-', ' ')}",
        lambda w, named=named: w.token(**RIGHT | named), verdict, on=COMMUNICATOR, django=NAMED,  # type: ignore[misc]
    )  # fmt: skip
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
token_case("5-MB", 30, "a token of 5 MB", lambda w: "a" * 2_500_000 + "." + "b" * 2_500_000 + ".c", on=COMMUNICATOR)
token_case(
    "deep-200-000", 30, "a payload of 200,000 nested arrays, validly signed",
    lambda w: w.sign_text('{"a":' + "[" * 200_000 + "]" * 200_000 + "}"), on=COMMUNICATOR,
)  # fmt: skip
token_case("leading-space", 30, "a valid token after two spaces", lambda w: " " + w.token(), on=COMMUNICATOR)
token_case("inner-newline", 30, "a token with an escaped newline", lambda w: w.token() + "%0a")
token_case("bearer-twice", 30, "Bearer Bearer and a valid token", lambda w: "Bearer " + w.token())
token_case("quoted", 30, "a valid token in quotation marks", lambda w: f'"{w.token()}"')
token_case("comma", 30, "a valid token and another after a comma", lambda w: f"{w.token()},{w.token(w.bob)}")
token_case(
    "nul", 30, "a valid token and a NUL", lambda w: w.token() + "\0", http(Reason.BAD_REQUEST), on=COMMUNICATOR,
)  # fmt: skip
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
