"""A WebSocket client on a bare socket that hides nothing.

Client libraries tidy up what a hostile peer would do and what a server really did: they refuse to send odd headers, and
they fold a reset, an end of stream and a close frame into one exception. Here headers are raw bytes in the given order,
frames may be malformed on purpose, and an ending says which of the three it was. Blocking, with a time limit on every
wait: the servers are other processes, so async tests may use it too, in a thread or for short exchanges.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Self

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
TIMEOUT = 10.0

Header = tuple[bytes, bytes]
Ending = Literal["close", "eof", "reset"]


class Opcode(IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class SocketTimeout(AssertionError):
    """The server sent nothing, or took nothing, within the time limit."""


class SocketEnded(Exception):
    """The connection ended where more bytes were expected; `how` is `eof` or `reset`."""

    def __init__(self, how: Literal["eof", "reset"]) -> None:
        super().__init__(how)
        self.how = how


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The server's answer to the upgrade request; headers as sent, in order, duplicates kept."""

    status: int
    reason: str
    headers: tuple[Header, ...]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the value of the only header of this name; two of them are an AssertionError."""
        values = [value for key, value in self.headers if key.lower() == name.lower().encode()]
        if len(values) > 1:
            raise AssertionError(f"{name} was sent {len(values)} times: {values}")
        return values[0].decode("latin-1") if values else None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame as it was on the wire."""

    opcode: Opcode
    payload: bytes
    fin: bool = True
    rsv: int = 0

    def text(self) -> str:
        return self.payload.decode()

    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def close_code(self) -> int | None:
        """The code of a close frame; None when it carries none (RFC 6455 section 7.1.5)."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) >= 2 else None

    @property
    def close_reason(self) -> str:
        return self.payload[2:].decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How a connection ended, and the frames that came before it did.

    `how` is `close` when a close frame arrived (then `code` and `reason` are its own), `eof` when the server ended the
    stream without one, `reset` when it tore the connection down.
    """

    how: Ending
    code: int | None = None
    reason: str = ""
    frames: tuple[Frame, ...] = field(default=())

    def json_frames(self) -> list[Any]:
        return [frame.json() for frame in self.frames if frame.opcode is Opcode.TEXT]


class RawSocket:
    """A TCP connection that can ask for an upgrade and then speak frames."""

    def __init__(self, connection: socket.socket, *, authority: str, timeout: float = TIMEOUT) -> None:
        self.connection = connection
        self.authority = authority
        self.timeout = timeout
        self.buffer = bytearray()

    @classmethod
    def open(cls, host: str, port: int, *, source: str = "127.0.0.1", timeout: float = TIMEOUT) -> Self:
        """Connect from the loopback address `source`; each of 127.0.0.0/8 is a client of its own (on Linux)."""
        connection = socket.create_connection((host, port), timeout=timeout, source_address=(source, 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection, authority=f"{host}:{port}", timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    # Bytes

    def send_raw(self, data: bytes) -> None:
        """Send exactly these bytes; raise SocketEnded when the server has gone, SocketTimeout when it takes no more."""
        self.connection.settimeout(self.timeout)
        try:
            self.connection.sendall(data)
        except TimeoutError as error:
            raise SocketTimeout(f"the server took no more bytes for {self.timeout} s") from error
        except OSError as error:
            raise SocketEnded("reset") from error

    def _receive_more(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise SocketTimeout(
                f"nothing came in time; {len(self.buffer)} bytes were waiting: {bytes(self.buffer[:200])!r}"
            )
        self.connection.settimeout(remaining)
        try:
            data = self.connection.recv(65536)
        except TimeoutError:
            return  # the next call finds the deadline passed
        except OSError as error:
            raise SocketEnded("reset") from error
        if not data:
            raise SocketEnded("eof")
        self.buffer += data

    def read_exactly(self, count: int, *, timeout: float | None = None) -> bytes:
        self._fill(count, time.monotonic() + (timeout or self.timeout))
        return self._take(count)

    def _fill(self, count: int, deadline: float) -> None:
        while len(self.buffer) < count:
            self._receive_more(deadline)

    def _take(self, count: int) -> bytes:
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def read_until(self, marker: bytes, *, timeout: float | None = None) -> bytes:
        """Return everything up to and including `marker`."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while (index := self.buffer.find(marker)) < 0:
            self._receive_more(deadline)
        return self._take(index + len(marker))

    def read_to_end(self, *, timeout: float | None = None) -> bytes:
        """Return all bytes until the server ends the stream."""
        deadline = time.monotonic() + (timeout or self.timeout)
        try:
            while True:
                self._receive_more(deadline)
        except SocketEnded:
            return self._take(len(self.buffer))

    # Handshake

    def handshake(
        self,
        path: str | bytes = "/",
        *,
        headers: Iterable[Header] = (),
        origin: str | bytes | None = None,
        subprotocols: Iterable[str] = (),
        replace: dict[bytes, bytes | None] | None = None,
    ) -> Response:
        """Ask for an upgrade and return the answer, body included.

        `headers` follow the ordinary ones, byte for byte. `replace` changes ordinary ones (by lower-case name, for
        example `{b"host": b"evil.test"}`) or, with None, leaves them out.
        """
        key = base64.b64encode(os.urandom(16))
        self.send_raw(upgrade_request(path, self.authority, key, headers, origin, subprotocols, replace or {}))
        response = self.read_response()
        if response.status == 101 and not replace:
            expected = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
            if response.header("sec-websocket-accept") != expected:
                raise AssertionError(f"wrong Sec-WebSocket-Accept: {response}")
        return response

    def read_response(self, *, timeout: float | None = None) -> Response:
        """Read one HTTP response; its body ends as RFC 9112 section 6.3 says."""
        head = self.read_until(b"\r\n\r\n", timeout=timeout)
        status_line, *lines = head[:-4].split(b"\r\n")
        _, status, *reason = status_line.split(b" ", 2)
        headers = tuple((name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines))
        response = Response(status=int(status), reason=b"".join(reason).decode("latin-1"), headers=headers)
        body = b"" if response.status in {101, 204, 304} else self._read_body(response)
        return Response(status=response.status, reason=response.reason, headers=headers, body=body)

    def _read_body(self, response: Response) -> bytes:
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            return b"".join(self._read_chunks())
        length = response.header("content-length")
        return self.read_exactly(int(length)) if length is not None else self.read_to_end()

    def _read_chunks(self) -> Iterator[bytes]:
        while size := int(self.read_until(b"\r\n").split(b";")[0], 16):
            yield self.read_exactly(size)
            self.read_exactly(2)
        self.read_until(b"\r\n")

    # Frames out

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        mask: bytes | None = b"\x37\xfa\x21\x3d",
    ) -> None:
        """Send one frame; `mask=None` sends it unmasked, which RFC 6455 section 5.1 forbids to clients."""
        self.send_raw(encode_frame(opcode, payload, fin=fin, rsv=rsv, mask=mask))

    def send_text(self, text: str | bytes) -> None:
        """Send a text frame; bytes go out as they are, valid UTF-8 or not."""
        self.send_frame(Opcode.TEXT, text.encode() if isinstance(text, str) else text)

    def send_json(self, content: object) -> None:
        self.send_text(json.dumps(content))

    def send_binary(self, payload: bytes) -> None:
        self.send_frame(Opcode.BINARY, payload)

    def ping(self, payload: bytes = b"") -> None:
        self.send_frame(Opcode.PING, payload)

    def pong(self, payload: bytes = b"") -> None:
        self.send_frame(Opcode.PONG, payload)

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        self.send_frame(Opcode.CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())

    def shut_down_writing(self) -> None:
        """End our half of the stream (FIN) without a close frame."""
        self.connection.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Tear the connection down with a RST, as a vanished or hostile peer does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    # Frames in

    def read_frame(self, *, timeout: float | None = None) -> Frame:
        """Return the next frame of any kind; raise SocketEnded or SocketTimeout. A time-out loses no bytes."""
        deadline = time.monotonic() + (timeout or self.timeout)
        self._fill(2, deadline)
        first, second = self.buffer[:2]
        if second & 0x80:
            raise AssertionError("a server must not mask its frames (RFC 6455 section 5.1)")
        extra = {126: 2, 127: 8}.get(second & 0x7F, 0)
        self._fill(2 + extra, deadline)
        length = int.from_bytes(self.buffer[2 : 2 + extra]) if extra else second & 0x7F
        self._fill(2 + extra + length, deadline)
        payload = self._take(2 + extra + length)[2 + extra :]
        return Frame(opcode=Opcode(first & 0x0F), payload=payload, fin=bool(first & 0x80), rsv=(first >> 4) & 0x7)

    def read_message(self, *, timeout: float | None = None) -> Frame:
        """Return the next text or binary message, joined from its fragments; pings are answered, pongs passed over."""
        deadline = time.monotonic() + (timeout or self.timeout)
        parts: list[Frame] = []
        while not parts or not parts[-1].fin:
            frame = self.read_frame(timeout=max(deadline - time.monotonic(), 0.001))
            if frame.opcode is Opcode.CLOSE:
                raise AssertionError(f"closed with {frame.close_code} {frame.close_reason!r} instead of a message")
            if frame.opcode is Opcode.PING:
                self.pong(frame.payload)
            elif frame.opcode is not Opcode.PONG:
                parts.append(frame)
        return Frame(opcode=parts[0].opcode, payload=b"".join(part.payload for part in parts))

    def read_json(self, *, timeout: float | None = None) -> Any:
        return self.read_message(timeout=timeout).json()

    def read_until_closed(self, *, timeout: float | None = None) -> Closing:
        """Collect frames until the server closes, ends or resets; a close is answered (RFC 6455 section 5.5.1)."""
        deadline = time.monotonic() + (timeout or self.timeout)
        frames: list[Frame] = []
        try:
            while True:
                frame = self.read_frame(timeout=max(deadline - time.monotonic(), 0.001))
                if frame.opcode is Opcode.CLOSE:
                    self._answer_close(frame)
                    return Closing(how="close", code=frame.close_code, reason=frame.close_reason, frames=tuple(frames))
                frames.append(frame)
        except SocketEnded as ended:
            return Closing(how=ended.how, frames=tuple(frames))

    def _answer_close(self, frame: Frame) -> None:
        try:
            self.send_frame(Opcode.CLOSE, frame.payload)
        except SocketEnded:
            return  # the server did not wait for it, as it may

    def sent_nothing(self, *, within: float) -> bool:
        """Tell whether the server stays silent, and connected, for that many seconds."""
        try:
            self._fill(len(self.buffer) + 1, time.monotonic() + within) if not self.buffer else None
        except SocketTimeout:
            return True
        except SocketEnded:
            return False
        return False


def upgrade_request(
    path: str | bytes,
    authority: str,
    key: bytes,
    headers: Iterable[Header],
    origin: str | bytes | None,
    subprotocols: Iterable[str],
    replace: dict[bytes, bytes | None],
) -> bytes:
    """Return the bytes of an upgrade request (RFC 6455 section 4.1)."""
    ordinary: dict[bytes, bytes | None] = {
        b"host": authority.encode(),
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-key": key,
        b"sec-websocket-version": b"13",
        b"origin": origin.encode() if isinstance(origin, str) else origin,
        b"sec-websocket-protocol": ", ".join(subprotocols).encode() or None,
        **replace,
    }
    lines = [name + b": " + value for name, value in ordinary.items() if value is not None]
    lines += [name + b": " + value for name, value in headers]
    target = path.encode() if isinstance(path, str) else path
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", *lines, b"", b""])


def encode_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes | None) -> bytes:
    """Return the bytes of one frame (RFC 6455 section 5.2)."""
    size = len(payload)
    mask_bit = 0x80 if mask is not None else 0
    if size < 126:
        length = bytes([mask_bit | size])
    elif size < 65536:
        length = bytes([mask_bit | 126]) + size.to_bytes(2)
    else:
        length = bytes([mask_bit | 127]) + size.to_bytes(8)
    body = payload if mask is None else mask + apply_mask(payload, mask)
    return bytes([(0x80 if fin else 0) | (rsv << 4) | opcode]) + length + body


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask as one big integer: megabytes in a few milliseconds, where a loop takes a second."""
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))
