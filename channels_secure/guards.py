"""The checks before any credential is looked at; they cost neither a query nor a store, but for the last.

A guard is any ``async (handshake) -> Denial | None``. The first denial wins, and a guard that raises denies.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from django.conf import settings as django_settings

from channels_secure import blocklist
from channels_secure.auth.subprotocols import BEARER_PREFIX, TICKET_PREFIX, looks_like_jwt
from channels_secure.conf import Settings, get_settings
from channels_secure.policy.addresses import bucket
from channels_secure.policy.decisions import REPORTABLE, Denial, Reason
from channels_secure.policy.handshake import Handshake
from channels_secure.stores import get_store

logger = logging.getLogger("channels_secure")

Guard = Callable[[Handshake], Awaitable[Denial | None]]

# Seconds between two reminders of one process.
REMINDER_INTERVAL = 60.0
_reminded_at = -math.inf


async def proxy_declared(handshake: Handshake) -> Denial | None:
    """Refuses nobody: says in the log that a proxy stands in front of which the settings know nothing."""
    if handshake.client.undeclared_proxy:
        remind_of_proxy(handshake, time.monotonic())
    return None


def remind_of_proxy(handshake: Handshake, now: float) -> None:
    """Log the error, unless this process did so less than a minute before monotonic `now`."""
    global _reminded_at
    if now - _reminded_at < REMINDER_INTERVAL:
        return
    _reminded_at = now
    name = get_settings().proxies.header.decode("ascii", "replace")
    logger.error(
        "undeclared_proxy: rates and connection limits per address are off until TRUSTED_PROXIES names the proxy"
        " ([] if there is none)",
        extra={"peer": str(handshake.peer or "unix"), "header": name},
    )


async def transport(handshake: Handshake) -> Denial | None:
    """ASVS 4.4.1: WebSockets run over TLS."""
    if get_settings().require_wss and not handshake.secure:
        return Denial(reason=Reason.WSS_REQUIRED, visible=False)
    return None


async def well_formed(handshake: Handshake) -> Denial | None:
    """Headers that servers read differently are refused, not interpreted."""
    if handshake.malformed is not None:
        return Denial(reason=Reason.BAD_REQUEST, detail=handshake.malformed, visible=False)
    return None


async def address_blocked(handshake: Handshake) -> Denial | None:
    """What memory knows of blocked addresses; the shared check comes after registration."""
    snapshot = blocklist.current()
    if snapshot is None or handshake.address is None or handshake.client.undeclared_proxy:
        return None
    now = time.time()
    hit = snapshot.for_address(handshake.address, now)
    return None if hit is None else hidden(blocklist.denial(hit, now))


async def origin(handshake: Handshake) -> Denial | None:
    """ASVS 4.4.2 and the OWASP cheat sheet: a strict allow-list against cross-site WebSocket hijacking."""
    settings = get_settings()
    if handshake.origin_missing:
        return _missing_origin(handshake, settings)
    shown = f"origin {handshake.origin_text}"
    if handshake.origin is None:
        return Denial(reason=Reason.ORIGIN_MALFORMED, detail=shown, visible=False)
    if not settings.origins.allows(handshake.origin, host=handshake.host, secure=handshake.secure):
        return Denial(reason=Reason.ORIGIN_NOT_ALLOWED, detail=shown, visible=False)
    return None


def _missing_origin(handshake: Handshake, settings: Settings) -> Denial | None:
    """No Origin is no browser, unless something strips it: then a cookie must not count as consent."""
    if settings.allow_missing_origin == "always":
        return None
    refused = Denial(reason=Reason.ORIGIN_MISSING, visible=False)
    if settings.allow_missing_origin == "never":
        return refused
    ambient = {django_settings.SESSION_COOKIE_NAME}
    if "cookie" in settings.token_sources:
        ambient.add(settings.token_cookie_name)
    if ambient.isdisjoint(handshake.cookies) or offers_explicit_credential(handshake, settings):
        return None
    return refused


def offers_explicit_credential(handshake: Handshake, settings: Settings) -> bool:
    """Whether a script or a program put a credential into the handshake itself."""
    if handshake.authorization is not None or handshake.query_values("ticket"):
        return True
    if "query" in settings.token_sources and handshake.query_values(settings.token_query_name):
        return True
    return any(name.startswith((BEARER_PREFIX, TICKET_PREFIX)) for name in handshake.subprotocols)


async def address_attempts(handshake: Handshake) -> Denial | None:
    """How often one address may try. After the Origin: any web page can make a visitor's browser try."""
    settings = get_settings()
    rate = settings.handshake_rates.get("ip")
    if rate is None or handshake.address is None or handshake.client.undeclared_proxy:
        return None
    wait = await get_store().take(f"handshake:ip:{bucket(handshake.address, settings.ipv6_prefix)}", rate)
    return Denial(reason=Reason.RATE_LIMITED, retry_after=wait, detail="ip", visible=False) if wait else None


async def stray_token(handshake: Handshake) -> Denial | None:
    """A token in a query that is not read for tokens would be logged by every proxy, and work for nobody."""
    settings = get_settings()
    if "query" in settings.token_sources:
        return None
    if any(looks_like_jwt(value) for value in handshake.query_values(settings.token_query_name)):
        return Denial(reason=Reason.BAD_REQUEST, detail="token in the query string")
    return None


DEFAULT_GUARDS: tuple[Guard, ...] = (
    # Before `transport`, which refuses everybody where only the proxy that is not believed knows of the encryption.
    proxy_declared,
    # Before the others that refuse, because headers that cannot be read say nothing about encryption either.
    well_formed,
    transport,
    address_blocked,
    origin,
    address_attempts,
    stray_token,
)


def hidden(denial: Denial) -> Denial:
    """The same refusal, never told by an accepted socket."""
    return replace(denial, visible=False)


async def admit(
    handshake: Handshake, guards: Iterable[Guard], report: Callable[[Denial], None] | None = None
) -> Denial | None:
    """Ask every guard; the first denial wins. With `report`, reportable denials are passed to it and let through."""
    for guard in guards:
        try:
            denial = await guard(handshake)
        except Exception:
            logger.exception("guard.failed", extra={"guard": getattr(guard, "__name__", repr(guard))})
            return Denial(reason=Reason.INTERNAL_ERROR, detail="a guard failed", visible=False)
        if denial is None:
            continue
        if report is None or denial.reason not in REPORTABLE:
            return denial
        report(denial)
    return None
