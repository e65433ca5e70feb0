"""Clients that talk to a server until it is gone, and count what they asked for and what they saw.

What was asked may have happened, what was seen has happened: the trail has to lie in between, kind by kind and reason
by reason. A client counts a question before its first byte leaves, and an answer when it has been read.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.live.raw import Opcode, RawSocket, SocketEnded

ORIGIN = "https://example.com"
EVIL = "https://evil.test"
CLIENTS = 6
PATIENCE = 10.0
# Of which a connection may send 20 in a second.
BURST = 30

Key = tuple[str, str]
ACCEPTED: Key = ("connection.accepted", "")


class Tally:
    """What all clients of a run asked for, and what they saw.

    `let_in` are the connections that said hello, `ended` those whose end the server announced by a frame of its own.
    """

    def __init__(self) -> None:
        self.asked: Counter[Key] = Counter()
        self.seen: Counter[Key] = Counter()
        self.let_in: set[str] = set()
        self.ended: set[str] = set()
        self.visits = 0
        self._changed = threading.Condition()

    def ask(self, key: Key, count: int = 1) -> None:
        with self._changed:
            self.asked[key] += count

    def see(self, key: Key) -> None:
        with self._changed:
            self.seen[key] += 1

    def count_visit(self) -> None:
        with self._changed:
            self.visits += 1
            self._changed.notify_all()

    def wait_for_visits(self, number: int, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.visits >= number, timeout)


class Client(threading.Thread):
    """Visits a server in every way, one after the other in an order of its own, until it is told to stop."""

    def __init__(self, number: int, port: int, tally: Tally, seed: int) -> None:
        super().__init__(daemon=True)
        self.source, self.port, self.tally = f"127.0.0.{10 + number}", port, tally
        self.chance = random.Random(seed * CLIENTS + number)
        self.stopped = threading.Event()
        self.trouble: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                visits = [*VISITS]
                self.chance.shuffle(visits)
                for visit in visits:
                    self._pay(visit)
                    if self.stopped.is_set():
                        return
        except BaseException as error:  # noqa: BLE001 - shown by whoever waits for this thread
            self.trouble = error

    def _pay(self, visit: Callable[["Client", RawSocket], None]) -> None:
        try:
            with RawSocket.open("127.0.0.1", self.port, source=self.source, timeout=PATIENCE) as raw:
                visit(self, raw)
                self.tally.count_visit()
        except (SocketEnded, OSError):
            # The server is gone, or going; what was half said counts as asked only.
            self.stopped.wait(0.02)

    # What a visit is made of ------------------------------------------------------------------------------------------

    def enter(self, raw: RawSocket, path: str = "/open/") -> str | None:
        """Be let in; the connection's id, or None when a server that ends refused."""
        self.tally.ask(ACCEPTED)
        if raw.handshake(path, origin=ORIGIN).status != 101:
            return None
        self.tally.see(ACCEPTED)
        hello = self.read(raw)
        if hello is None or hello["type"] != "hello":
            # The end came between the accept and the first frame.
            return None
        self.tally.let_in.add(hello["connection_id"])
        return str(hello["connection_id"])

    def be_refused(self, raw: RawSocket, key: Key, path: str, **handshake: Any) -> None:
        """Be refused, by an HTTP answer or by a socket that says so and closes."""
        self.tally.ask(key)
        response = raw.handshake(path, **handshake)
        if response.status != 101:
            self.tally.see(key)
        elif (frame := self.read(raw)) is not None:
            self.tally.see((key[0], frame["code"]))
            raw.read_until_closed()

    def read(self, raw: RawSocket) -> dict[str, Any] | None:
        """The next JSON frame but pings; None when the server closes."""
        while (frame := raw.read_frame()).opcode is not Opcode.CLOSE:
            if frame.opcode is Opcode.TEXT and (content := frame.json())["type"] != "ping":
                return dict(content)
        return None

    def exchange(self, raw: RawSocket, text: str, count: int = 1, reason: str | None = None) -> None:
        """Send messages, and read as many answers, among them refusals for a reason."""
        if reason is not None:
            self.tally.ask(("message.denied", reason), count)
        for _ in range(count):
            raw.send_text(text)
        for _ in range(count):
            answer = self.read(raw)
            if answer is None or answer.get("fatal"):
                return
            if answer["type"] == "error":
                self.tally.see(("message.denied", answer["code"]))

    def watch_end(self, raw: RawSocket, connection: str) -> None:
        """Wait for the server's close frame."""
        if raw.read_until_closed().how == "close":
            self.tally.ended.add(connection)


SAY = '{"type":"chat.say","text":"hello"}'


def talk(client: Client, raw: RawSocket) -> None:
    """Good messages and refused ones; then leave."""
    if client.enter(raw) is not None:
        client.exchange(raw, SAY, 3)
        client.exchange(raw, '{"type":"no.such.type"}', 2, "unknown_type")
        client.exchange(raw, "{", 2, "invalid_message")
        raw.send_close()
        raw.read_until_closed()


def hurry(client: Client, raw: RawSocket) -> None:
    """More than the rate allows, then vanish."""
    if client.enter(raw) is not None:
        client.exchange(raw, SAY, BURST, "rate_limited")
        raw.reset()


def offend(client: Client, raw: RawSocket) -> None:
    """Send what closes the socket at once."""
    if (connection := client.enter(raw)) is not None:
        client.tally.ask(("message.denied", "unsupported_data"))
        raw.send_binary(b"\0")
        frame = client.read(raw)
        if frame is not None and frame["code"] == "unsupported_data":
            client.tally.see(("message.denied", "unsupported_data"))
        client.watch_end(raw, connection)


def be_dismissed(client: Client, raw: RawSocket) -> None:
    """Let the application close."""
    if (connection := client.enter(raw, "/odd/")) is not None:
        raw.send_text('{"type":"close","code":4001}')
        client.watch_end(raw, connection)


def stay(client: Client, raw: RawSocket) -> None:
    """Stay for a moment, and be there perhaps when the end comes."""
    if (connection := client.enter(raw)) is not None and client.stopped.wait(client.chance.uniform(0, 0.3)):
        client.watch_end(raw, connection)


def intrude(client: Client, raw: RawSocket) -> None:
    client.be_refused(raw, ("handshake.denied", "origin_not_allowed"), "/open/", origin=EVIL)


def be_nobody(client: Client, raw: RawSocket) -> None:
    client.be_refused(raw, ("handshake.denied", "unauthenticated"), "/typed/", origin=ORIGIN)


def forge(client: Client, raw: RawSocket) -> None:
    token = (b"Authorization", b"Bearer e30.e30.e30")
    client.be_refused(raw, ("credentials.failed", "invalid_credentials"), "/open/", origin=ORIGIN, headers=[token])


def err(client: Client, raw: RawSocket) -> None:
    client.be_refused(raw, ("handshake.denied", "not_found"), "/nowhere/", origin=ORIGIN)


def be_turned_away(client: Client, raw: RawSocket) -> None:
    """By the application, which closes instead of accepting."""
    client.be_refused(raw, ("handshake.denied", "permission_denied"), "/connect/close/", origin=ORIGIN)


VISITS = (talk, hurry, offend, be_dismissed, stay, intrude, be_nobody, forge, err, be_turned_away)
