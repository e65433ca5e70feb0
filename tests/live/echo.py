"""A raw ASGI application with no guard at all: it tests the harness, and is the floor that benchmarks compare with.

`/echo` answers each frame with itself, `/close` closes with 4001 "bye", `/deny` refuses before accept, `/reply` refuses
with a response of its own where the server can send one, `/raise` fails after accept, `/headers` sends the raw headers.
"""

import json
from typing import Any


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        raise ValueError(f"{scope['type']} is not served here")
    await receive()
    await ROUTES.get(scope["path"], echo)(scope, receive, send)


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def close(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4001, "reason": "bye"})


async def deny(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "websocket.close"})


async def reply(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await deny(scope, receive, send)
        return
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"7")]
    await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b'{"code":"rate_limited"}'})


async def fail(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    raise RuntimeError("asked to fail")


async def headers(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    pairs = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    await send({"type": "websocket.send", "text": json.dumps({"headers": pairs, "client": scope["client"][0]})})
    await receive()


ROUTES = {"/echo": echo, "/close": close, "/deny": deny, "/reply": reply, "/raise": fail, "/headers": headers}
