"""Re-validation: whether those who were let in may stay, looked up in the store and not in what a socket remembers.

A change made by SQL or `QuerySet.update()` sends no signal, and Channels' own `get_user(scope)` reads a cached session.
Here users, sessions and tokens are looked up many at a time, and `authorize()` is asked again.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from channels_secure import database
from channels_secure.auth import standing
from channels_secure.auth.base import Identity, first_end, token_end
from channels_secure.auth.standing import Claim, Standing
from channels_secure.connections.connection import Connection
from channels_secure.policy.decisions import Denial

logger = logging.getLogger("channels_secure")

# Consumers that are asked to authorize at the same time, and the seconds that the next wait for the slow among them.
AT_ONCE = 50
# What has been found out is put into force for so many connections in a row; then others run.
STRETCH = 100
# What is looked up of an identity, besides its user.
CLAIMED = ("session_key", "jtis", "issued_at", "fingerprint", "auth_hash")
PATIENCE = 1.0
# Shares of REVALIDATE_INTERVAL. The first look is spread widely, because a server's restart brings all clients at once;
# the later ones come 20 % around their mean, and each before the interval is over.
FIRST, LATER = (0.05, 0.95), (0.63, 0.95)


async def revalidate(connections: Iterable[Connection], *, authorize: bool = True) -> None:
    """Look up the rights of some open sockets now; those that have none any more are severed, with their reason.

    What cannot be looked up because a database or a cache is away stays open and is tried again by the supervisor.

    Args:
        connections: of the running event loop.
        authorize: also ask the consumers' `authorize()` again.
    """
    looked_up = await look_at_all(connections)
    if authorize:
        await authorize_again(looked_up)


async def look_at_all(connections: Iterable[Connection]) -> list[Connection]:
    """The look-ups alone; returns those that could be made."""
    looked_up: list[Connection] = []
    for chunk in chunks(list(connections)):
        try:
            await look(chunk)
        except Exception as error:  # noqa: BLE001 - drivers and caches raise what they like
            logger.error("revalidation.failed", extra={"error": type(error).__name__})
            hurry(chunk)
        else:
            looked_up += chunk
    return looked_up


def chunks(connections: Sequence[Connection]) -> Iterator[Sequence[Connection]]:
    """Connections as many at a time as are looked up together."""
    size = standing.batch_size()
    for start in range(0, len(connections), size):
        yield connections[start : start + size]


async def look(chunk: Sequence[Connection]) -> bool:
    """Look up users, sessions and tokens of a chunk; whether every one of them could be judged.

    Raises:
        Exception: nothing could be looked up.
    """
    known = [
        (connection, Claim(user_key=connection.user_key, identity=connection.identity))
        for connection in chunk
        if connection.user_key is not None and connection.identity is not None and not connection.ended
    ]
    began = time.monotonic()
    answers = await database.review(standing.look_up, [claim for _, claim in known]) if known else []
    for connection in chunk:
        if connection.user_key is None:
            schedule(connection, began)
    for number, ((connection, claim), answer) in enumerate(zip(known, answers, strict=True), 1):
        _apply(connection, claim.identity, answer, began)
        if number % STRETCH == 0:
            await asyncio.sleep(0)
    return None not in answers


def _apply(connection: Connection, judged: Identity, answer: Standing | Denial | None, began: float) -> None:
    identity = connection.identity
    if began < connection.validity.read_at:
        # Looks are read in the order in which they begin; what a later one found is in force already.
        return
    if answer is None or identity is None or not _claims_the_same(identity, judged):
        # Refreshed meanwhile, perhaps: then what was judged is not what it now claims.
        hurry([connection])
    elif isinstance(answer, Denial):
        connection.sever(answer)
    else:
        connection.validity.read_at = began
        _renew(connection, identity, answer)
        schedule(connection, time.monotonic())


def _claims_the_same(one: Identity, other: Identity) -> bool:
    return one is other or all(getattr(one, name) == getattr(other, name) for name in CLAIMED)


def _renew(connection: Connection, judged: Identity, found: Standing) -> None:
    """Replace what the socket remembers, caches of permissions among it, by what is stored."""
    user = _hand_over(connection, judged.user, found.user)
    if found.session_expires_at is None:
        connection.identity = replace(judged, user=user)
        return
    ends = first_end(found.session_expires_at, token_end(judged))
    connection.identity = replace(
        judged,
        user=user,
        expires_at=ends,
        session_expires_at=found.session_expires_at,
        token_expires_at=token_end(judged),
    )
    if ends is not None:
        connection.expires_at = time.monotonic() + ends - time.time()
        # Who was warned of an end that has moved on is warned of the next one as well.
        connection.warned = connection.warned and judged.expires_at is not None and ends <= judged.expires_at


def _hand_over(connection: Connection, old: Any, fresh: Any) -> Any:
    """Let the application see the fresh user; returns the object that the connection goes on with."""
    scope = connection.validity.scope
    if scope is not None:
        scope["user"] = fresh
        return fresh
    # A consumer that is not ours has a copy of the scope that nobody reaches, and one of ours that has yet to begin
    # compares its scope's user with the connection's. The user that they have becomes the fresh one in a single
    # assignment, so that no other thread sees half of it.
    if type(old) is type(fresh):
        old.__dict__ = fresh.__dict__
    return old


def schedule(connection: Connection, now: float) -> None:
    """Set the time of the next look."""
    validity = connection.validity
    low, high = FIRST if validity.due_at is None else LATER
    validity.was_due_at = now if validity.due_at is None else min(validity.due_at, now)
    share = random.uniform(low, high)  # noqa: S311 - spreads the load, is no secret
    validity.due_at, validity.urgent = now + share * connection.settings.revalidate_interval, False


def hurry(connections: Iterable[Connection]) -> None:
    """Have the supervisor look as soon as it can; since when that has been due decides when it is given up."""
    now = time.monotonic()
    for connection in connections:
        validity = connection.validity
        validity.due_at, validity.urgent = min(validity.due_at or now, now), True


async def authorize_again(connections: Iterable[Connection]) -> bool:
    """Ask the consumers that decide for themselves whether their users may stay, some at a time.

    Returns whether none of them said that its database is away. A consumer whose handler runs on answers later.
    """
    could_ask = True
    asked = [each for each in connections if each.validity.summon is not None and not each.ended]
    for start in range(0, len(asked), AT_ONCE):
        answers = {each: each.validity.ask() for each in asked[start : start + AT_ONCE] if not each.ended}
        waiting = [answer for answer in answers.values() if answer is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=PATIENCE)
        unanswered = [each for each, answer in answers.items() if answer and answer.done() and not answer.result()]
        for each in unanswered:
            each.validity.due_at, each.validity.urgent = each.validity.was_due_at, True
        could_ask = could_ask and not unanswered
    return could_ask
