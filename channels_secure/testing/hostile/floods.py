"""Attacks by number: too many messages, errors, handshakes and sockets, and lies about whose they are."""

import json
from contextlib import AsyncExitStack
from typing import Any

from django.conf import settings as django_settings

from channels_secure.conf import get_settings
from channels_secure.testing.hostile.attack import Attack
from channels_secure.testing.hostile.frames import CRASHED, answers, sample_of
from channels_secure.testing.hostile.messages import OVERLOAD
from channels_secure.testing.hostile.target import Target
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable
from channels_secure.testing.hostile.visit import Visit
from channels_secure.testing.limits import unlimited

# More than this is not tried: the limit would hardly be one.
MOST_SOCKETS, MOST_HANDSHAKES, MOST_MESSAGES = 300, 1000, 5000
LIMITS = f"{OVERLOAD}; ASVS 5.0 V2.4.1; CWE-770"
SPOOFING = "ASVS 5.0 V4.1.3; CWE-348"


async def many_messages(target: Target) -> str:
    async with target.visit(**await target.honest()) as visit:
        sample = sample_of(target, visit)
        amount = _least(sample.limits.rates.values(), MOST_MESSAGES, "MESSAGE_RATES")
        is_typed = sample.plan is not None and sample.plan.typed
        text = '{"type":"ping"}' if is_typed else json.dumps(sample.message)
        sent = 3 * amount + 10
        for _ in range(sent):
            await visit.send(text)
        async for answer in answers(visit, target.patience):
            if answer.get("code") == "rate_limited" or answer.get("close") is not None:
                return f"{sent} messages at once: {answer.get('code') or answer}"
    raise AttackSucceeded(f"{sent} messages at once were taken, {amount} are allowed")


async def many_errors(target: Target) -> str:
    async with target.visit(**await target.honest()) as visit:
        budget = sample_of(target, visit).limits.error_budget
        amount = _least([] if budget is None else [budget], MOST_MESSAGES, "ERROR_BUDGET")
        last: Any = None
        for _ in range(amount + 2):
            await visit.send("{")
        async for answer in answers(visit, target.patience):
            last = answer if "close" not in answer else last
            if answer.get("close") in CRASHED:
                raise AttackSucceeded("nonsense reached code that crashed over it; see the log")
            if "close" in answer:
                return f"{amount + 2} frames of nonsense: closed with {answer['close']}"
        if last is not None and last.get("code") == "rate_limited":
            return "the rate refuses nonsense before it is read"
    raise AttackSucceeded(f"after {amount + 2} frames of nonsense the socket is still open")


async def many_sockets(target: Target) -> str:
    honest, allowed = await target.honest(), get_settings().max_connections
    kinds = ("user", "ip") if honest else ("ip",)
    amount = _smallest([allowed[kind] for kind in kinds if kind in allowed], MOST_SOCKETS, "MAX_CONNECTIONS")
    async with AsyncExitStack() as stack:
        visits: list[Visit] = []
        for _ in range(amount + 1):
            how = await target.honest()
            visit = await stack.enter_async_context(target.visit(limited=True, **how))
            if not visit.outcome.accepted:
                return f"socket number {len(visits) + 1}: {visit.outcome}"
            visits.append(visit)
        async for answer in answers(visits[0], target.patience):
            if "close" in answer:
                return f"the oldest was closed with {answer['close']}"
    raise AttackSucceeded(f"{amount + 1} sockets are open at once, {amount} are allowed")


async def many_handshakes(target: Target) -> str:
    amount = _least(get_settings().handshake_rates.values(), MOST_HANDSHAKES, "HANDSHAKE_RATES")
    return await _until_refused(target, amount, [])


async def forged_addresses(target: Target) -> str:
    return await _pretending(target, [get_settings().proxies.header, b"x-real-ip", b"forwarded"])


async def header_twins(target: Target) -> str:
    if target.server == "daphne":
        raise NotApplicable("Daphne drops names with underscores before an application sees them")
    return await _pretending(target, [get_settings().proxies.header.replace(b"-", b"_"), b"x_real_ip"])


async def _pretending(target: Target, names: list[bytes]) -> str:
    """Another address in the headers at each attempt, against the rate of one address alone."""
    given = getattr(django_settings, "CHANNELS_SECURE", {}).get("HANDSHAKE_RATES", {})
    with unlimited("AUTO_BLOCK_AFTER", HANDSHAKE_RATES={**given, "user": None}):
        rates = get_settings().handshake_rates.values()
        return await _until_refused(target, _least(rates, MOST_HANDSHAKES, "HANDSHAKE_RATES['ip']"), names)


async def _until_refused(target: Target, amount: int, names: list[bytes]) -> str:
    """Connect again and again from one address, which pretends to be another each time."""
    attempts = 2 * amount + 10
    for number in range(attempts):
        pretended = f"198.51.{number >> 8}.{number & 255}".encode()
        headers = [(each, b"for=" + pretended if each == b"forwarded" else pretended) for each in names]
        how = {**await target.honest(), **({"headers": headers} if headers else {})}
        visit = await target.knock(limited=True, **how)
        if not visit.outcome.accepted:
            return f"attempt number {number + 1}: {visit.outcome}"
    raise AttackSucceeded(f"{attempts} attempts in a row from one address were all let in, {amount} are allowed")


def _least(rates: Any, most: int, setting: str) -> int:
    return _smallest([rate.amount for rate in rates], most, setting)


def _smallest(amounts: list[int], most: int, setting: str) -> int:
    """The smallest limit, if there is one that can be tried."""
    if not amounts:
        raise NotApplicable(f"{setting} sets no limit")
    if min(amounts) > most:
        raise NotApplicable(f"{setting} allows {min(amounts)}, more than is tried")
    return min(amounts)


ATTACKS = (
    Attack(
        id="message-flood",
        tries="More messages at once than anybody would type.",
        rule=LIMITS,
        remedy="SecureMiddlewareStack; MESSAGE_RATES",
        play=many_messages,
        limits=frozenset({"MESSAGE_RATES"}),
    ),
    Attack(
        id="nonsense-flood",
        tries="One wrong frame after the other, to find one that is not refused.",
        rule=f"{OVERLOAD}; CWE-799",
        remedy="SecureJsonConsumer; ERROR_BUDGET",
        play=many_errors,
        limits=frozenset({"ERROR_BUDGET"}),
    ),
    Attack(
        id="mass-connections",
        tries="So many open sockets that there are none left for others.",
        rule=LIMITS,
        remedy="SecureMiddlewareStack; MAX_CONNECTIONS",
        play=many_sockets,
        limits=frozenset({"MAX_CONNECTIONS"}),
    ),
    Attack(
        id="handshake-flood",
        tries="Handshake after handshake, each of which costs queries.",
        rule=LIMITS,
        remedy="SecureMiddlewareStack; HANDSHAKE_RATES",
        play=many_handshakes,
        limits=frozenset({"HANDSHAKE_RATES"}),
    ),
    Attack(
        id="forged-address",
        tries="Another X-Forwarded-For at each attempt, so that no limit per address is ever reached.",
        rule=SPOOFING,
        remedy="SecureMiddlewareStack; only your own proxies in TRUSTED_PROXIES",
        play=forged_addresses,
        limits=frozenset({"HANDSHAKE_RATES"}),
    ),
    Attack(
        id="header-twins",
        tries="X_Forwarded_For with underscores, which some readers take for the header of the proxy.",
        rule=f"{SPOOFING}, CWE-444; CVE-2026-3902",
        remedy="SecureMiddlewareStack, and nothing around it that folds underscores into hyphens",
        play=header_twins,
        limits=frozenset({"HANDSHAKE_RATES"}),
    ),
)
