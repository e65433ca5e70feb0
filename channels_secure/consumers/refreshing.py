"""A newer access token on an open socket: the same user goes on, until the newer token ends."""

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from django.db import Error as DatabaseTrouble

from channels_secure import blocklist
from channels_secure.admission import authenticators
from channels_secure.auth.base import Identity, combine
from channels_secure.connections import events, violations
from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.schemas import Ref
from channels_secure.revocation import is_revoked
from channels_secure.supervisor.sweeping import block_denial

if TYPE_CHECKING:
    from channels_secure.consumers.consumer import SecureJsonConsumer


async def refresh(consumer: "SecureJsonConsumer", token: str, ref: Ref) -> None:
    """Answer a client's `refresh_token`.

    The rate comes before any cryptography. A token that is wrong changes nothing and is a strike; another user's ends
    the socket, because a socket never changes hands.
    """
    connection = consumer.connection
    wait = connection.conduct.refresh(time.monotonic(), connection.settings.refresh_rate)
    limited = Denial(reason=Reason.RATE_LIMITED, retry_after=wait) if wait else None
    denial = connection.unless_reported(limited)
    if denial is not None:
        await violations.answer(connection, denial, ref)
        return
    try:
        # Like at a handshake: it may be read ahead of a handler, whose own deadline says nothing about it.
        async with asyncio.timeout(connection.settings.handshake_timeout):
            identity = await _verify(token)
    except (DatabaseTrouble, TimeoutError) as error:
        identity = Denial(reason=Reason.UNAVAILABLE, detail=type(error).__name__)
    if connection.ended:
        return
    if isinstance(identity, Identity):
        await _apply(consumer, identity, ref)
    elif identity.reason is Reason.UNAVAILABLE:
        # Ours to answer for, so it is no strike.
        await connection.send_frame(identity.frame(ref=ref, fatal=False))
    else:
        await violations.answer(connection, identity, ref)


async def _verify(token: str) -> Identity | Denial:
    """What the project's authenticator of tokens says, revocations included."""
    verify = next((one.verify_token for one in authenticators() if hasattr(one, "verify_token")), None)
    if verify is None:
        return Denial(reason=Reason.INVALID_CREDENTIALS, detail="tokens_not_accepted")
    answer: Identity | Denial = await verify(token)
    if isinstance(answer, Denial):
        return answer
    if await is_revoked(answer):
        return _revoked()
    return answer


async def _apply(consumer: "SecureJsonConsumer", identity: Identity, ref: Ref) -> None:
    """Go on with another token.

    The last look at the snapshot and the change come without a suspension in between: a revocation that lands before is
    seen here, and one that lands after finds the new identity.
    """
    connection = consumer.connection
    merged = combine([*_session_of(connection, identity), identity]) if _is_same_user(connection, identity) else None
    if not isinstance(merged, Identity):
        _end(connection, Denial(reason=Reason.INVALID_CREDENTIALS, detail="token_of_another_user"), ref)
        return
    snapshot = blocklist.current()
    denial = None if snapshot is None else block_denial(connection, snapshot)
    if denial is not None:
        connection.deny(denial, ref)
        return
    if snapshot is not None and snapshot.revoked.refuses(identity):
        await violations.answer(connection, _revoked(), ref)
        return
    connection.identify(merged)
    consumer.scope["user"] = merged.user
    end = merged.expires_at
    connection.expires_at = None if end is None else time.monotonic() + end - time.time()
    connection.warned = False
    events.refreshed(connection)
    left = None if end is None else max(0, round(end - time.time()))
    frame = {"type": "token_refreshed", "expires_in": left}
    await connection.send_frame(frame if ref is None else {**frame, "ref": ref})


def _is_same_user(connection: Connection, identity: Identity) -> bool:
    return connection.user_key is not None and connection.user_key == str(identity.user.pk)


def _session_of(connection: Connection, fresh: Identity) -> list[Identity]:
    """The session that speaks for the socket beside its token: it goes on doing so, and the first to end wins."""
    identity = connection.identity
    if identity is None or identity.session_key is None:
        return []
    session = replace(
        identity,
        user=fresh.user,
        kind="session",
        expires_at=identity.session_expires_at,
        token_expires_at=None,
        jti=None,
        other_jtis=(),
        issued_at=None,
        fingerprint=None,
    )
    return [session]


def _revoked() -> Denial:
    return Denial(reason=Reason.INVALID_CREDENTIALS, detail="token_revoked")


def _end(connection: Connection, denial: Denial, ref: Ref) -> None:
    events.message_refused(connection, denial)
    events.strike(connection)
    connection.deny(denial, ref)
