"""Negative controls of the rows that are programs: with its guard taken out, each of these tests fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from django.test import override_settings

from channels_secure.auth import offers
from channels_secure.blocklist import Snapshot
from channels_secure.connections import Registry
from channels_secure.consumers import dispatch, membership
from channels_secure.stores.memory import MemoryStore
from channels_secure.supervisor import sweeping
from tests.conformance import drive, test_await_points, test_blocks, test_entrance, test_faults, test_limits, test_store
from tests.conformance import test_tokens as tokens
from tests.conformance.conftest import Judge
from tests.conformance.table import SETTINGS
from tests.conformance.test_controls import PERMISSION, Part, says

pytestmark = pytest.mark.django_db(transaction=True)


class Uncontrolled:
    """`test_faults.settings` with some values that no test there can change."""

    def __init__(self, **fixed: Any) -> None:
        self.fixed = fixed

    def __call__(self, **changes: Any) -> Any:
        return override_settings(CHANNELS_SECURE={**SETTINGS, **changes, **self.fixed})


NO_RATES = {"MESSAGE_RATES": {"connection": None, "user": None}}
NO_LIMITS = {"MAX_CONNECTIONS": {"user": None, "ip": None}}
NO_HANDSHAKE_RATES = {"HANDSHAKE_RATES": {"ip": None, "user": None}}
PROGRAMS = (test_blocks, test_entrance, test_faults, test_limits, tokens)
Run = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
BY_PROGRAM: dict[str, Run] = {
    "handshake rate": (
        test_faults.test_handshakes_over_the_rate_of_an_address_are_refused, (), NO_HANDSHAKE_RATES,
    ),
    "handshake rate behind a proxy": (
        test_blocks.test_a_rate_follows_the_client_through_a_proxy, (), {"TRUSTED_PROXIES": []},
    ),
    "IPv6 prefix": (test_faults.test_addresses_of_one_prefix_share_a_budget, (), {"IPV6_PREFIX": 128}),
    "connection limit": (test_faults.test_the_connection_limit_holds_and_frees, (), NO_LIMITS),
    "connection limit of an address": (test_limits.test_the_limit_of_an_address_is_exact, (), NO_LIMITS),
    "connection limit, racing": (test_limits.test_the_limit_of_a_user_is_exact, (), NO_LIMITS),
    "close_oldest": (
        test_limits.test_the_oldest_socket_of_a_user_makes_room, (), {"CONNECTION_OVERFLOW": "reject"},
    ),
    "close_oldest, of another": (test_limits.test_nobody_replaces_the_socket_of_another, (), NO_LIMITS),
    "close_oldest, of nobody": (test_limits.test_nobody_anonymous_replaces_anybody, ("alice",), NO_LIMITS),
    "connection rate": (test_faults.test_a_flood_is_one_episode, ("/open/",), NO_RATES),
    "connection rate of other consumers": (test_faults.test_a_flood_is_one_episode, ("/odd-foreign/",), NO_RATES),
    "user rate": (test_faults.test_two_sockets_of_a_user_share_a_budget, (), NO_RATES),
    "cost": (test_faults.test_a_dear_message_costs_its_price, (), NO_RATES),
    "error budget": (test_faults.test_the_error_budget_closes_the_socket, (), {"ERROR_BUDGET": None}),
    "automatic block": (test_faults.test_strikes_end_in_a_block, (), {"AUTO_BLOCK_AFTER": None}),
    "handler deadline": (
        test_faults.test_a_handler_that_sends_for_ever_is_cut_and_starves_nobody, (), {"HANDLER_TIMEOUT": None},
    ),
    "idle deadline": (test_faults.test_an_idle_peer_is_cut, ("/open/",), {"IDLE_TIMEOUT": None}),
    "heartbeat": (test_faults.test_a_silent_peer_is_cut, (), {"HEARTBEAT_INTERVAL": None}),
    "report mode": (test_faults.test_report_mode_lets_pass_and_says_so, (), {"MODE": "enforce"}),
    "strangers": (
        test_entrance.test_nothing_of_the_application_is_run_for_a_stranger, (), {"ALLOW_ANONYMOUS": True},
    ),
}  # fmt: skip


@contextmanager
def fails_in_time() -> Iterator[None]:
    with pytest.raises((AssertionError, TimeoutError)):
        yield


@pytest.mark.parametrize("name", BY_PROGRAM)
async def test_a_program_fails_when_its_guard_is_switched_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, arguments, fixed = BY_PROGRAM[name]
    monkeypatch.setattr(drive, "PATIENCE", 1.0)
    for module in PROGRAMS:
        monkeypatch.setattr(module, "settings", Uncontrolled(**fixed))
    with fails_in_time():
        await program(*arguments)
    await drive.settle()


async def not_over(*_: Any) -> None:
    """No rate is exceeded."""


BY_PATCH: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[Part, ...]]] = {
    "handler rate": (test_faults.test_the_rate_of_a_handler_is_per_user, (), ((dispatch, "_over_rate", not_over),)),
    "handler cost": (test_faults.test_a_dear_message_costs_its_price, (), ((dispatch, "_over_rate", not_over),)),
    "permission": (test_faults.test_a_denied_message_leaves_the_socket_open, ("ask.denied",), (PERMISSION,)),
    "blocked address": (
        test_blocks.test_a_blocked_address_is_refused_in_every_spelling, (), ((Snapshot, "for_address", says(None)),),
    ),
    "blocked address behind a proxy": (
        test_blocks.test_a_block_follows_the_client_through_a_proxy, (), ((Snapshot, "for_address", says(None)),),
    ),
    "blocked user": (
        test_blocks.test_a_blocked_user_is_refused_whatever_the_credential, (), ((Snapshot, "for_user", says(None)),),
    ),
    "blocked while open": (
        test_blocks.test_open_sockets_of_the_blocked_are_cut, (), ((sweeping, "enforce_blocks", says(None)),),
    ),
    "expiry": (test_faults.test_a_socket_ends_with_its_token, (), ((sweeping, "next_act", says(None)),)),
    "expiry and leeway": (
        tokens.test_a_socket_ends_when_the_leeway_is_over, (), ((sweeping, "next_act", says(None)),),
    ),
    "keys": (
        test_store.test_keys_that_find_no_room_share_one_budget, (),
        ((test_store, "MemoryStore", partial(MemoryStore, max_keys=10**9)),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_PATCH)
async def test_a_program_fails_when_a_part_of_the_package_says_yes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, arguments, parts = BY_PATCH[name]
    with monkeypatch.context() as patch:
        patch.setattr(drive, "PATIENCE", 3.0)
        for part in parts:
            patch.setattr(*part)
        with fails_in_time():
            await program(*arguments)
        await drive.settle()


NAMES: dict[str, Callable[[str], str]] = {"all the same": lambda name: "room", "unchanged": lambda name: name}


@pytest.mark.parametrize("naming", NAMES.values(), ids=NAMES)
async def test_group_names_fail_when_nobody_hashes_them(
    naming: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "PATIENCE", 1.0)
    monkeypatch.setattr(membership, "group_name", naming)
    judge = Judge({})
    await test_faults.test_groups_of_any_name_deliver_to_their_members_only(judge)
    assert judge.failures
    await drive.settle()


async def test_faults_at_await_points_show_when_nobody_cleans_up(monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful: list[Any] = []
    discard = Registry.discard
    monkeypatch.setattr(Registry, "discard", lambda registry, connection: forgetful.append((registry, connection)))
    with fails_in_time():
        await test_await_points.test_whatever_fails_leaves_nothing_behind(Judge({}))
    assert forgetful
    for registry, connection in forgetful:
        discard(registry, connection)


async def test_a_large_token_shows_when_nobody_looks_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "MAX_TOKEN_BYTES", 1 << 30)
    with fails_in_time():
        await tokens.test_a_large_token_costs_no_cryptography(monkeypatch)
