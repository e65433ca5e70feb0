"""The guards that do more than refuse; what they refuse is in the table of tests/conformance."""

import logging
import math

import pytest
from pytest_django import Settings

from channels_secure import guards
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.guards import REMINDER_INTERVAL, admit, remind_of_proxy
from channels_secure.policy.addresses import Proxies
from channels_secure.policy.handshake import Handshake
from channels_secure.testing import SecureCommunicator, guarded

PROXY = "127.0.0.1"
FORWARDED = (b"x-forwarded-for", b"203.0.113.7")


@pytest.fixture(autouse=True)
def nobody_was_reminded_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "_reminded_at", -math.inf)


def reminders(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage().startswith("undeclared_proxy")]


def handshake(*headers: tuple[bytes, bytes], peer: str | None = PROXY) -> Handshake:
    scope = {"path": "/", "client": None if peer is None else [peer, 1], "headers": headers}
    return Handshake.from_scope(scope, proxies=Proxies.from_settings(None, "X-Forwarded-For", None))


def with_extra(record: logging.LogRecord) -> tuple[object, object]:
    return vars(record)["peer"], vars(record)["header"]


def test_an_undeclared_proxy_is_an_error_that_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    remind_of_proxy(handshake(FORWARDED), 1000.0)
    (record,) = reminders(caplog)
    assert (record.name, record.levelno) == ("channels_secure", logging.ERROR)
    assert "TRUSTED_PROXIES" in record.getMessage()
    assert with_extra(record) == (PROXY, "x-forwarded-for")
    # The client wrote the header's value, and it is believed by nobody.
    assert "203.0.113.7" not in repr(vars(record))


def test_a_proxy_on_a_unix_socket_is_called_so(caplog: pytest.LogCaptureFixture) -> None:
    remind_of_proxy(handshake(FORWARDED, peer=None), 1000.0)
    assert with_extra(reminders(caplog)[0]) == ("unix", "x-forwarded-for")


def test_a_process_is_reminded_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    for now in (1000.0, 1000.1, 1030.0, 1000.0 + REMINDER_INTERVAL - 0.001):
        remind_of_proxy(handshake(FORWARDED), now)
    assert len(reminders(caplog)) == 1
    for now in (1000.0 + REMINDER_INTERVAL, 1100.0):
        remind_of_proxy(handshake(FORWARDED), now)
    assert len(reminders(caplog)) == 2
    assert REMINDER_INTERVAL == 60


def test_a_process_is_reminded_however_young_the_machine_is(caplog: pytest.LogCaptureFixture) -> None:
    remind_of_proxy(handshake(FORWARDED), 0.0)
    assert len(reminders(caplog)) == 1


@pytest.mark.parametrize(
    ("headers", "peer", "proxies"),
    [
        ([], PROXY, None),
        ([FORWARDED], "203.0.113.9", None),
        ([FORWARDED], PROXY, [PROXY]),
        ([FORWARDED], PROXY, []),
    ],
    ids=["no header", "a stranger that sends it", "declared", "declared that there is none"],
)
async def test_nobody_is_reminded_without_cause(
    caplog: pytest.LogCaptureFixture, headers: list[tuple[bytes, bytes]], peer: str, proxies: list[str] | None
) -> None:
    scope = {"path": "/", "client": [peer, 1], "headers": headers}
    shaken = Handshake.from_scope(scope, proxies=Proxies.from_settings(proxies, "X-Forwarded-For", None))
    assert await admit(shaken, [guards.proxy_declared]) is None
    assert reminders(caplog) == []


class Open(SecureJsonConsumer):
    allow_anonymous = True


async def is_let_in(*headers: tuple[bytes, bytes], scheme: str = "wss") -> bool:
    communicator = SecureCommunicator(guarded(Open.as_asgi()), client=PROXY, headers=headers, scheme=scheme)
    outcome = await communicator.shake_hands()
    await communicator.disconnect()
    return outcome.accepted


@pytest.mark.django_db(transaction=True)
async def test_handshakes_through_an_undeclared_proxy_are_let_in_and_remind_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert [await is_let_in(FORWARDED) for _ in range(3)] == [True] * 3
    assert len(reminders(caplog)) == 1


@pytest.mark.django_db(transaction=True)
async def test_the_reminder_comes_though_the_transport_is_refused(
    caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    settings.CHANNELS_SECURE = {"REQUIRE_WSS": True}
    assert not await is_let_in(FORWARDED, (b"x-forwarded-proto", b"https"), scheme="ws")
    assert len(reminders(caplog)) == 1


@pytest.mark.django_db(transaction=True)
async def test_a_handshake_without_a_proxy_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert await is_let_in()
    assert reminders(caplog) == []
