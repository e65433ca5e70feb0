"""What happened, told to the audit trail and to the project's signal receivers."""

import logging
import time
from typing import Any

from django.dispatch import Signal

from channels_secure import audit, blocklist, signals
from channels_secure.background import spawn
from channels_secure.conf import get_settings
from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.rates import Rate
from channels_secure.stores import get_store

logger = logging.getLogger("channels_secure")

ONE_ATTEMPT = Rate(1, 60.0)
CREDENTIAL_REASONS = frozenset(
    {Reason.INVALID_CREDENTIALS, Reason.AMBIGUOUS_CREDENTIALS, Reason.CREDENTIALS_EXPIRED, Reason.CREDENTIALS_REVOKED}
)


def record_beginning(connection: Connection) -> None:
    """Record that a connection is let in, of which its peer has not been told yet."""
    connection.beginning_recorded = True
    kind = connection.identity.kind if connection.identity is not None else ""
    _record(connection, "connection.accepted", "", {"credentials": kind})


def record_end(connection: Connection) -> None:
    """Record how a connection or its handshake ends: once, by whoever is the first to say so."""
    if connection.end_recorded:
        return
    connection.end_recorded = True
    if connection.conduct.unrecorded:
        throttled(connection)
    denial = connection.denial
    detail = {} if denial is None else cause_of(denial)
    if connection.accepted or connection.beginning_recorded:
        _record(connection, "connection.closed", "" if denial is None else denial.reason, _course(connection) | detail)
    elif denial is not None:
        kind = "credentials.failed" if denial.reason in CREDENTIAL_REASONS else "handshake.denied"
        _record(connection, kind, denial.reason, detail)
    else:
        _record(connection, "handshake.denied", "", {"detail": "the peer left"})


def accepted(connection: Connection) -> None:
    """A peer was told that it was let in."""
    signals.handshake_counted.send_robust(Connection, connection=connection, result="accepted", denial=None)
    _tell(signals.connection_accepted, connection, "")


def closed(connection: Connection) -> None:
    """An accepted connection ended."""
    record_end(connection)
    signals.end_counted.send_robust(Connection, connection=connection, initiator=_initiator(connection))
    _tell(signals.connection_closed, connection, "" if connection.denial is None else connection.denial.reason)


def refused(connection: Connection, denial: Denial) -> None:
    """A handshake was refused."""
    record_end(connection)
    signals.handshake_counted.send_robust(Connection, connection=connection, result="refused", denial=denial)
    _tell(signals.handshake_denied, connection, denial.reason)
    if denial.reason in CREDENTIAL_REASONS and not denial.ambient:
        strike(connection)


def abandoned(connection: Connection) -> None:
    """The peer left before its handshake was decided; nobody refused it, and still the trail has its end."""
    record_end(connection)
    signals.handshake_counted.send_robust(Connection, connection=connection, result="abandoned", denial=None)


def would_refuse(connection: Connection, denial: Denial) -> None:
    """Report mode let something pass that will be refused once it is over."""
    _record(connection, "policy.would_deny", denial.reason, {"detail": denial.detail} if denial.detail else {})


def message_refused(connection: Connection, denial: Denial, count: int = 1) -> None:
    """`count` messages of an open socket were refused."""
    connection.conduct.violations += count
    detail = {"detail": denial.detail} if denial.detail else {}
    kind = "credentials.failed" if denial.reason in CREDENTIAL_REASONS else "message.denied"
    _record(connection, kind, denial.reason, detail, count)
    _tell(signals.message_denied, connection, denial.reason)


def refreshed(connection: Connection) -> None:
    """An open socket goes on with another token."""
    kind = connection.identity.kind if connection.identity is not None else ""
    _record(connection, "credentials.refreshed", "", {"credentials": kind})


def throttled(connection: Connection) -> None:
    """Record the frames over their rate since the last call, as one event with their number."""
    count = connection.conduct.take_unrecorded()
    if count:
        message_refused(connection, Denial(reason=Reason.RATE_LIMITED), count)


def strike(connection: Connection) -> None:
    """Count something done wrong against the user, or the address of somebody anonymous; too many block them."""
    settings = get_settings()
    rate = settings.auto_block_after
    key = connection.subject_key
    if rate is None or key is None:
        return
    spawn(_strike(connection, key, rate))


async def _strike(connection: Connection, key: str, rate: Rate) -> None:
    store = get_store()
    # The budget is one smaller than the setting, so that the strike which completes the number blocks.
    if rate.amount > 1 and not await store.take(f"strike:{key}", rate.less_one()):
        return
    # Those who are never blocked, staff among them, must not order a query with every strike.
    if await store.take(f"block:{key}", ONE_ATTEMPT):
        return
    user = connection.user if connection.user_key is not None else None
    address = None if user is not None else connection.handshake.address
    await blocklist.ablock_automatically(user=user, address=address, reason="too many violations")


def cause_of(denial: Denial) -> dict[str, Any]:
    """What the trail is told of a refusal beyond its reason."""
    detail: dict[str, Any] = {"detail": denial.detail} if denial.detail else {}
    return detail if denial.block is None else {**detail, "block": denial.block}


def _initiator(connection: Connection) -> str:
    """Who ended a connection, from our own state and not from what the server reports."""
    if connection.denial is not None:
        return "policy"
    if connection.close_code is not None:
        return "application"
    return "client" if connection.disconnect_code is not None else "transport"


def _course(connection: Connection) -> dict[str, Any]:
    """What a connection's end says of its life."""
    return {
        "by": _initiator(connection),
        "code": connection.close_code if connection.close_code is not None else connection.disconnect_code,
        "duration": round(time.monotonic() - connection.opened_at, 3),
        "received": connection.received,
        "sent": connection.sent,
    }


def _record(connection: Connection, kind: str, reason: str, detail: dict[str, Any], count: int = 1) -> None:
    audit.record(kind, reason, source=source_of(connection), detail=detail, count=count)


def source_of(connection: Connection) -> audit.Source:
    """Where a connection's events come from; read once, and again when its user is another.

    Compared by what is told of the user: a deleted one has lost the primary key, and re-validation may give the same
    object other fields.
    """
    identity = None if connection.user_key is None else connection.identity
    known = connection.source
    try:
        user = None if identity is None else identity.user
        key, name = (None, "") if user is None else (user.pk, user.get_username())
        if known is not None and known[0] == key and known[1] == name:
            return known[2]
        connection.source = known = (key, name, _read_source(connection, user))
    except Exception:
        # The project's user model: what happened is recorded all the same, and nothing is raised into a clean-up.
        logger.exception("audit.record_failed", extra={"connection_id": connection.id})
        return audit.Source(connection_id=connection.id)
    return known[2]


def _read_source(connection: Connection, user: Any) -> audit.Source:
    handshake = connection.handshake
    facts = {
        "user": user,
        "ip": address_of(connection),
        "path": handshake.safe_path,
        "origin": handshake.origin_text or "",
        "user_agent": handshake.user_agent,
        "connection_id": connection.id,
    }
    return audit.source_of(connection.settings.ipv6_prefix, facts)


def _tell(signal: Signal, connection: Connection, reason: str) -> None:
    if not signal.receivers:
        return
    handshake = connection.handshake
    spawn(
        signal.asend_robust(
            sender=Connection,
            connection_id=connection.id,
            user=connection.user,
            ip=address_of(connection),
            path=handshake.safe_path,
            reason=str(reason),
        )
    )


def address_of(connection: Connection) -> str | None:
    """The client's address, or the peer's where a proxy's header left it unknown."""
    address = connection.handshake.address or connection.handshake.peer
    return None if address is None else str(address)
