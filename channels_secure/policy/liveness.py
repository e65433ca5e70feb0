"""When is something due on an open socket: decided from timestamps, so that no connection needs a timer of its own."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from channels_secure.policy.decisions import Reason


class Act(Enum):
    """What the supervisor does besides closing."""

    PING = auto()
    WARN = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds; None switches a deadline off."""

    idle: float | None
    heartbeat: float | None
    heartbeat_timeout: float
    handler: float | None
    send: float
    max_age: float | None
    expiry_warning: float


class Timestamps(Protocol):
    """Seconds of one monotonic clock; None where nothing of the kind is under way.

    `sending_since` is when a pending send was first seen, at most one look of the supervisor after it began.
    """

    opened_at: float
    heard_at: float
    pinged_at: float | None
    handler_since: float | None
    sending_since: float | None
    expires_at: float | None
    warned: bool


def next_act(times: Timestamps, deadlines: Deadlines, now: float, *, renewable: bool = False) -> Reason | Act | None:
    """What is due at `now`: a reason to close for, a frame to send, or nothing.

    What is `renewable` may have been prolonged by use: not its end closes a socket, but who has looked then.
    A running handler stops the clocks for idleness and heartbeat, because the next frame is read only after it:
    the caller moves `heard_at` and `pinged_at` along meanwhile.
    """
    if times.expires_at is not None and now >= times.expires_at and not renewable:
        return Reason.CREDENTIALS_EXPIRED
    if times.sending_since is not None and now - times.sending_since >= deadlines.send:
        return Reason.SLOW_CONSUMER
    if deadlines.max_age is not None and now - times.opened_at >= deadlines.max_age:
        return Reason.CREDENTIALS_EXPIRED
    if times.handler_since is not None:
        late = deadlines.handler is not None and now - times.handler_since >= deadlines.handler
        return Reason.HANDLER_TIMEOUT if late else None
    if deadlines.idle is not None and now - times.heard_at >= deadlines.idle:
        return Reason.IDLE_TIMEOUT
    if times.expires_at is not None and not times.warned and now >= times.expires_at - deadlines.expiry_warning:
        return Act.WARN
    return None if deadlines.heartbeat is None else _heartbeat(times, deadlines.heartbeat, deadlines, now)


def _heartbeat(times: Timestamps, interval: float, deadlines: Deadlines, now: float) -> Reason | Act | None:
    if times.pinged_at is not None and times.pinged_at >= times.heard_at:
        return Reason.HEARTBEAT_TIMEOUT if now - times.pinged_at >= deadlines.heartbeat_timeout else None
    return Act.PING if now - times.heard_at >= interval else None
