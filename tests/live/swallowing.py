"""A TCP relay on loopback that can swallow what its connections say, as a host does that has died without a word."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.live.servers import HOST


class Relay:
    """Passes connections on to a port of this machine; nobody is told when it ceases to."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self._ends: list[socket.socket] = [self._listener]
        self._swallows = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def swallow(self) -> None:
        """Pass on nothing more of the connections there are; new ones are served."""
        self._swallows.set()
        self._swallows = threading.Event()

    def close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((HOST, self._target))
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pass_on, args=(source, sink, self._swallows))
                thread.start()
                self._threads.append(thread)

    def _pass_on(self, source: socket.socket, sink: socket.socket, swallows: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not swallows.is_set():
                    sink.sendall(data)
            if not swallows.is_set():
                sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relay(target: int) -> Iterator[Relay]:
    running = Relay(target)
    try:
        yield running
    finally:
        running.close()
