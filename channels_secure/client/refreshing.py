"""A newer token on an open connection, before the old one ends."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from channels_secure.client.desk import Desk
from channels_secure.client.endings import Again
from channels_secure.client.errors import MessageDenied, Refused, SocketError

logger = logging.getLogger("channels_secure.client")

# The seconds that a try may take, and those before each: a server's default allows six in a minute, and where tokens
# are short it asks for a newer one as soon as it has one.
TIMEOUT, PAUSE = 10.0, 10.0

Hurry = Callable[[Mapping[str, Any]], None]


async def refresh(desk: Desk, hurry: Hurry, expires_in: float) -> None:
    """Try to bring a newer token until the old one ends; if that fails, the next connection brings one.

    Args:
        hurry: sends on this connection, ahead of what waits: a token never waits for another connection.
        expires_in: seconds until the old one ends.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + expires_in
    pause: float | None = min(expires_in / 2, PAUSE)
    while pause is not None and loop.time() + pause <= ends_at:
        await asyncio.sleep(pause)
        pause = await _try(desk, hurry)


async def _try(desk: Desk, hurry: Hurry) -> float | None:
    """Try once; returns the seconds until another try, None when there is to be none."""
    try:
        async with asyncio.timeout(TIMEOUT):
            token = await desk.credentials.newer_token()
            if token is not None:
                await _bring(desk, hurry, token)
        return None
    except MessageDenied as denied:
        logger.warning("client.refresh_denied", extra={"reason": denied.reason})
        # A wrong token is counted against us, and gets no better by being sent again.
        return denied.retry_after or PAUSE if denied.reason in ("rate_limited", "unavailable") else None
    except Refused as refused:
        # By the endpoint that was to give the token.
        return refused.ending.retry_after or PAUSE if refused.ending.again is Again.YES else None
    except SocketError:
        return None  # the connection has gone, or is used too much
    except Exception as error:  # noqa: BLE001 - whatever fetches a token raises what it likes
        logger.warning("client.refresh_failed", extra={"error": type(error).__name__})
        return PAUSE


async def _bring(desk: Desk, hurry: Hurry, token: str) -> None:
    ref, answer = desk.calls.begin()
    try:
        hurry({"type": "refresh_token", "token": token, "id": ref})
        desk.calls.sent(ref)
        await answer
    finally:
        desk.calls.end(ref)
