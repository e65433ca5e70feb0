"""The end of a server process, for servers that speak ASGI's lifespan protocol (uvicorn, hypercorn; not Daphne).

application = ProtocolTypeRouter({"http": ..., "lifespan": lifespan, "websocket": ...})
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from channels_secure import audit, database
from channels_secure.connections import registry
from channels_secure.policy.decisions import Denial, Reason

Event = MutableMapping[str, Any]


async def lifespan(
    scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
) -> None:
    """An ASGI application: says goodbye to the sockets still open and writes what the audit trail still holds."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            for connection in registry():
                connection.sever(Denial(reason=Reason.SERVER_RESTART))
            await audit.flush()
            database.shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
