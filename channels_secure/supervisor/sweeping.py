"""One pass over the live connections: close what is due, ping what is silent; and how those who are blocked are cut."""

import asyncio
import logging
import math
import time
from collections.abc import Iterable

from channels_secure import blocklist
from channels_secure.connections import Registry, events
from channels_secure.connections.connection import Connection, encode
from channels_secure.connections.validity import has_expired
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.liveness import Act, next_act

logger = logging.getLogger("channels_secure")

# A pass lets others run after so many connections, some milliseconds of work.
STRETCH = 500
STUBBORN = 1.0
# Seconds that a handler may run before its frames are read ahead of it.
PATIENCE = 1.0


async def sweep(connections: Registry, now: float) -> None:
    """Do what is due at `now` on every connection."""
    for number, connection in enumerate(connections, 1):
        try:
            if connection.conduct.unrecorded:
                events.throttled(connection)
            if connection.ended:
                _watch_ending(connection, now)
            else:
                _look(connection, now)
        except Exception:
            # One connection's trouble must not keep the deadlines of all the others from being enforced.
            logger.exception("sweep.failed", extra={"connection_id": connection.id})
        if number % STRETCH == 0:
            await asyncio.sleep(0)


def _look(connection: Connection, now: float) -> None:
    if connection.handler_since is not None:
        # Frames wait while a handler runs: silence is ours, not the peer's.
        connection.heard_at, connection.pinged_at = now, None
        if connection.read_ahead is not None and connection.accepted and now - connection.handler_since > PATIENCE:
            connection.read_ahead()
    if connection.sending and connection.sending_since is None:
        # Stamped here rather than at every send; a send that ends takes the stamp away.
        connection.sending_since = now
    if not connection.accepted:
        return
    ends = connection.expires_at
    renewable = ends is not None and now >= ends and not has_expired(connection)
    act = next_act(connection, connection.limits.deadlines, now, renewable=renewable)
    if act is None:
        return
    if isinstance(act, Reason):
        connection.sever(Denial(reason=act))
    elif act is Act.PING:
        connection.pinged_at = now
        connection.post('{"type":"ping"}')
    else:
        _warn(connection, now)


def _warn(connection: Connection, now: float) -> None:
    connection.warned = True
    if connection.speaks_frames and connection.expires_at is not None:
        left = max(0, round(connection.expires_at - now))
        connection.post(encode({"type": "token_expiring", "expires_in": left}).decode())


def _watch_ending(connection: Connection, now: float) -> None:
    """See to it that an application whose socket has ended returns."""
    if connection.leaving:
        return
    since = connection.severed_at
    if since is None:
        _hurry(connection, now)
    elif now - since > STUBBORN:
        # Named, because it also holds up a clean shutdown of the server.
        connection.severed_at = math.inf  # said once
        logger.warning("handler.ignores_cancellation", extra={"connection_id": connection.id})


def _hurry(connection: Connection, now: float) -> None:
    """Cancel what goes on after the end: clean-up has its deadline twice, once for `disconnect()`, once for groups."""
    if connection.handler_since is not None:
        # What it has begun may matter to others than its peer: it has the time it would have had.
        limit = connection.limits.deadlines.handler
        if limit is not None and now - connection.handler_since >= limit:
            logger.error("handler.timeout", extra={"connection_id": connection.id})
            connection.stop()
    elif connection.ending_since is None:
        connection.ending_since = now
    elif now - connection.ending_since > 2 * connection.settings.disconnect_timeout + STUBBORN:
        logger.error("disconnect.timeout", extra={"connection_id": connection.id})
        connection.stop()


def enforce_blocks(connections: Iterable[Connection], snapshot: blocklist.Snapshot) -> None:
    """Cut those of some connections whose user or address is blocked."""
    for connection in connections:
        if connection.ended:
            continue
        try:
            denial = block_denial(connection, snapshot)
        except Exception:
            logger.exception("policy.failed", extra={"connection_id": connection.id})
            denial = Denial(reason=Reason.UNAVAILABLE, detail="the blocklist could not be asked")
        if denial is not None:
            connection.sever(denial)


def block_denial(connection: Connection, snapshot: blocklist.Snapshot) -> Denial | None:
    """Why the blocklist refuses a connection, or None."""
    now = time.time()
    hit = None
    if connection.user_key is not None:
        hit = snapshot.for_user(connection.user_key, now)
    if hit is None and connection.handshake.address is not None and connection.address_key is not None:
        hit = snapshot.for_address(connection.handshake.address, now)
    return None if hit is None else blocklist.denial(hit, now)
