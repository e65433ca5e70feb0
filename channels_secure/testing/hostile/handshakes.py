"""Attacks that are one upgrade request: from the wrong page, in the clear, as nobody, or with headers that lie."""

from channels_secure.conf import get_settings
from channels_secure.testing.arrivals import allowed_origin
from channels_secure.testing.hostile.attack import Attack
from channels_secure.testing.hostile.target import Target
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable

EVIL = "https://evil.example"
HIJACKING = "OWASP WebSocket Security Cheat Sheet, Origin Header Validation; ASVS 5.0 V4.4.2; CWE-1385"
ORIGINS = "SecureMiddlewareStack around the routes, and only your own pages in ALLOWED_ORIGINS (MODE is not 'report')"


async def cross_site(target: Target) -> str:
    return await target.repels(f"a page of {EVIL}", **{**await target.honest(), "origin": EVIL})


async def null_origin(target: Target) -> str:
    return await target.repels("Origin: null", **{**await target.honest(), "origin": "null"})


async def look_alikes(target: Target) -> str:
    honest, own = await target.honest(), allowed_origin()
    host = own.partition("://")[2]
    how = ""
    after, before = f"https://{host}@evil.example", f"https://evil.example@{host}"
    for origin in (
        f"{own}.evil.example",
        after,
        before,
        f"chrome-extension://{host}",
        f"{EVIL}#{own}",
        f"{own}, {EVIL}",
    ):
        how = await target.repels(f"Origin: {origin}", **{**honest, "origin": origin})
    return how


async def two_origins(target: Target) -> str:
    honest = await target.honest()
    how = ""
    for first, second in ((EVIL, allowed_origin()), (allowed_origin(), EVIL)):
        twice = {**honest, "headers": [(b"origin", first.encode())], "origin": second}
        how = await target.repels(f"the Origins {first} and {second}", **twice)
    return how


async def missing_origin(target: Target) -> str:
    honest, rule = await target.honest(), get_settings().allow_missing_origin
    if rule == "always":
        raise NotApplicable("ALLOW_MISSING_ORIGIN is 'always'")
    if rule == "token" and honest and "session" not in honest and "cookies" not in honest:
        raise NotApplicable("the client comes with a credential that no browser adds by itself")
    return await target.repels("a client without an Origin", **{**honest, "origin": None})


async def in_the_clear(target: Target) -> str:
    settings, honest = get_settings(), await target.honest()
    if not settings.require_wss or settings.assume_wss:
        raise NotApplicable("REQUIRE_WSS is off, or ASSUME_WSS is on")
    if settings.proxies.count is not None or target.server == "daphne":
        raise NotApplicable("only the proxy in front knows whether TLS was spoken")
    how = await target.repels("an unencrypted connection", **{**honest, "scheme": "ws"})
    if settings.proxies.declared and target.server != "browser":
        forged = {**honest, "scheme": "ws", "headers": [(b"x-forwarded-proto", b"https")]}
        how = await target.repels("an unencrypted connection that says it is not", **forged)
    return how


async def as_nobody(target: Target) -> str:
    await target.honest()
    visit = await target.knock()
    if visit.connection is not None and visit.connection.limits.allow_anonymous:
        raise NotApplicable("anonymous users are let in here")
    if visit.outcome.accepted:
        raise AttackSucceeded("the socket opened for somebody who has not logged in")
    return f"nobody: {visit.outcome}"


async def overloaded_request(target: Target) -> str:
    honest = await target.honest()
    many = [(b"x-%d" % number, b"1") for number in range(300)]
    crumbs = "; ".join(f"c{number}=1" for number in range(400)).encode()
    query = "&".join(f"a{number}=1" for number in range(200))
    path = f"{target.path}{'&' if '?' in target.path else '?'}{query}"
    await target.repels("200 parameters in the query", **{**honest, "path": path})
    await target.repels("300 headers", **{**honest, "headers": many})
    return await target.repels("400 cookies", **{**honest, "headers": [(b"cookie", crumbs)]})


async def two_hosts(target: Target) -> str:
    honest = await target.honest()
    if target.server == "daphne":
        raise NotApplicable("Daphne joins equal headers before an application sees them")
    how = await target.repels("two Host headers", **{**honest, "headers": [(b"host", b"evil.example")]})
    return f"{how}; " + await target.repels(
        "a line break in a header", **{**honest, "headers": [(b"user-agent", b"a\r\nx-forwarded-for: 127.0.0.1")]}
    )


ATTACKS = (
    Attack(
        id="cross-site-hijack",
        tries="A page of another site opens the socket in a visitor's browser, which adds the visitor's cookies.",
        rule=HIJACKING,
        remedy=ORIGINS,
        play=cross_site,
    ),
    Attack(
        id="origin-null",
        tries="A sandboxed frame, or a page without an origin, opens the socket.",
        rule=HIJACKING,
        remedy=ORIGINS,
        play=null_origin,
    ),
    Attack(
        id="origin-look-alike",
        tries="The attacker's origin looks like yours to a comparison by prefix, suffix or parsed host.",
        rule=f"{HIJACKING}, CWE-346",
        remedy=ORIGINS,
        play=look_alikes,
    ),
    Attack(
        id="origin-twice",
        tries="Two Origin headers, one of them allowed, and the reader takes the better one.",
        rule=f"{HIJACKING}, CWE-444",
        remedy=ORIGINS,
        play=two_origins,
    ),
    Attack(
        id="origin-missing",
        tries="Something strips the Origin, and the cookie alone is taken for the user's will.",
        rule=HIJACKING,
        remedy="SecureMiddlewareStack; ALLOW_MISSING_ORIGIN is 'token' or 'never'",
        play=missing_origin,
    ),
    Attack(
        id="unencrypted",
        tries="The socket is opened by ws://, so that everybody on the way can read and change it.",
        rule="OWASP WebSocket Security Cheat Sheet, Transport Security; ASVS 5.0 V4.4.1; CWE-319",
        remedy="REQUIRE_WSS, and the proxies that may say otherwise in TRUSTED_PROXIES",
        play=in_the_clear,
    ),
    Attack(
        id="not-logged-in",
        tries="Somebody without any credential opens the socket.",
        rule="OWASP WebSocket Security Cheat Sheet, Authentication; ASVS 5.0 V4.4.3; CWE-306",
        remedy="SecureMiddlewareStack, and allow_anonymous only where everybody may read",
        play=as_nobody,
    ),
    Attack(
        id="overloaded-request",
        tries="Hundreds of headers, cookies or parameters, which cost time before anybody is known.",
        rule="OWASP WebSocket Security Cheat Sheet, Denial-of-Service Protection; CWE-770",
        remedy="SecureMiddlewareStack",
        play=overloaded_request,
    ),
    Attack(
        id="repeated-headers",
        tries="Headers that readers understand differently: two hosts, a line break inside a value.",
        rule="CWE-444, CWE-93",
        remedy="SecureMiddlewareStack",
        play=two_hosts,
    ),
)
