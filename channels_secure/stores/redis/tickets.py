"""Tickets: a key each, taken out by the one command that reads and deletes at once."""

from collections.abc import Awaitable, Callable
from typing import Any

from channels_secure.exceptions import Unavailable
from channels_secure.stores.redis.keys import key_of
from channels_secure.stores.redis.link import TROUBLE, Command


class RedisTickets:
    """Never falls back on anything: whoever cannot ask cannot know that a ticket has not been used.

    Args:
        ask: in the running event loop.
        client: for synchronous code, made at the first use; None while the store is known to be away.
        prefix: of the keys.
    """

    def __init__(self, ask: Callable[[Command], Awaitable[Any]], client: Callable[[], Any | None], prefix: str) -> None:
        self._ask = ask
        self._client = client
        self._prefix = prefix

    async def put(self, digest: str, content: str, lifetime: float) -> None:
        await self._ask(self._placing(digest, content, lifetime))

    def put_now(self, digest: str, content: str, lifetime: float) -> None:
        client = self._client()
        if client is None:
            raise Unavailable("away")
        try:
            self._placing(digest, content, lifetime)(client)
        except TROUBLE as error:
            raise Unavailable(type(error).__name__) from error

    def _placing(self, digest: str, content: str, lifetime: float) -> Command:
        key, milliseconds = self._key(digest), max(1, round(lifetime * 1000))
        return lambda client: client.set(key, content, px=milliseconds, nx=True)

    async def pop(self, digest: str) -> str | None:
        # GET and DEL one after the other let 32 of 60 races be won twice.
        key = self._key(digest)
        content = await self._ask(lambda client: client.getdel(key))
        return None if content is None else content.decode()

    def _key(self, digest: str) -> str:
        return key_of(self._prefix, "ticket", digest)
