"""Whether somebody may speak now: the word itself, slow mode, and what the room takes.

What is refused here for its rate is answered and is no violation: others may have filled the room, and whoever waits a
second too little must not be blocked for it. A flood runs into the user's own rates before.
"""

import time
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.translation import gettext as _

from channels_secure.exceptions import Denied
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.rates import Rate
from channels_secure.rooms.roles import RANK, Role
from channels_secure.stores import get_store
from channels_secure.stores.base import spend

if TYPE_CHECKING:
    from channels_secure.rooms.consumers import RoomConsumer


def check_word(consumer: "RoomConsumer") -> None:
    """Refuse whoever has no word here.

    Raises:
        Denied: they are not logged in, or muted.
    """
    if consumer.scope["user"].pk is None:
        raise Denied(Reason.PERMISSION_DENIED, _("Log in to speak."), detail="anonymous")
    left = seconds_muted(consumer)
    if left > 0:
        raise Denied(Reason.PERMISSION_DENIED, _("You are muted."), retry_after=left, detail="muted")


def seconds_muted(consumer: "RoomConsumer") -> float:
    """For how long somebody is muted; nobody mutes the owner."""
    membership = consumer.membership
    if membership is None or membership.muted_until is None or consumer.role is Role.OWNER:
        return 0.0
    return max(0.0, (membership.muted_until - timezone.now()).total_seconds())


async def too_early(consumer: "RoomConsumer") -> Denial | None:
    """Spend one message of slow mode and of the room's rate; the refusal where one of them is spent."""
    words, wait = _("Slow mode is on."), await _slow_mode(consumer)
    if not wait:
        words, wait = _("The room is busy."), await _room_rate(consumer)
        if wait:
            # What slow mode has let pass has used up its turn.
            wait = max(wait, _pause(consumer))
    if not wait:
        return None
    return consumer.connection.unless_reported(Denial(reason=Reason.RATE_LIMITED, message=words, retry_after=wait))


def _pause(consumer: "RoomConsumer") -> float:
    """Seconds between two messages of somebody's; moderators wait for nothing."""
    return 0.0 if RANK[consumer.role] >= RANK[Role.MODERATOR] else float(consumer.room.slow_mode)


async def _slow_mode(consumer: "RoomConsumer") -> float:
    seconds = _pause(consumer)
    if not seconds:
        return 0.0
    rate, now = Rate(1, seconds), time.monotonic()
    until, refused = consumer.slowed
    if refused == rate and now < until:
        # Nobody asks a shared store again for what it has said.
        return until - now
    wait = await get_store().take(f"room.slow:{consumer.room.pk}:{consumer.connection.user_key}", rate)
    consumer.slowed = (now + wait, rate)
    return wait


async def _room_rate(consumer: "RoomConsumer") -> float:
    rate = consumer.room.rate
    if rate is None:
        return 0.0
    limiter = consumer.connection.budgets.hold(f"room:{consumer.room.pk}", rate)
    return await spend(limiter, time.monotonic())
