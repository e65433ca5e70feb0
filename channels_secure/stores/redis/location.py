"""From LOCATION to a client: one server, one that sentinels name, or a cluster."""

from types import ModuleType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.connection import parse_url

CLUSTER = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
SENTINEL = {"redis+sentinel": False, "rediss+sentinel": True}
SENTINEL_PORT = 26379


def check(location: Any) -> str:
    """The location itself.

    Raises:
        ValueError: it is none; the message does not repeat it, because it may hold a password.
    """
    if not isinstance(location, str):
        raise ValueError("LOCATION must be a URL such as 'redis://localhost:6379/0'")
    # Raised here, not where the parser failed: its own error, which may quote the password, would be the context.
    if not _is_readable(location):
        raise ValueError(
            "LOCATION must be a URL with the scheme redis, rediss, unix, redis+sentinel, rediss+sentinel,"
            " redis+cluster or rediss+cluster"
        )
    return location


def _is_readable(location: str) -> bool:
    try:
        parts = urlsplit(location)
        if parts.scheme in SENTINEL:
            _sentinels(parts)
        else:
            parse_url(_as_server(location, parts) if parts.scheme in CLUSTER else location)  # type: ignore[no-untyped-call]
    except ValueError:
        return False
    return True


def connect(location: str, *, timeout: float, connections: int) -> Any:
    """A client for the running event loop; it connects at its first command.

    The deadline is the caller's. What is given to the client is longer, so that its own only clears away what the
    caller has given up.
    """
    options = {"socket_timeout": 2 * timeout, "socket_connect_timeout": timeout, "max_connections": connections}
    return _client(redis.asyncio, location, options)


async def close(client: Any) -> None:
    """Close what `connect` made, with the clients of the sentinels, which redis-py forgets."""
    pool = getattr(client, "connection_pool", None)
    for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
        await sentinel.aclose()
    await client.aclose()


def connect_now(location: str, *, timeout: float, connections: int) -> Any:
    """A client for synchronous code, which waits no longer than `timeout` for any answer."""
    options = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "max_connections": connections}
    return _client(redis, location, options)


def _client(family: ModuleType, location: str, options: dict[str, Any]) -> Any:
    """A client of redis-py's synchronous or asynchronous family, which have the same names."""
    parts = urlsplit(location)
    if parts.scheme in CLUSTER:
        # One more try, because a key that has moved is found by the second.
        retry = family.retry.Retry(NoBackoff(), 1)
        return family.RedisCluster.from_url(_as_server(location, parts), retry=retry, **options)
    if parts.scheme in SENTINEL:
        return _master(family, parts, options)
    timeout = options["socket_connect_timeout"]
    return family.Redis.from_pool(family.BlockingConnectionPool.from_url(location, timeout=timeout, **options))


def _as_server(location: str, parts: SplitResult) -> str:
    return CLUSTER[parts.scheme] + location[len(parts.scheme) :]


def _master(family: ModuleType, parts: SplitResult, options: dict[str, Any]) -> Any:
    hosts, service, database = _sentinels(parts)
    query = dict(parse_qsl(parts.query))
    login = {"username": unquote(parts.username or "") or None, "password": unquote(parts.password or "") or None}
    tls = {"ssl": True} if SENTINEL[parts.scheme] else {}
    own = {"password": query["sentinel_password"]} if "sentinel_password" in query else {}
    timeouts = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout")}
    # A sentinel that is down is passed over, not waited for: by itself redis-py tries again for seconds.
    retry = family.retry.Retry(NoBackoff(), 0)
    sentinel = family.Sentinel(hosts, sentinel_kwargs={**timeouts, **tls, **own, "retry": retry})
    return sentinel.master_for(service, db=database, **login, **tls, **options)


def _sentinels(parts: SplitResult) -> tuple[list[tuple[str, int]], str, int]:
    """Hosts, service name and database of ``redis+sentinel://[user:password@]host[:port],…/service[/database]``."""
    service, _, database = parts.path.strip("/").partition("/")
    hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    pairs = [(host.hostname or "", host.port or SENTINEL_PORT) for host in hosts]
    if not service or not all(name for name, _ in pairs):
        raise ValueError
    return pairs, service, int(database or 0)
