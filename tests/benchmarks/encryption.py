"""What encryption costs the server, in process: Fernet frames beside plain ones, sealed rooms beside plain ones."""

import asyncio
import gc
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

import msgspec
from channels.routing import URLRouter
from cryptography.fernet import Fernet
from django.contrib.auth import get_user_model
from django.urls import path

from channels_secure.codecs import Codec, FernetCodec, JsonCodec
from channels_secure.groups import broadcast
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.models import Epoch, PublicKey, Room, WrappedKey
from tests.benchmarks.local import Peer, scope
from tests.benchmarks.project import USERNAME, log_in
from tests.benchmarks.report import Chart, Effort, Section, Table, show
from tests.benchmarks.subjects import SAY, TEXT, Typed

MESSAGES, WARM_UP, SETTLE = 1_000, 50, 0.05
MEMBERS = 200
KEYS = [Fernet.generate_key() for _ in range(3)]
PLAIN = JsonCodec()
ONE, THREE = FernetCodec(keys=KEYS[:1]), FernetCodec(keys=KEYS)
# As large as what a browser makes of the same text.
SEALED = {"epoch": 1, "stream": "A" * 22, "n": 1, "box": "A" * 119}


class Encrypted(Typed):
    codec = ONE


class Rotated(Typed):
    codec = THREE


class Listener(Typed):
    async def connect(self) -> None:
        await self.join(type(self).__name__)
        await self.accept()


class EncryptedListener(Listener):
    codec = ONE


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of socket, what its client says, and the codec that the client has."""

    label: str
    path: str
    message: dict[str, object]
    codec: Codec = PLAIN

    @property
    def frame(self) -> str:
        return self.codec.encode(msgspec.json.encode(self.message).decode())


ROWS = (
    Row("plain frames", "/plain/", SAY),
    Row("Fernet frames", "/fernet/", SAY, ONE),
    Row("Fernet frames, the third of three keys", "/rotated/", SAY, FernetCodec(keys=KEYS[2:])),
    Row("plain room", "/room/plain/", {"type": "room.say", "text": TEXT}),
    Row("sealed room", "/room/sealed/", {"type": "room.say", "sealed": SEALED}),
)

application = SecureMiddlewareStack(
    URLRouter(
        [
            path("plain/", Typed.as_asgi()),
            path("fernet/", Encrypted.as_asgi()),
            path("rotated/", Rotated.as_asgi()),
            path("room/<str:room>/", RoomConsumer.as_asgi()),
            path("listener/", Listener.as_asgi()),
            path("encrypted-listener/", EncryptedListener.as_asgi()),
        ]
    )
)


def run(effort: Effort) -> Section:
    """Measure every row in interleaved rounds, then broadcasts."""
    samples, told = asyncio.run(_measure(effort.repeat(30, 5)))
    wall = {label: median(found) for label, found in samples.items()}
    rows = [(label, show(wall[label]), show(min(found))) for label, found in samples.items()]
    broadcasts = [(label, show(median(found) / MEMBERS)) for label, found in told.items()]
    return Section(
        name="encryption",
        title="Encrypted and plain, side by side",
        tables=[
            Table(head=("µs per message", "median", "least"), rows=rows),
            Table(head=(f"µs per member of a broadcast to {MEMBERS}", "median"), rows=broadcasts),
        ],
        goals=[],
        notes=[
            "A Fernet frame is decrypted and its answer encrypted; the third of three keys is tried after two others.",
            "A room passes a message on to its one member. The server does no cryptography for a sealed one.",
        ],
        charts=[Chart(name="encryption", title="µs per message, encrypted and plain, median", bars=list(wall.items()))],
    )


async def _measure(rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    cookie = await asyncio.to_thread(_prepare)
    samples: dict[str, list[float]] = {row.label: [] for row in ROWS}
    async with AsyncExitStack() as stack:
        peers = {row.label: await stack.enter_async_context(_peer(row.path, cookie)) for row in ROWS}
        await asyncio.sleep(SETTLE)  # until the greeting of a room is over
        for row in ROWS:
            await peers[row.label].exchange(row.frame, WARM_UP)
        for _ in range(rounds):
            for row in ROWS:
                await asyncio.sleep(SETTLE)  # so that no round pays for the one before
                gc.collect()
                seconds = await peers[row.label].exchange(row.frame, MESSAGES)
                samples[row.label].append(seconds / MESSAGES * 1e6)
    return samples, await _broadcasts(rounds, cookie)


async def _broadcasts(rounds: int, cookie: str) -> dict[str, list[float]]:
    told: dict[str, list[float]] = {"plain frames": [], "Fernet frames": []}
    kinds = (("plain frames", "/listener/", "Listener"), ("Fernet frames", "/encrypted-listener/", "EncryptedListener"))
    for label, where, group in kinds:
        async with AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(_peer(where, cookie)) for _ in range(MEMBERS)]
            for _ in range(rounds + 1):
                told[label].append(await _tell(peers, group))
        del told[label][0]
    return told


async def _tell(peers: list[Peer], group: str) -> float:
    for peer in peers:
        peer.expect(1)
    started = time.perf_counter()
    await broadcast(group, {"type": "chat.said", "text": TEXT})
    return (max([await peer.arrived() for peer in peers]) - started) * 1e6


def _peer(where: str, cookie: str) -> Peer:
    return Peer(application, scope(where, cookie))


def _prepare() -> str:
    """A user who owns two rooms, one of which is sealed and has a room key."""
    cookie = log_in()
    owner = get_user_model().objects.get(username=USERNAME)
    for slug in ("plain", "sealed"):
        Room(slug=slug, title=slug, owner=owner, encrypted=slug == "sealed").save()
    PublicKey.objects.create(user=owner, key="B", fingerprint="0" * 64)
    epoch = Epoch.objects.create(room=Room.objects.get(slug="sealed"), number=1, maker_name="", maker_key="B")
    WrappedKey.objects.create(epoch=epoch, fingerprint="0" * 64, box="")
    return cookie
