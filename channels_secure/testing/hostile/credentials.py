"""Attacks with a credential that must not count: forged, expired, of the wrong kind, used up, of a closed account."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from django.contrib.auth.hashers import make_password
from django.core.exceptions import FieldDoesNotExist

from channels_secure import database
from channels_secure.auth import simplejwt
from channels_secure.conf import get_settings
from channels_secure.testing.hostile import forgeries
from channels_secure.testing.hostile.attack import Attack
from channels_secure.testing.hostile.target import Target
from channels_secure.testing.hostile.verdicts import NotApplicable

FORGED = "ASVS 5.0 V9.1.1; RFC 8725 section 3; CWE-347"
AUTHENTICATION = "SecureMiddlewareStack, and no other authenticator in AUTHENTICATORS than you can vouch for"


async def made_up_session(target: Target) -> str:
    await target.with_session()
    return await target.repels("a session that was made up", session=secrets.token_hex(16))


async def session_of_the_deactivated(target: Target) -> str:
    how = await target.with_session()
    async with changed(target.user, is_active=False):
        return await target.repels("the session of a deactivated user", **how)


async def session_before_the_new_password(target: Target) -> str:
    how = await target.with_session()
    async with changed(target.user, password=await database.run(make_password, secrets.token_hex())):
        return await target.repels("a session from before the password changed", **how)


async def token_of_the_deactivated(target: Target) -> str:
    how = await target.with_token()
    async with changed(target.user, is_active=False):
        return await target.repels("an access token of a deactivated user", **how)


def with_forgery(*made: tuple[str, Callable[[str], str]]) -> Callable[[Target], Any]:
    """An attack that brings what each function makes of an access token of the user's."""

    async def play(target: Target) -> str:
        await target.with_token()
        how = ""
        for what, forge in made:
            genuine = await database.run(forgeries.access_token, target.user)
            how = await target.repels(what, **await target.with_token(forge(genuine)))
        return how

    return play


def with_claims(what: str, lifetime: timedelta | None = None, **claims: Any) -> Callable[[Target], Any]:
    """An attack that brings a token of the project's own making, with other claims."""

    async def play(target: Target) -> str:
        await target.with_token()
        token = await database.run(lambda: forgeries.access_token(target.user, lifetime, **claims))
        return await target.repels(what, **await target.with_token(token))

    return play


async def token_in_the_query(target: Target) -> str:
    await target.honest()
    settings = get_settings()
    if target.user is None or not simplejwt.is_installed():
        raise NotApplicable("no user= was given, or simplejwt is not installed")
    if "query" in settings.token_sources:
        raise NotApplicable("TOKEN_SOURCES has 'query'")
    token = await database.run(forgeries.access_token, target.user)
    how = target.asking(settings.token_query_name, token)
    return await target.repels("an access token in the URL", **{**await target.honest(), **how})


async def ticket_again(target: Target) -> str:
    how = await target.with_ticket()
    await target.knock(**how)
    return await target.repels("a ticket for the second time", **how)


async def made_up_ticket(target: Target) -> str:
    await target.with_ticket()
    return await target.repels("a ticket that was made up", ticket=secrets.token_urlsafe(32))


async def ticket_of_the_deactivated(target: Target) -> str:
    how = await target.with_ticket()
    async with changed(target.user, is_active=False):
        return await target.repels("a ticket of a user who was deactivated since", **how)


@asynccontextmanager
async def changed(user: Any, **fields: Any) -> AsyncIterator[None]:
    """Change columns of the user's row for the length of a block, by SQL, so that no signal tells of it.

    Raises:
        NotApplicable: the user model has no such column.
    """
    before = await database.write(_set, user, fields)
    try:
        yield
    finally:
        await database.write(_set, user, before)


def _set(user: Any, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        columns = [user._meta.get_field(name).attname for name in fields]
    except (FieldDoesNotExist, AttributeError):
        raise NotApplicable(f"the user model has no column {' or '.join(fields)}") from None
    rows = type(user)._base_manager.filter(pk=user.pk)
    before: dict[str, Any] = rows.values(*columns).get()
    rows.update(**fields)
    return before


ATTACKS = (
    Attack(
        id="session-made-up",
        tries="A session key that was guessed.",
        rule="OWASP WebSocket Security Cheat Sheet, Authentication; ASVS 5.0 V7.2.1; CWE-287",
        remedy=AUTHENTICATION,
        play=made_up_session,
    ),
    Attack(
        id="session-of-deactivated-user",
        tries="Somebody whose account was closed comes back with the old session.",
        rule="ASVS 5.0 V7.4.2; CWE-613",
        remedy=AUTHENTICATION,
        play=session_of_the_deactivated,
    ),
    Attack(
        id="session-of-old-password",
        tries="Somebody with a stolen session stays after its owner has changed the password.",
        rule="ASVS 5.0 V7.4.3; CWE-613",
        remedy=AUTHENTICATION,
        play=session_before_the_new_password,
    ),
    Attack(
        id="token-alg-none",
        tries="A token whose header says that it needs no signature.",
        rule="ASVS 5.0 V9.1.2; RFC 8725 section 2.1; CWE-347, CWE-327",
        remedy=AUTHENTICATION,
        play=with_forgery(
            ("a token with alg none, and no signature", lambda token: forgeries.unsigned(token, signature="")),
            ("a token with alg none, and a signature", forgeries.unsigned),
        ),
    ),
    Attack(
        id="token-foreign-key",
        tries="A token that somebody else has signed.",
        rule=FORGED,
        remedy=AUTHENTICATION,
        play=with_forgery(
            ("a token signed with a foreign key", lambda token: forgeries.signed_with(token, secrets.token_hex(32)))
        ),
    ),
    Attack(
        id="token-altered",
        tries="A longer life, or another name, written into a token under the old signature.",
        rule=FORGED,
        remedy=AUTHENTICATION,
        play=with_forgery(("a token with other claims", forgeries.prolonged)),
    ),
    Attack(
        id="token-expired",
        tries="A token that ended an hour ago.",
        rule="ASVS 5.0 V9.2.1; CWE-613",
        remedy=AUTHENTICATION,
        play=with_claims("an expired token", timedelta(hours=-1)),
    ),
    Attack(
        id="token-refresh-as-access",
        tries="A refresh token, which lives for days, in place of an access token.",
        rule="ASVS 5.0 V9.2.2; RFC 8725 section 3.12; CWE-287",
        remedy=AUTHENTICATION,
        play=with_claims("a refresh token", token_type="refresh"),  # noqa: S106 - a kind of token, and no password
    ),
    Attack(
        id="token-of-deactivated-user",
        tries="Somebody whose account was closed comes back with a token that has not expired.",
        rule="ASVS 5.0 V7.4.2; CWE-613",
        remedy=AUTHENTICATION,
        play=token_of_the_deactivated,
    ),
    Attack(
        id="token-in-query",
        tries="An access token in the URL works, so that clients put it there, and every log on the way keeps it.",
        rule="OWASP WebSocket Security Cheat Sheet, Session Management; ASVS 5.0 V14.2.1; CWE-598",
        remedy="SecureMiddlewareStack without 'query' in TOKEN_SOURCES; tickets are for URLs",
        play=token_in_the_query,
    ),
    Attack(
        id="ticket-replay",
        tries="A ticket from a log or a browser's history, after its owner has used it.",
        rule="ASVS 5.0 V4.4.4; CWE-294",
        remedy=AUTHENTICATION,
        play=ticket_again,
    ),
    Attack(
        id="ticket-made-up",
        tries="A ticket that was guessed.",
        rule="ASVS 5.0 V4.4.4; CWE-330",
        remedy=AUTHENTICATION,
        play=made_up_ticket,
    ),
    Attack(
        id="ticket-of-deactivated-user",
        tries="Somebody whose account was closed uses a ticket that was issued before.",
        rule="ASVS 5.0 V7.4.2; CWE-613",
        remedy=AUTHENTICATION,
        play=ticket_of_the_deactivated,
    ),
)
