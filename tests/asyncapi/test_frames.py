"""The frames as they are described, held against those that are sent."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.asyncapi import document
from channels_secure.connections.entrance import hello
from channels_secure.policy.decisions import Denial, FieldError, Reason
from channels_secure.testing import SecureCommunicator, guarded
from tests.asyncapi.conftest import payload_validator
from tests.asyncapi.wire import EverythingConsumer
from tests.auth.tokens import token_for

KEYS = {
    "error": "ErrorFrame",
    "hello": "Hello",
    "ping": "ServerPing",
    "pong": "ServerPong",
    "token_expiring": "TokenExpiring",
    "token_refreshed": "TokenRefreshed",
}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document([EverythingConsumer])


def strictly(described: dict[str, Any], frame: dict[str, Any]) -> bool:
    """Whether a frame is described, each of its members too."""
    payload = described["components"]["messages"][KEYS[frame["type"]]]["payload"]
    return payload_validator(described, KEYS[frame["type"]]).is_valid(frame) and set(frame) <= set(
        payload["properties"]
    )


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("fatal", [True, False])
def test_every_refusal_is_as_described(described: dict[str, Any], reason: Reason, fatal: bool) -> None:
    denial = Denial(reason=reason, retry_after=1.5, errors=(FieldError("text", "Required"),))
    assert strictly(described, denial.frame(ref="x", fatal=fatal))
    assert strictly(described, Denial(reason=reason).frame(fatal=fatal))


def test_a_hello_is_as_described(described: dict[str, Any]) -> None:
    limits = SimpleNamespace(deadlines=SimpleNamespace(heartbeat=20.0), max_message_size=9)
    connection: Any = SimpleNamespace(expires_at=None, id="x", limits=limits)
    frame = hello(connection)
    assert strictly(described, frame)
    assert set(frame) == set(described["components"]["messages"]["Hello"]["payload"]["required"])


class Lively(EverythingConsumer):
    heartbeat_interval = 0.5


@pytest.mark.django_db(transaction=True)
async def test_what_a_socket_hears_is_as_described(described: dict[str, Any], user: User) -> None:
    now = int(time.time())
    brief, longer = (token_for(user, exp=now + seconds) for seconds in (30, 600))
    heard: list[dict[str, Any]] = []
    async with SecureCommunicator(guarded(Lively.as_asgi()), "/", token=brief) as socket:
        for text in ('{"type":"ping","id":"a"}', '{"type":"place","id":7}', "{"):
            await socket.send_to(text_data=text)
        # The warning that the token ends and the heartbeat come by themselves, within the supervisor's second.
        while not {"token_expiring", "ping"} <= {frame["type"] for frame in heard}:
            heard.append(await socket.receive_json_from(timeout=5))
        await socket.send_json_to({"type": "refresh_token", "token": longer, "id": 1})
        while heard[-1]["type"] != "token_refreshed":
            heard.append(await socket.receive_json_from(timeout=5))
    assert {frame["type"] for frame in heard} == set(KEYS)
    assert [frame for frame in heard if not strictly(described, frame)] == []
