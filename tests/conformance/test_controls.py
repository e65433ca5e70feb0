"""Negative controls: with its guard taken out, a case fails. What cannot fail shows nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings

import tests.conformance.handshakes
import tests.conformance.messages  # noqa: F401 - these two fill the table
from channels_secure import database, guards
from channels_secure.guards import DEFAULT_GUARDS
from tests.conformance import drive, test_faults
from tests.conformance.table import SETTINGS, TABLE, Handshake, Message
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)


def without(guard: Any) -> Any:
    return drive.app([each for each in DEFAULT_GUARDS if each is not guard])


BY_GUARD = {
    "origin-foreign": guards.origin,
    "origin-null": guards.origin,
    "origin-missing-never": guards.origin,
    "origin-twice-good-first": guards.origin,
    "cookies-300": guards.well_formed,
    "subprotocol-duplicate": guards.well_formed,
    "query-token": guards.stray_token,
}


async def outcome_of(case: Handshake, application: Any = None) -> None:
    world = await database.run(World)
    request = await database.run(case.request, world)
    await drive.shake(case, request, http_response=True, application=application)


@pytest.mark.parametrize(("name", "guard"), BY_GUARD.items(), ids=BY_GUARD)
async def test_a_case_fails_without_its_guard(name: str, guard: Any) -> None:
    case = TABLE[name]
    assert isinstance(case, Handshake)
    with override_settings(CHANNELS_SECURE={**SETTINGS, **case.settings}):
        with pytest.raises(AssertionError):
            await outcome_of(case, without(guard))
        await drive.settle()
        await outcome_of(case)


BY_SETTING: dict[str, dict[str, Any]] = {
    "session-valid": {"AUTHENTICATORS": []},
    "token-valid": {"TOKEN_SOURCES": ["subprotocol"]},
    "two-users": {"AUTHENTICATORS": ["channels_secure.auth.session.SessionAuthenticator"]},
    "alg-none": {"AUTHENTICATORS": ["channels_secure.auth.session.SessionAuthenticator"]},
    "origin-other-https://example.com:8443": {"ALLOWED_ORIGINS": ["https://example.com:8443"]},
    "forwarded-malformed-1": {"TRUSTED_PROXIES": []},
    "size-over-open": {"MAX_MESSAGE_SIZE": 1 << 20},
    "size-bytes-echo": {"MAX_MESSAGE_SIZE": 1 << 20},
    "depth-33": {"MAX_MESSAGE_DEPTH": 40},
    "depth-33-drop-in": {"MAX_MESSAGE_DEPTH": 40},
}


@pytest.mark.parametrize(("name", "setting"), BY_SETTING.items(), ids=BY_SETTING)
async def test_a_case_fails_when_its_guard_is_switched_off(name: str, setting: dict[str, Any]) -> None:
    case = TABLE[name]
    run: Callable[..., Any] = drive.speak if isinstance(case, Message) else outcome_of
    settings = {**SETTINGS, **getattr(case, "settings", {})}
    with override_settings(CHANNELS_SECURE={**settings, **setting}), pytest.raises((AssertionError, TimeoutError)):
        await run(case)
    await drive.settle()
    with override_settings(CHANNELS_SECURE=settings):
        await run(case)


class Uncontrolled:
    """`test_faults.settings` with some values that no test there can change."""

    def __init__(self, **fixed: Any) -> None:
        self.fixed = fixed

    def __call__(self, **changes: Any) -> Any:
        return override_settings(CHANNELS_SECURE={**SETTINGS, **changes, **self.fixed})


BY_PROGRAM: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "handshake rate": (
        test_faults.test_handshakes_over_the_rate_of_an_address_are_refused,
        (),
        {"HANDSHAKE_RATES": {"ip": None, "user": None}},
    ),
    "IPv6 prefix": (test_faults.test_addresses_of_one_prefix_share_a_budget, (), {"IPV6_PREFIX": 128}),
    "connection limit": (
        test_faults.test_the_connection_limit_holds_and_frees,
        (),
        {"MAX_CONNECTIONS": {"user": None, "ip": None}},
    ),
    "connection rate": (
        test_faults.test_a_flood_is_one_episode,
        ("/open/",),
        {"MESSAGE_RATES": {"connection": None, "user": None}},
    ),
    "connection rate of other consumers": (
        test_faults.test_a_flood_is_one_episode,
        ("/odd-foreign/",),
        {"MESSAGE_RATES": {"connection": None, "user": None}},
    ),
    "user rate": (
        test_faults.test_two_sockets_of_a_user_share_a_budget,
        (),
        {"MESSAGE_RATES": {"connection": None, "user": None}},
    ),
    "error budget": (test_faults.test_the_error_budget_closes_the_socket, (), {"ERROR_BUDGET": None}),
    "automatic block": (test_faults.test_strikes_end_in_a_block, (), {"AUTO_BLOCK_AFTER": None}),
    "handler deadline": (
        test_faults.test_a_handler_that_sends_for_ever_is_cut_and_starves_nobody,
        (),
        {"HANDLER_TIMEOUT": None},
    ),
    "idle deadline": (test_faults.test_an_idle_peer_is_cut, ("/open/",), {"IDLE_TIMEOUT": None}),
    "heartbeat": (test_faults.test_a_silent_peer_is_cut, (), {"HEARTBEAT_INTERVAL": None}),
}


@pytest.mark.parametrize("name", BY_PROGRAM)
async def test_a_program_fails_when_its_guard_is_switched_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, arguments, fixed = BY_PROGRAM[name]
    monkeypatch.setattr(test_faults, "settings", Uncontrolled(**fixed))
    with pytest.raises((AssertionError, TimeoutError)):
        await program(*arguments)
