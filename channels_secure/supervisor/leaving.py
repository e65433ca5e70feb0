"""What is left to do when the process ends, where no event loop runs any more."""

import logging

from channels_secure import database
from channels_secure.connections import events
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.supervisor.supervisor import everybody

logger = logging.getLogger("channels_secure")

# Seconds.
EXIT_PATIENCE = 2.0


def record_ends() -> None:
    """Record the end of the connections still open when the process ends: nothing will run their clean-up any more."""
    for supervisor in everybody():
        for connection in supervisor.connections:
            supervisor.connections.discard(connection)
            if connection.denial is None:
                connection.denial = Denial(reason=Reason.SERVER_RESTART, detail="the process ended")
            events.throttled(connection)
            if connection.accepted:
                events.closed(connection)
            else:
                events.refused(connection, connection.denial)


def leave_at_exit() -> None:
    """Delete this process's live rows when it ends, after the ends of its sockets have been written."""
    for supervisor in everybody():
        if not supervisor.presence.pending():
            continue
        try:
            database.write_last(supervisor.presence.leave_now, EXIT_PATIENCE)
        except Exception as error:  # noqa: BLE001 - the lease runs out by itself
            logger.warning("presence.left_behind", extra={"error": type(error).__name__})
            return
