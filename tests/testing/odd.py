"""An ASGI application that sends what its path says, so that real servers and the model of them can be compared."""

import json
from typing import Any

LONG = "ü" * 100
HTTP = [
    {"type": "websocket.http.response.start", "status": 429, "headers": [(b"retry-after", b"7")]},
    {"type": "websocket.http.response.body", "body": b'{"code":"rate_limited"}'},
]
ACCEPT = {"type": "websocket.accept"}


def close(code: int | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"type": "websocket.close", **({"code": code} if code else {}), **({"reason": reason} if reason else {})}


# What is sent, and a word for what else the application does.
SCRIPTS: dict[str, list[Any]] = {
    "deny": [close()],
    "deny-with-code": [close(4401, "unauthenticated")],
    "raise-first": ["raise"],
    "accept-headers": [{**ACCEPT, "headers": [(b"x-own", b"1")]}, close(4000)],
    "close-plain": [ACCEPT, close()],
    "close-own-code": [ACCEPT, close(4403, "bye")],
    "close-1001": [ACCEPT, close(1001)],
    "close-1008": [ACCEPT, close(1008, "policy")],
    "close-1011": [ACCEPT, close(1011)],
    "close-1005": [ACCEPT, close(1005)],
    "close-999": [ACCEPT, close(999)],
    "close-5000": [ACCEPT, close(5000)],
    "close-long-reason": [ACCEPT, close(4000, LONG)],
    "close-twice": [ACCEPT, close(4001), close(4002)],
    "send-after-close": [ACCEPT, close(4001), {"type": "websocket.send", "text": "late"}],
    "raise-after": [ACCEPT, "raise"],
    "send-and-close": [ACCEPT, {"type": "websocket.send", "text": "hello"}, close(4001, "bye")],
}
RETURN = {"return-after": [ACCEPT, "return"]}
# What Daphne answers only after its time-outs.
SLOW_ON_DAPHNE: dict[str, list[Any]] = {
    "http-response": HTTP,
    "return-first": ["return"],
    "foreign-subprotocol": [{**ACCEPT, "subprotocol": "never.offered"}, close(4000)],
}


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    name = scope["path"].strip("/")
    if name == "scope":
        await tell(scope, send)
        return
    for event in (SCRIPTS | RETURN | SLOW_ON_DAPHNE)[name]:
        if event == "return":
            return
        if event == "raise":
            raise LookupError("asked to fail")
        await send(dict(event))
    # Until the server says that it is over, as every consumer does.
    await receive()


async def tell(scope: dict[str, Any], send: Any) -> None:
    """The shape of the scope, as JSON."""
    twins = [name.decode() for name, _ in scope["headers"] if b"_" in name]
    repeated = [value.decode() for name, value in scope["headers"] if name == b"x-twice"]
    shape = {
        "client": type(scope["client"]).__name__,
        "scheme": scope.get("scheme"),
        "extensions": sorted(scope.get("extensions", {"none": None})),
        "spec_version": scope["asgi"].get("spec_version"),
        "twins": twins,
        "repeated": repeated,
    }
    await send(ACCEPT)
    await send({"type": "websocket.send", "text": json.dumps(shape)})
    await send(close(1000))
