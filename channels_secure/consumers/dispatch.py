"""From a frame to the handler that may have it: rate, size, parse; then the handler's own rate and permission."""

import asyncio
from typing import TYPE_CHECKING, Any

from channels_secure import database
from channels_secure.connections import Connection, violations
from channels_secure.connections.connection import Event
from channels_secure.consumers import refreshing
from channels_secure.consumers.handlers import Handler, Plan
from channels_secure.frames import YIELD_MASK
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.messages import Parsed, Refused, is_too_big
from channels_secure.stores.base import spend

if TYPE_CHECKING:
    from channels_secure.consumers.consumer import SecureJsonConsumer


def read(connection: Connection, plan: Plan, event: Event, now: float) -> Parsed | Refused | None:
    """Rate before size before parsing; every frame is charged, malformed ones too.

    None for the one frame in many for which `read_slowly` waits: others have to be let run, or a store to be asked.
    """
    connection.heard_at = now
    connection.received += 1
    if not connection.received & YIELD_MASK:
        return None
    for limiter in connection.budgets.limiters:
        wait = limiter.take(now)
        if wait:
            if wait < 0:
                connection.budgets.asking = limiter
                return None
            denial = connection.unless_reported(Denial(reason=Reason.RATE_LIMITED, retry_after=wait))
            if denial is None:
                break
            return Refused(denial)
    return _parse(connection, plan, event)


async def read_slowly(connection: Connection, plan: Plan, event: Event, now: float) -> Parsed | Refused:
    """Go on where `read` gave up."""
    await asyncio.sleep(0)
    wait = await connection.budgets.charge_rest(now)
    denial = Denial(reason=Reason.RATE_LIMITED, retry_after=wait) if wait else None
    if denial is not None and connection.unless_reported(denial) is not None:
        return Refused(denial)
    return _parse(connection, plan, event)


def _parse(connection: Connection, plan: Plan, event: Event) -> Parsed | Refused:
    text = event.get("text")
    if text is None:
        return Refused(Denial(reason=Reason.UNSUPPORTED_DATA))
    limit = plan.limits.max_message_size
    if len(text) * 4 > limit and is_too_big(text, limit):
        denial = connection.unless_reported(Denial(reason=Reason.MESSAGE_TOO_BIG))
        if denial is not None:
            return Refused(denial)
    return plan.decode(text)


async def admit(consumer: "SecureJsonConsumer", handler: Handler | None, parsed: Parsed, now: float) -> Handler | None:
    """Ask what a handler wants asked first, or answer one of the package's own frames; None when that is all."""
    kind, ref, message = parsed
    connection = consumer.connection
    if handler is None:
        if kind == "ping":
            await connection.send_frame({"type": "pong"} if ref is None else {"type": "pong", "ref": ref})
        elif kind == "refresh_token":
            await refreshing.refresh(consumer, message.token, ref)
        return None
    denial = connection.unless_reported(await _over_rate(connection, handler, now))
    if denial is None:
        denial = None if await _permits(consumer, handler, message) else Denial(reason=Reason.PERMISSION_DENIED)
    if denial is None:
        return handler
    await violations.answer(connection, denial, ref)
    return None


async def _over_rate(connection: Connection, handler: Handler, now: float) -> Denial | None:
    wait = await connection.budgets.charge(now, handler.cost - 1) if handler.cost > 1 else 0.0
    if not wait and handler.rate is not None:
        subject = connection.subject_key or f"connection:{connection.id}"
        wait = await spend(connection.budgets.hold(f"{handler.key}:{subject}", handler.rate), now)
    return Denial(reason=Reason.RATE_LIMITED, retry_after=wait) if wait else None


async def _permits(consumer: "SecureJsonConsumer", handler: Handler, message: Any) -> bool:
    permission = handler.permission
    if permission is None:
        return True
    if isinstance(permission, str):
        return await database.ask_project(consumer.connection.user.has_perm, permission)
    return bool(await permission(consumer, message))
