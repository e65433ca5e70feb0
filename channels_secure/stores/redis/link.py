"""The connections of one event loop to the store, and the deadline of everything that is asked over them."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from channels_secure.background import start
from channels_secure.exceptions import Unavailable
from channels_secure.stores.redis.location import close, connect

# What is asked at the same time; more wait their turn, so that a storm of handshakes is no storm of connections, and so
# that what is on its way is answered in time though the loop is busy with all the others.
CONNECTIONS = 8
# How long one's turn is waited for, in times of the deadline of an answer. A queue is no sign of a store that is away;
# while that one is, the breaker sends away whoever waits.
TURNS = 8
# A reply that came in time may be waiting in a socket that a busy event loop has not read yet.
GRACE = 0.2
TROUBLE = (RedisError, RedisClusterException, OSError)

Command = Callable[[Any], Awaitable[Any]]


class Away(Unavailable):
    """The store gave no answer, or an error; `counts` tells whether that says something about the store."""

    def __init__(self, error: str, *, counts: bool = True) -> None:
        super().__init__(error)
        self.counts = counts


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua file of this package; the server knows it by its digest once it has run."""

    name: str
    text: str = field(init=False, repr=False)
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        text = files(__package__).joinpath(self.name).read_text("utf-8")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "digest", hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def __call__(self, *keys: str) -> Callable[..., Command]:
        """The script for these keys, as something that takes its arguments and is a command then."""

        def with_arguments(*arguments: Any) -> Command:
            async def run(client: Any) -> Any:
                try:
                    return await client.evalsha(self.digest, len(keys), *keys, *arguments)
                except NoScriptError:
                    # Not an error of anybody: SCRIPT FLUSH, a restart and a failover forget scripts.
                    return await client.eval(self.text, len(keys), *keys, *arguments)

            return run

        return with_arguments


class Link:
    """Asks, within `timeout` seconds.

    A command runs in a task of its own that nobody cancels: redis-py loses a connection, and may lose its place in the
    pool, when a command is cancelled half-way. Whoever waits may be cancelled or give up; the command then comes to its
    own end, which the client's timeouts bound, and its answer is dropped with it.
    """

    def __init__(self, location: str, timeout: float) -> None:
        self._location, self._timeout = location, timeout
        self._client = self._connect()
        self._running = 0
        self._turns = asyncio.Semaphore(CONNECTIONS)

    def _connect(self) -> Any:
        return connect(self._location, timeout=self._timeout, connections=CONNECTIONS)

    async def ask(self, command: Command, *, still: Callable[[], bool] = lambda: True) -> Any:
        """The answer.

        Args:
            command: what to do with the client.
            still: whether it is still worth asking, once it is one's turn.

        Raises:
            Away: there is none.
        """
        await self._turn()
        if not still():
            self._turns.release()
            raise Away("gave up", counts=False)
        task = start(self._run(command))
        done, _ = await asyncio.wait({task}, timeout=self._timeout)
        if not done:
            done, _ = await asyncio.wait({task}, timeout=self._timeout * GRACE)
        if not done:
            raise Away("TimeoutError")
        answer = task.result()
        if isinstance(answer, Exception):
            raise Away(type(answer).__name__) from answer
        return answer

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(TURNS * self._timeout):
                await self._turns.acquire()
        except TimeoutError:
            raise Away("busy", counts=False) from None

    async def _run(self, command: Command) -> Any:
        self._running += 1
        try:
            return await command(self._client)
        except Exception as error:  # noqa: BLE001 - besides its own errors the client lets slip what it stumbles over
            return error
        finally:
            self._running -= 1
            self._turns.release()

    async def rest(self) -> None:
        """Close the connections, unless one is in use; the next command opens new ones."""
        if self._running:
            return
        client, self._client = self._client, self._connect()
        with suppress(Exception):
            await close(client)
