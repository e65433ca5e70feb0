"""Attacks that last: a socket that stays open after the right to have it has ended, or that prolongs it."""

import json
import secrets
from importlib import import_module
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import logout
from django.core.exceptions import FieldDoesNotExist
from django.http import HttpRequest

from channels_secure import database
from channels_secure.testing.hostile import forgeries
from channels_secure.testing.hostile.attack import Attack
from channels_secure.testing.hostile.frames import CRASHED, answers
from channels_secure.testing.hostile.target import Target
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable
from channels_secure.testing.hostile.visit import Visit

ENDED = "OWASP WebSocket Security Cheat Sheet, Session Management; CWE-613"
# Longer than silence after a frame: the change is committed, told and acted upon.
MORE_PATIENCE = 3


async def stays_after_deactivation(target: Target) -> str:
    honest = await target.honest()
    if target.user is None:
        raise NotApplicable("no user= was given")
    async with target.visit(**honest) as visit:
        await database.write(_set_active, target.user, False)
        try:
            return await _is_closed(visit, target, "the user was deactivated")
        finally:
            await database.write(_set_active, target.user, True)


async def stays_after_logout(target: Target) -> str:
    how = await target.with_session()
    async with target.visit(**how) as visit:
        await database.write(_log_out, how["session"], target.user)
        return await _is_closed(visit, target, "the session was logged out")


async def forged_refresh(target: Target) -> str:
    how = await target.with_token()
    genuine = await database.run(forgeries.access_token, target.user)
    forged = forgeries.signed_with(genuine, secrets.token_hex(32))
    async with target.visit(**how) as visit:
        if visit.plan is not None and not visit.plan.typed:
            raise NotApplicable("this consumer takes no refresh_token frame")
        await visit.send(json.dumps({"type": "refresh_token", "token": forged}))
        async for answer in answers(visit, target.patience):
            if answer.get("close") in CRASHED:
                break
            return f"a forged refresh token: {answer.get('code') or answer}"
    raise AttackSucceeded("a forged token to go on with was not refused")


async def _is_closed(visit: Visit, target: Target, why: str) -> str:
    patience = MORE_PATIENCE * target.patience
    async for answer in answers(visit, patience):
        if "close" in answer:
            return f"{why}: closed with {answer['close']}"
    raise AttackSucceeded(f"{why}, and {patience:g} s later the socket is still open")


def _set_active(user: Any, active: bool) -> None:
    """Save it as the admin would: signals are part of what is tested."""
    try:
        user._meta.get_field("is_active")
    except (FieldDoesNotExist, AttributeError):
        raise NotApplicable("the user model has no column is_active") from None
    row = type(user)._base_manager.get(pk=user.pk)
    row.is_active = active
    row.save(update_fields=["is_active"])


def _log_out(key: str, user: Any) -> None:
    """Log out as Django's view does."""
    request = HttpRequest()
    request.user = user
    request.session = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    logout(request)


ATTACKS = (
    Attack(
        id="open-socket-deactivated",
        tries="Somebody whose account is closed goes on using a socket that is open.",
        rule=f"{ENDED}; ASVS 5.0 V7.4.2",
        remedy="SecureMiddlewareStack",
        play=stays_after_deactivation,
    ),
    Attack(
        id="open-socket-logged-out",
        tries="Somebody at the same machine goes on using a socket after its user has logged out.",
        rule=f"{ENDED}; ASVS 5.0 V7.4.1",
        remedy="SecureMiddlewareStack, and Django's own logout()",
        play=stays_after_logout,
    ),
    Attack(
        id="open-socket-forged-refresh",
        tries="A forged token prolongs a socket whose own is about to end.",
        rule=f"{ENDED}, CWE-347; ASVS 5.0 V9.1.1",
        remedy="SecureJsonConsumer with @handles",
        play=forged_refresh,
    ),
)
