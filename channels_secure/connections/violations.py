"""What happens to a message that is refused: an answer, a strike, and in the end the close."""

import time

from channels_secure.connections import events
from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial, Reason


async def answer(connection: Connection, denial: Denial, ref: str | int | None = None) -> None:
    """Answer a refused message with an error frame; close the socket when its error budget is spent.

    The frames over their rate within one second are one episode: they are one strike, and only so many of them are
    answered.
    """
    if not denial.rule.answerable:
        close_at_once(connection, denial)
        return
    now = time.monotonic()
    conduct = connection.conduct
    if denial.reason is not Reason.RATE_LIMITED:
        events.message_refused(connection, denial)
    elif not _begins_episode(connection, now):
        if not conduct.answers_spent:
            await connection.send_frame(denial.frame(ref=ref, fatal=False))
        return
    events.strike(connection)
    if conduct.is_spent(now):
        reason = Reason.RATE_LIMITED if denial.reason is Reason.RATE_LIMITED else Reason.TOO_MANY_ERRORS
        connection.deny(Denial(reason=reason, retry_after=denial.retry_after, detail="error budget spent"))
        return
    await connection.send_frame(denial.frame(ref=ref, fatal=False))


def _begins_episode(connection: Connection, now: float) -> bool:
    """Count a frame over its rate; with a spool it is recorded before it is answered, and else with its like."""
    conduct = connection.conduct
    begins = conduct.throttle(now)
    if connection.settings.audit_spool_dir is not None and not conduct.answers_spent:
        events.throttled(connection)
    return begins


def close_at_once(connection: Connection, denial: Denial) -> None:
    """Close for a frame that no well-meaning client sends: binary data, or more bytes than were announced."""
    events.message_refused(connection, denial)
    events.strike(connection)
    connection.deny(denial)
