"""How often a newer token is tried, by whom it is refused."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from channels_secure.client import ConnectionLost, Limits, refreshing
from channels_secure.client.credentials import Credentials
from channels_secure.client.desk import Desk
from channels_secure.client.refreshing import TRIES, refresh

Answer = Callable[[Desk, Mapping[str, Any]], object]
LONG = 3600.0


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "PAUSE", 0.001)


def a_desk(fetch: Callable[[], str | None] = lambda: "newer") -> Desk:
    return Desk(Credentials(token=fetch), Limits(), None, None)


async def sent_by(desk: Desk, answer: Answer, expires_in: float = LONG) -> list[Mapping[str, Any]]:
    """What is sent until the refreshing ends, each answered in this way."""
    sent: list[Mapping[str, Any]] = []

    def hurry(message: Mapping[str, Any]) -> None:
        sent.append(message)
        asyncio.get_running_loop().call_soon(answer, desk, message)

    await refresh(desk, hurry, expires_in)
    assert desk.calls._awaited == {}
    return sent


def accept(desk: Desk, message: Mapping[str, Any]) -> None:
    desk.calls.settle({"type": "token_refreshed", "expires_in": 300, "ref": message["id"]})


def deny(code: str, **more: Any) -> Answer:
    frame = {"type": "error", "code": code, "message": "No.", "fatal": False, **more}
    return lambda desk, message: desk.calls.settle({**frame, "ref": message["id"]})


async def test_an_accepted_token_is_sent_once() -> None:
    sent = await sent_by(a_desk(), accept)
    assert [(message["type"], message["token"]) for message in sent] == [("refresh_token", "newer")]


@pytest.mark.parametrize("code", ["invalid_credentials", "credentials_expired", "permission_denied"])
async def test_a_denied_token_is_not_sent_again(code: str) -> None:
    assert len(await sent_by(a_desk(), deny(code))) == 1


@pytest.mark.parametrize("code", ["rate_limited", "unavailable"])
async def test_what_passes_is_tried_again_a_few_times(code: str) -> None:
    assert len(await sent_by(a_desk(), deny(code, retry_after=0.001))) == TRIES


async def test_nothing_is_tried_after_the_old_token_has_ended() -> None:
    assert len(await sent_by(a_desk(), deny("rate_limited", retry_after=2 * LONG))) == 1


async def test_a_token_that_cannot_be_fetched_is_fetched_again(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def fetch() -> str:
        tries.append(1)
        if len(tries) < TRIES:
            raise OSError("secret")
        return "newer"

    assert len(await sent_by(a_desk(fetch), accept)) == 1
    assert len(tries) == TRIES
    assert "client.refresh_failed" in caplog.text
    assert "secret" not in caplog.text


async def test_who_has_no_newer_token_sends_none() -> None:
    assert await sent_by(a_desk(lambda: None), accept) == []


async def test_a_lost_connection_ends_it() -> None:
    sent = await sent_by(a_desk(), lambda desk, message: desk.calls.lose(ConnectionLost("lost")))
    assert len(sent) == 1


async def test_a_token_that_is_renewed_by_nobody_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "TIMEOUT", 0.001)
    assert len(await sent_by(a_desk(), lambda desk, message: None)) == TRIES
