"""The end of a server process: goodbyes to the sockets still open, and what the audit trail still holds.

Servers that speak ASGI's lifespan protocol (uvicorn, hypercorn) announce it:
``application = ProtocolTypeRouter({"http": ..., "lifespan": lifespan, "websocket": ...})``. Daphne does not, but its
reactor does.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from channels_secure import audit, database, supervisor
from channels_secure.background import spawn
from channels_secure.connections import Connection, backpressure, registry
from channels_secure.connections.slots import slots_are_back
from channels_secure.policy.decisions import Denial, Reason

Event = MutableMapping[str, Any]

# Seconds: an orchestrator gives a process ten to thirty, and the project's own shutdown wants some of them.
GOODBYES, WRITING, LEAVING, ENDING = 1.0, 4.0, 1.0, 1.0
# Within which seconds clients are asked to come back.
COME_BACK = (1.0, 10.0)


async def lifespan(
    scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
) -> None:
    """An ASGI application: says goodbye to the sockets still open and writes what the audit trail still holds."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            # What a process that was killed has left in its spool does not wait for the first connection.
            spawn(audit.flush())
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            left = await finish(sever_all())
            if left:
                # uvicorn ends by the signal that it was sent, and no exit hook will run.
                audit.log_rest(left)
            await send({"type": "lifespan.shutdown.complete"})
            return


def sever_all() -> list[Connection]:
    """Begin the end of every open socket of the running event loop; returns the connections."""
    connections = list(registry())
    for connection in connections:
        # Clients that all come back at one moment would be the next outage.
        wait = random.uniform(*COME_BACK)  # noqa: S311 - jitter, not a secret
        if connection.protocol is not None:
            # What does not answer ends with the process.
            backpressure.outlast_answers(connection.protocol)
        connection.sever(Denial(reason=Reason.SERVER_RESTART, retry_after=wait))
    return connections


async def finish(connections: Iterable[Connection]) -> int:
    """Wait for connections that are ending, and write their last rows; takes some seconds, whatever hangs.

    Returns how many rows could not be written.
    """
    tasks = {connection.task for connection in connections}
    if tasks:
        await asyncio.wait(tasks, timeout=GOODBYES)
    # Side by side: neither a store nor a database that hangs takes the other's time.
    left, _ = await asyncio.gather(audit.flush_all(WRITING), slots_are_back(LEAVING))
    if not left:
        await supervisor.current().presence.leave(LEAVING)
        # Not in the event loop, in which others end as well.
        await asyncio.to_thread(database.shutdown, ENDING)
    return left


def hook_into_reactor() -> None:
    """Do the same at the end of Daphne, which runs on Twisted's reactor; without one there is nothing to do."""
    # Never imported here: that would install a reactor. Daphne does so before it loads the project.
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is not None:
        reactor.addSystemEventTrigger("before", "shutdown", _before_reactor_stops)


def _before_reactor_stops() -> Any:
    """Called ahead of Daphne's own trigger, which cancels all applications; the reactor waits for the Deferred."""
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort

    reactor: Any = sys.modules["twisted.internet.reactor"]
    # Twisted would do so later: whoever comes meanwhile would be let in to be severed, and keep us from finishing.
    for port in filter(IListeningPort.providedBy, reactor.getReaders()):
        port.stopListening()
    loop = asyncio.get_running_loop()
    return Deferred.fromFuture(loop.create_task(finish(sever_all())))
