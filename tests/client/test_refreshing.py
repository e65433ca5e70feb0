"""How often a newer token is tried, by whom it is refused."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from channels_secure.client import ConnectionLost, Limits, Refused, refreshing
from channels_secure.client.credentials import Credentials
from channels_secure.client.desk import Desk
from channels_secure.client.refreshing import refresh

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


def in_turn(answers: Iterable[Answer]) -> Answer:
    each = iter(answers)

    def answer(desk: Desk, message: Mapping[str, Any]) -> None:
        next(each)(desk, message)

    return answer


async def test_an_accepted_token_is_sent_once() -> None:
    sent = await sent_by(a_desk(), accept)
    assert [(message["type"], message["token"]) for message in sent] == [("refresh_token", "newer")]


@pytest.mark.parametrize("code", ["invalid_credentials", "credentials_expired", "permission_denied"])
async def test_a_denied_token_is_not_sent_again(code: str) -> None:
    assert len(await sent_by(a_desk(), deny(code))) == 1


@pytest.mark.parametrize("code", ["rate_limited", "unavailable"])
async def test_what_passes_is_tried_again_until_it_has_passed(code: str) -> None:
    answers = [*[deny(code, retry_after=0.001)] * 9, accept]
    assert len(await sent_by(a_desk(), in_turn(answers))) == 10


async def test_what_does_not_pass_is_tried_until_the_old_token_has_ended() -> None:
    assert len(await sent_by(a_desk(), deny("rate_limited", retry_after=0.02), expires_in=0.1)) <= 5


async def test_nothing_is_tried_after_the_old_token_has_ended() -> None:
    assert len(await sent_by(a_desk(), deny("rate_limited", retry_after=2 * LONG))) == 1


async def test_a_token_that_cannot_be_fetched_is_fetched_again(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def fetch() -> str:
        tries.append(1)
        if len(tries) < 5:
            raise OSError("secret")
        return "newer"

    assert len(await sent_by(a_desk(fetch), accept)) == 1
    assert len(tries) == 5
    assert "client.refresh_failed" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("status", "tries"), [(503, 2), (429, 2), (401, 1), (403, 1)])
async def test_the_endpoint_of_tokens_is_asked_again_if_its_refusal_passes(status: int, tries: int) -> None:
    asked: list[int] = []

    def fetch() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise Refused.from_response(status, {}, b"")
        return "newer"

    await sent_by(a_desk(fetch), accept)
    assert len(asked) == tries


async def test_who_has_no_newer_token_sends_none() -> None:
    assert await sent_by(a_desk(lambda: None), accept) == []


async def test_a_lost_connection_ends_it() -> None:
    sent = await sent_by(a_desk(), lambda desk, message: desk.calls.lose(ConnectionLost("lost")))
    assert len(sent) == 1


async def test_a_token_that_is_not_answered_in_time_is_brought_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "TIMEOUT", 0.02)
    answers: list[Answer] = [lambda desk, message: None, accept]
    assert len(await sent_by(a_desk(), in_turn(answers))) == 2
