"""The settings dict: defaults, what is refused and in which words, and that nobody keeps an old copy."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings as SettingsFixture

from channels_secure.conf import CONSUMER_KEYS, KEYS, Settings, find_problems, get_settings, inspect
from channels_secure.policy.origins import parse_origin
from channels_secure.policy.rates import Rate

# As in the documentation's table of settings.
DEFAULTS: dict[str, Any] = {
    "allowed_origins": None,
    "allow_missing_origin": "token",
    "assume_wss": False,
    "trusted_proxies": None,
    "trusted_proxy_count": None,
    "client_ip_header": "X-Forwarded-For",
    "ipv6_prefix": 64,
    "authenticators": None,
    "allow_anonymous": False,
    "token_sources": ("header", "subprotocol"),
    "token_query_name": "token",
    "token_cookie_name": "access_token",
    "ticket_lifetime": 30.0,
    "ticket_rate": Rate(30, 60),
    "refresh_rate": Rate(6, 60),
    "revalidate_interval": 300.0,
    "revalidate_grace": 300.0,
    "token_expiry_warning": 60.0,
    "max_connection_age": None,
    "store": {"BACKEND": "channels_secure.stores.memory.MemoryStore"},
    "handshake_rates": {"ip": Rate(60, 60), "user": Rate(30, 60)},
    "message_rates": {"connection": Rate(20, 1), "user": Rate(600, 60)},
    "max_connections": {"user": 10, "ip": 50},
    "connection_overflow": "reject",
    "max_message_size": 65536,
    "max_message_depth": 32,
    "idle_timeout": 1800.0,
    "heartbeat_interval": None,
    "heartbeat_timeout": 10.0,
    "send_hello": False,
    "error_budget": Rate(20, 60),
    "auto_block_after": Rate(100, 3600),
    "auto_block_durations": (3600.0, 14400.0, 86400.0),
    "block_confirm_share": 0.1,
    "mode": "enforce",
    "rejection": "auto",
    "close_codes": {},
    "handshake_timeout": 4.0,
    "handler_timeout": 30.0,
    "send_timeout": 5.0,
    "disconnect_timeout": 5.0,
    "policy_refresh_interval": 1.0,
    "snapshot_max_stale": 60.0,
    "audit_admissions": True,
    "audit_flush_interval": 0.5,
    "audit_queue_size": 10000,
    "audit_spool_dir": None,
    "audit_key": (),
    "audit_retention_days": 90,
}


def read(**keys: Any) -> Settings:
    with override_settings(CHANNELS_SECURE=keys):
        return get_settings()


def complaint(**keys: Any) -> str:
    """The one thing that is wrong with these keys."""
    with override_settings(CHANNELS_SECURE=keys):
        (problem,) = find_problems()
        with pytest.raises(ImproperlyConfigured) as raised:
            get_settings()
    assert problem.message in str(raised.value)
    return problem.message


# Values --------------------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_documented_ones() -> None:
    settings = read()
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert {name.lower() for name in KEYS} - set(DEFAULTS) == {"require_wss"}


def test_a_project_without_the_dict_gets_the_defaults(settings: SettingsFixture) -> None:
    del settings.CHANNELS_SECURE
    assert get_settings().mode == "enforce"
    assert find_problems() == []


def test_every_key_that_consumers_override_is_a_setting() -> None:
    assert {name.upper() for name in CONSUMER_KEYS} <= set(KEYS)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        get_settings().mode = "report"  # type: ignore[misc]


def test_a_changed_setting_counts_at_once_and_the_same_settings_are_read_once(settings: SettingsFixture) -> None:
    settings.CHANNELS_SECURE = {"MODE": "report"}
    assert get_settings().reports_only
    settings.CHANNELS_SECURE = {}
    assert not get_settings().reports_only
    assert get_settings() is get_settings()


def test_given_keys_of_a_dict_are_laid_over_the_defaults() -> None:
    settings = read(MESSAGE_RATES={"user": "5/10s", "ip": "1/h"}, MAX_CONNECTIONS={"ip": None})
    assert settings.message_rates == {"connection": Rate(20, 1), "user": Rate(5, 10), "ip": Rate(1, 3600)}
    assert settings.max_connections == {"user": 10}


def test_none_switches_a_rate_off() -> None:
    settings = read(HANDSHAKE_RATES={"ip": None, "user": None}, ERROR_BUDGET=None, AUTO_BLOCK_AFTER=None)
    assert (settings.handshake_rates, settings.error_budget, settings.auto_block_after) == ({}, None, None)


def test_the_store_is_taken_whole() -> None:
    store = {"BACKEND": "example.Store", "LOCATION": "somewhere"}
    assert read(STORE=store).store == store


def test_token_sources_keep_the_projects_order_and_stand_once() -> None:
    assert read(TOKEN_SOURCES=["query", "header", "query"]).token_sources == ("query", "header")


@pytest.mark.parametrize(
    ("redirect", "cookie", "given_value", "required"),
    [
        (False, False, None, False),
        (True, False, None, True),
        (False, True, None, True),
        (True, True, False, False),
        (False, False, True, True),
    ],
)
def test_wss_is_required_where_the_rest_of_the_project_is_secure(
    settings: SettingsFixture, redirect: bool, cookie: bool, given_value: bool | None, required: bool
) -> None:
    settings.SECURE_SSL_REDIRECT, settings.SESSION_COOKIE_SECURE = redirect, cookie
    settings.CHANNELS_SECURE = {"REQUIRE_WSS": given_value}
    assert get_settings().require_wss is required


def test_the_origins_follow_django_where_none_are_given(settings: SettingsFixture) -> None:
    settings.ALLOWED_HOSTS = ["chat.example.com"]
    allows = get_settings().origins.allows
    https, http = parse_origin("https://chat.example.com"), parse_origin("http://chat.example.com")
    assert https is not None
    assert http is not None
    assert allows(https, host=None, secure=True)
    assert allows(http, host=None, secure=False)
    settings.SECURE_SSL_REDIRECT = True
    assert not get_settings().origins.allows(http, host=None, secure=False)
    settings.CHANNELS_SECURE = {"ALLOWED_ORIGINS": ["https://other.example.com"]}
    assert not get_settings().origins.allows(https, host=None, secure=True)


def test_the_proxies_are_compiled() -> None:
    assert read().proxies.declared is False
    assert read(TRUSTED_PROXIES=[]).proxies.declared is True
    assert read(TRUSTED_PROXIES=["10.0.0.0/8", "unix"]).proxies.unix is True
    assert read(TRUSTED_PROXY_COUNT=2).proxies.count == 2


# Problems ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, [], "x", 5, {"a"}])
def test_the_dict_must_be_one(value: object) -> None:
    with override_settings(CHANNELS_SECURE=value):
        (problem,) = find_problems()
    assert problem.message.startswith("CHANNELS_SECURE must be a dict, not ")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("ALLOWED_ORIGIN", "ALLOWED_ORIGINS"),
        ("allowed_origins", "ALLOWED_ORIGINS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("MESSAGE_RATE", "MESSAGE_RATES"),
    ],
)
def test_an_unknown_key_is_a_problem_with_a_suggestion(key: str, suggestion: str) -> None:
    with override_settings(CHANNELS_SECURE={key: 1}):
        (problem,) = find_problems()
    assert (problem.unknown, problem.hint) == (True, f"Did you mean {suggestion!r}?")


@pytest.mark.parametrize("key", ["ZZZZZ", 5, None, ("A",)])
def test_an_unknown_key_that_resembles_nothing_is_a_problem_without_one(key: object) -> None:
    with override_settings(CHANNELS_SECURE={key: 1}):
        (problem,) = find_problems()
    assert (problem.unknown, problem.hint) == (True, None)


WRONG: list[tuple[str, Any, str]] = [
    ("ALLOWED_ORIGINS", "*", "must be a list of strings"),
    ("ALLOWED_ORIGINS", ["*"], "list the origins"),
    ("ALLOWED_ORIGINS", ["example.com"], "write scheme and host"),
    ("ALLOWED_ORIGINS", ["wss://example.com"], "http or https"),
    ("ALLOWED_ORIGINS", ["https://ex\u00e4mple.com"], "xn--"),
    ("ALLOWED_ORIGINS", ["https://example.com/path"], "with nothing after"),
    ("ALLOWED_ORIGINS", [5], "must be a list of strings"),
    ("ALLOW_MISSING_ORIGIN", "allways", "must be one of 'never', 'token', 'always', not 'allways'"),
    ("ALLOW_MISSING_ORIGIN", ["token"], "must be one of"),
    ("REQUIRE_WSS", "yes", "must be True or False, not 'yes'"),
    ("ASSUME_WSS", None, "must be True or False, not None"),
    ("TRUSTED_PROXIES", "10.0.0.1", "must be a list of strings"),
    ("TRUSTED_PROXIES", ["proxy.local"], "is not an IP address or network"),
    ("TRUSTED_PROXIES", ["0.0.0.0/0"], "trusts everyone"),
    ("TRUSTED_PROXIES", ["*"], "is not a network"),
    ("TRUSTED_PROXY_COUNT", 65, "is not a number of proxies"),
    ("TRUSTED_PROXY_COUNT", 0, "whole number of at least 1"),
    ("TRUSTED_PROXY_COUNT", True, "whole number of at least 1"),
    ("CLIENT_IP_HEADER", "", "must be a non-empty string"),
    ("CLIENT_IP_HEADER", "Forwarded", "is not a header that lists addresses"),
    ("IPV6_PREFIX", 129, "must be between 1 and 128"),
    ("AUTHENTICATORS", "path", "must be a list of strings"),
    ("TOKEN_SOURCES", ["header", "body"], "must be one of"),
    ("TOKEN_SOURCES", "header", "must be a list of strings"),
    ("TICKET_RATE", "30", "is not a rate"),
    ("TICKET_RATE", 30, "is not a rate"),
    ("REFRESH_RATE", "6/w", "is not a rate"),
    ("HANDSHAKE_RATES", {"connection": "1/s"}, "unknown key 'connection'"),
    ("HANDSHAKE_RATES", "60/m", "must be a dict with the keys 'ip', 'user'"),
    ("MESSAGE_RATES", {"user": 5}, "is not a rate"),
    ("MAX_CONNECTIONS", {"user": 0}, "whole number of at least 1"),
    ("MAX_CONNECTIONS", {"room": 5}, "unknown key 'room'"),
    ("CONNECTION_OVERFLOW", "close", "must be one of"),
    ("MAX_MESSAGE_SIZE", "64k", "whole number of at least 1"),
    ("MAX_MESSAGE_SIZE", 1.5, "whole number of at least 1"),
    ("MAX_MESSAGE_DEPTH", 501, "must be between 1 and 500"),
    ("IDLE_TIMEOUT", 0, "must be a number of seconds above 0"),
    ("IDLE_TIMEOUT", float("nan"), "must be a number of seconds above 0"),
    ("IDLE_TIMEOUT", float("inf"), "must be a number of seconds above 0"),
    ("IDLE_TIMEOUT", True, "must be a number of seconds above 0"),
    ("HEARTBEAT_TIMEOUT", None, "must be a number of seconds above 0"),
    ("AUTO_BLOCK_DURATIONS", [], "at least one number of seconds"),
    ("AUTO_BLOCK_DURATIONS", [60, -1], "must be a number of seconds above 0"),
    ("BLOCK_CONFIRM_SHARE", 1.5, "must be a number from 0 to 1"),
    ("BLOCK_CONFIRM_SHARE", "10%", "must be a number from 0 to 1"),
    ("BLOCK_CONFIRM_SHARE", True, "must be a number from 0 to 1"),
    ("BLOCK_CONFIRM_SHARE", float("nan"), "must be a number from 0 to 1"),
    ("MODE", "off", "must be one of 'enforce', 'report', not 'off'"),
    ("REJECTION", "close", "must be one of 'auto', 'http'"),
    ("CLOSE_CODES", {"blockt": 4000}, "unknown reason 'blockt'"),
    ("CLOSE_CODES", {"blocked": 1006}, "is not a close code that may be sent"),
    ("CLOSE_CODES", {"blocked": 5000}, "is not a close code that may be sent"),
    ("CLOSE_CODES", {"blocked": True}, "is not a close code that may be sent"),
    ("CLOSE_CODES", [4000], "must be a dict of reason to close code"),
    ("STORE", {"LOCATION": "x"}, "must be a dict whose BACKEND is a dotted path"),
    ("AUDIT_KEY", 5, "must be a non-empty string, not int"),
    ("AUDIT_RETENTION_DAYS", 0.5, "whole number of at least 1"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=lambda value: str(value)[:30])
def test_a_wrong_value_is_a_problem_in_plain_words(key: str, value: Any, words: str) -> None:
    message = complaint(**{key: value})
    assert key in message.partition(":")[0]
    assert words in message


def test_all_wrong_values_are_named_at_once() -> None:
    with override_settings(CHANNELS_SECURE={"MODE": "off", "REJECTION": "x", "NO": 1}):
        assert {problem.key for problem in find_problems()} == {"MODE", "REJECTION", "NO"}


@pytest.mark.parametrize(
    "keys", [{"AUDIT_KEY": b"s3cret"}, {"STORE": {"LOCATION": "redis://:s3cret@localhost"}}, {"STORE": "s3cret"}]
)
def test_a_message_does_not_repeat_a_secret(keys: dict[str, Any]) -> None:
    assert "s3cret" not in complaint(**keys)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(sorted(KEYS)) | st.text(), anything, max_size=4))
def test_no_value_makes_the_reading_raise_anything_else(raw: dict[str, Any]) -> None:
    values, problems = inspect(raw)
    assert len(values) == len(KEYS) - len([problem for problem in problems if not problem.unknown])
