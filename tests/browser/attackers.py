"""Clients that flood a room and send nonsense, each in a thread and over a socket of its own."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from tests.browser.example import Example

# Far above what a connection may send, and three kinds of what the server refuses to read.
FLOOD = [json.dumps({"type": "chat.say", "text": f"BUY NOW {number}"}) for number in range(30)]
NONSENSE = ["hello?", '{"type": "chat.shout"}', '{"type": "chat.say", "text": 17}']
# Seconds between two floods: the connection's budget of errors lasts longer than a test.
PAUSE = 2.0


class Attacker(threading.Thread):
    """Floods until its socket is closed, and keeps what it was told; then it is put among those that are gone."""

    def __init__(self, example: Example, session: str, address: str, gone: "SimpleQueue[Attacker]") -> None:
        super().__init__(daemon=True)
        self._gone = gone
        self.told: list[dict[str, Any]] = []
        self.ended_with: int | None = None
        self.begun = threading.Event()
        self._leaving = threading.Event()
        self._url = f"{example.url.replace('http', 'ws', 1)}/ws/chat/lobby/"
        self._headers = {"Cookie": f"sessionid={session}", "X-Forwarded-For": address}
        self._origin = example.url

    def run(self) -> None:
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect
        from websockets.typing import Origin

        with connect(self._url, origin=Origin(self._origin), additional_headers=self._headers) as socket:
            with contextlib.suppress(ConnectionClosed):
                while not self._leaving.is_set():
                    for text in (*FLOOD, *NONSENSE):
                        socket.send(text)
                    self._hear(socket)
                    self.begun.set()
            if socket.close_code is not None:
                self.ended_with = socket.close_code
        self._gone.put(self)

    def _hear(self, socket: Any) -> None:
        """Read what comes until it is time for the next flood."""
        with contextlib.suppress(TimeoutError):
            while True:
                frame = json.loads(socket.recv(timeout=PAUSE))
                if frame["type"] == "error":
                    self.told.append(frame)

    @property
    def last_words(self) -> dict[str, Any]:
        """The frame that said why the socket was closed."""
        return next(frame for frame in reversed(self.told) if frame["fatal"])

    def leave(self) -> None:
        self._leaving.set()
        self.join(timeout=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Some attackers, and those of them whose sockets have been closed."""

    attackers: list[Attacker]
    gone: "SimpleQueue[Attacker]"

    def next_gone(self) -> Attacker:
        return self.gone.get(timeout=20)

    @property
    def left(self) -> int:
        return sum(each.is_alive() for each in self.attackers)


@contextlib.contextmanager
def attack(example: Example, session: str, *addresses: str) -> Iterator[Attack]:
    """An attack by one account from some addresses, which is under way when the block begins."""
    gone: SimpleQueue[Attacker] = SimpleQueue()
    attackers = [Attacker(example, session, address, gone) for address in addresses]
    for each in attackers:
        each.start()
    try:
        assert all(each.begun.wait(timeout=20) for each in attackers)
        yield Attack(attackers=attackers, gone=gone)
    finally:
        for each in attackers:
            each.leave()
