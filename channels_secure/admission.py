"""Who may connect, after the first guards: credentials, then registration, then what must be shared and current."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from django.contrib.auth.models import AnonymousUser
from django.core.signals import setting_changed
from django.db import Error as DatabaseTrouble
from django.utils.module_loading import import_string

from channels_secure import blocklist, revocation
from channels_secure.auth import simplejwt
from channels_secure.auth.base import Authenticator, Identity, combine
from channels_secure.conf import get_settings
from channels_secure.connections import claim_slot
from channels_secure.connections.connection import Connection
from channels_secure.connections.slots import claim_shared_slot
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.stores import get_store
from channels_secure.supervisor import enforcing
from channels_secure.supervisor.revalidation import revalidate
from channels_secure.supervisor.sweeping import block_denial

logger = logging.getLogger("channels_secure")

# Seconds that a handshake waits for blocks to be read; the last ones known are good for SNAPSHOT_MAX_STALE.
POLICY_PATIENCE = 1.0


def default_authenticators() -> list[str]:
    """Sessions, tickets, and JSON Web Tokens where simplejwt is installed."""
    paths = ["channels_secure.auth.session.SessionAuthenticator", "channels_secure.auth.tickets.TicketAuthenticator"]
    if simplejwt.is_installed():
        paths.append("channels_secure.auth.jwt.JWTAuthenticator")
    return paths


@cache
def authenticators() -> Sequence[Authenticator]:
    """The project's authenticators, in order."""
    paths = get_settings().authenticators
    return [import_string(path)() for path in (default_authenticators() if paths is None else paths)]


setting_changed.connect(lambda **_: authenticators.cache_clear(), weak=False, dispatch_uid="channels_secure.admission")


async def identify(connection: Connection) -> Denial | None:
    """Evaluate all credentials; without any it is nobody, until the consumer says whether it takes anonymous users."""
    handshake = connection.handshake
    try:
        answers = [await authenticator.authenticate(handshake) for authenticator in authenticators()]
    except DatabaseTrouble as error:
        return _unavailable(error)
    except Exception:
        logger.exception("authenticator.failed", extra={"connection_id": connection.id})
        return Denial(reason=Reason.INTERNAL_ERROR, detail="an authenticator failed")
    answer = combine(answers)
    if isinstance(answer, Denial):
        return answer
    identity = answer or Identity(user=AnonymousUser(), kind="anonymous")
    if handshake.origin_missing and identity.ambient and connection.settings.allow_missing_origin != "always":
        denial = connection.unless_reported(Denial(reason=Reason.ORIGIN_MISSING, visible=False))
        if denial is not None:
            return denial
    connection.identify(identity)
    if identity.expires_at is not None:
        connection.expires_at = time.monotonic() + identity.expires_at - time.time()
    return None


async def confirm(connection: Connection) -> Denial | None:
    """The checks of a registered connection: a change that lands meanwhile finds it in the registry."""
    return (
        await _current_policy(connection)
        or connection.unless_reported(await _user_attempts(connection))
        or connection.unless_reported(await _slot(connection))
    )


async def _current_policy(connection: Connection) -> Denial | None:
    settings = connection.settings
    if blocklist.age(time.monotonic()) > 2 * settings.policy_refresh_interval:
        try:
            async with asyncio.timeout(POLICY_PATIENCE):
                await blocklist.refresh()
        except (DatabaseTrouble, TimeoutError) as error:
            if blocklist.age(time.monotonic()) > settings.snapshot_max_stale:
                return _unavailable(error)
    snapshot = blocklist.current()
    if snapshot is None:
        return Denial(reason=Reason.UNAVAILABLE, detail="no blocklist")
    denial = block_denial(connection, snapshot)
    if denial is None:
        return await _revocation(connection, snapshot)
    return denial if connection.user_key is not None else replace(denial, visible=False)


async def _revocation(connection: Connection, snapshot: blocklist.Snapshot) -> Denial | None:
    """What was taken back before the handshake, or while it was under way."""
    identity = connection.identity
    try:
        if identity is not None and await revocation.is_revoked(identity):
            return Denial(reason=Reason.INVALID_CREDENTIALS, detail="revoked")
    except DatabaseTrouble as error:
        return _unavailable(error)
    met = enforcing.met_by(connection, snapshot.revoked)
    if met and all(change.is_recheck for change in met):
        # What was read for this handshake may be older than the change; `authorize()` has yet to be asked anyway.
        await revalidate([connection], authorize=False)
        return None
    return next((enforcing.refusal_for(change) for change in met if not change.is_recheck), None)


async def _user_attempts(connection: Connection) -> Denial | None:
    rate = connection.settings.handshake_rates.get("user")
    if rate is None or connection.user_key is None:
        return None
    wait = await get_store().take(f"handshake:user:{connection.user_key}", rate)
    return Denial(reason=Reason.RATE_LIMITED, retry_after=wait, detail="user") if wait else None


async def _slot(connection: Connection) -> Denial | None:
    """This process is asked first, which costs nothing."""
    limits, replaces = connection.settings.max_connections, replaces_oldest(connection)
    denial = claim_slot(connection, limits, replaces=replaces)
    return denial if denial is not None else await claim_shared_slot(connection, limits, replaces=replaces)


def replaces_oldest(connection: Connection) -> bool:
    """Whether older connections of the same user make room for this one, once it has been accepted.

    Nobody's make room for somebody anonymous, who may be anybody.
    """
    settings = connection.settings
    return (
        settings.connection_overflow == "close_oldest" and not settings.reports_only and connection.user_key is not None
    )


def _unavailable(error: Exception) -> Denial:
    logger.error("database.unavailable", extra={"error": type(error).__name__})
    return Denial(reason=Reason.UNAVAILABLE, detail=type(error).__name__)
