"""The settings: one dict, `CHANNELS_SECURE`, read once into one frozen, typed value.

`get_settings()` is cached and the cache is dropped when Django says that a setting changed, so nothing else may keep
a copy at import time. Consumers override the keys in `CONSUMER_KEYS` with lower-case class attributes.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from channels_secure import readers as read
from channels_secure.policy.addresses import Proxies
from channels_secure.policy.origins import OriginPolicy, default_patterns
from channels_secure.policy.rates import Rate

SETTING = "CHANNELS_SECURE"
CONSUMER_KEYS = frozenset(
    {
        "allow_anonymous",
        "message_rates",
        "max_connection_age",
        "max_message_size",
        "max_message_depth",
        "idle_timeout",
        "heartbeat_interval",
        "heartbeat_timeout",
        "send_hello",
        "error_budget",
        "handler_timeout",
        "send_timeout",
    }
)


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its default as a project would write it, and the reader that turns it into a typed value."""

    default: Any
    reader: Callable[[Any], Any]


KEYS: Mapping[str, Key] = {
    "ALLOWED_ORIGINS": Key(None, read.optional(read.strings)),
    "ALLOW_MISSING_ORIGIN": Key("token", read.choice("never", "token", "always")),
    "REQUIRE_WSS": Key(None, read.optional(read.boolean)),
    "ASSUME_WSS": Key(False, read.boolean),
    "TRUSTED_PROXIES": Key(None, read.optional(read.strings)),
    "TRUSTED_PROXY_COUNT": Key(None, read.optional(read.whole)),
    "CLIENT_IP_HEADER": Key("X-Forwarded-For", read.text),
    "IPV6_PREFIX": Key(64, read.whole_between(1, 128)),
    "AUTHENTICATORS": Key(None, read.optional(read.strings)),
    "ALLOW_ANONYMOUS": Key(False, read.boolean),
    "TOKEN_SOURCES": Key(["header", "subprotocol"], read.subset("header", "subprotocol", "cookie", "query")),
    "TOKEN_QUERY_NAME": Key("token", read.text),
    "TOKEN_COOKIE_NAME": Key("access_token", read.text),
    "TICKET_LIFETIME": Key(30, read.seconds),
    "TICKET_RATE": Key("30/m", read.optional(Rate.parse)),
    "REFRESH_RATE": Key("6/m", read.optional(Rate.parse)),
    "REVALIDATE_INTERVAL": Key(300, read.seconds),
    "REVALIDATE_GRACE": Key(300, read.seconds),
    "TOKEN_EXPIRY_WARNING": Key(60, read.seconds),
    "MAX_CONNECTION_AGE": Key(None, read.optional(read.seconds)),
    "STORE": Key({"BACKEND": "channels_secure.stores.memory.MemoryStore"}, read.store),
    "HANDSHAKE_RATES": Key({"ip": "60/m", "user": "30/m"}, read.rates("ip", "user")),
    "MESSAGE_RATES": Key({"connection": "20/s", "user": "600/m"}, read.rates("connection", "user", "ip")),
    "MAX_CONNECTIONS": Key({"user": 10, "ip": 50}, read.limits("user", "ip")),
    "CONNECTION_OVERFLOW": Key("reject", read.choice("reject", "close_oldest")),
    "MAX_MESSAGE_SIZE": Key(65536, read.whole),
    "MAX_MESSAGE_DEPTH": Key(32, read.whole_between(1, 500)),
    "IDLE_TIMEOUT": Key(1800, read.optional(read.seconds)),
    "HEARTBEAT_INTERVAL": Key(None, read.optional(read.seconds)),
    "HEARTBEAT_TIMEOUT": Key(10, read.seconds),
    "SEND_HELLO": Key(False, read.boolean),
    "ERROR_BUDGET": Key("20/m", read.optional(Rate.parse)),
    "AUTO_BLOCK_AFTER": Key("100/h", read.optional(Rate.parse)),
    "AUTO_BLOCK_DURATIONS": Key([3600, 14400, 86400], read.durations),
    "BLOCK_CONFIRM_SHARE": Key(0.1, read.share),
    "MODE": Key("enforce", read.choice("enforce", "report")),
    "REJECTION": Key("auto", read.choice("auto", "http")),
    "CLOSE_CODES": Key({}, read.close_codes),
    "HANDSHAKE_TIMEOUT": Key(4, read.seconds),
    "HANDLER_TIMEOUT": Key(30, read.optional(read.seconds)),
    "SEND_TIMEOUT": Key(5, read.seconds),
    "DISCONNECT_TIMEOUT": Key(5, read.seconds),
    "POLICY_REFRESH_INTERVAL": Key(1.0, read.seconds),
    "SNAPSHOT_MAX_STALE": Key(60, read.seconds),
    "AUDIT_ADMISSIONS": Key(True, read.boolean),
    "AUDIT_FLUSH_INTERVAL": Key(0.5, read.seconds),
    "AUDIT_QUEUE_SIZE": Key(10000, read.whole),
    "AUDIT_SPOOL_DIR": Key(None, read.optional(read.text)),
    "AUDIT_KEY": Key(None, read.secrets),
    "AUDIT_RETENTION_DAYS": Key(90, read.optional(read.whole)),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settings:
    """Every setting under its lower-case name, read and checked; see docs/reference/settings.md for what each does."""

    allowed_origins: list[str] | None
    allow_missing_origin: str
    require_wss: bool
    assume_wss: bool
    trusted_proxies: list[str] | None
    trusted_proxy_count: int | None
    client_ip_header: str
    ipv6_prefix: int
    authenticators: list[str] | None
    allow_anonymous: bool
    token_sources: tuple[str, ...]
    token_query_name: str
    token_cookie_name: str
    ticket_lifetime: float
    ticket_rate: Rate | None
    refresh_rate: Rate | None
    revalidate_interval: float
    revalidate_grace: float
    token_expiry_warning: float
    max_connection_age: float | None
    store: Mapping[str, Any]
    handshake_rates: Mapping[str, Rate]
    message_rates: Mapping[str, Rate]
    max_connections: Mapping[str, int]
    connection_overflow: str
    max_message_size: int
    max_message_depth: int
    idle_timeout: float | None
    heartbeat_interval: float | None
    heartbeat_timeout: float
    send_hello: bool
    error_budget: Rate | None
    auto_block_after: Rate | None
    auto_block_durations: tuple[float, ...]
    block_confirm_share: float
    mode: str
    rejection: str
    close_codes: Mapping[str, int]
    handshake_timeout: float
    handler_timeout: float | None
    send_timeout: float
    disconnect_timeout: float
    policy_refresh_interval: float
    snapshot_max_stale: float
    audit_admissions: bool
    audit_flush_interval: float
    audit_queue_size: int
    audit_spool_dir: str | None
    audit_key: tuple[str, ...]
    audit_retention_days: int | None
    origins: OriginPolicy
    proxies: Proxies

    @property
    def reports_only(self) -> bool:
        return self.mode == "report"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the settings, for a system check: the key, what is wrong, and what to write instead."""

    key: str
    message: str
    hint: str | None = None
    unknown: bool = False


def inspect(raw: Any) -> tuple[dict[str, Any], list[Problem]]:
    """Read every key of the project's dict; return the values by lower-case name and what is wrong with the rest."""
    if not isinstance(raw, Mapping):
        return {}, [Problem(SETTING, f"{SETTING} must be a dict, not {type(raw).__name__}.")]
    problems = [_unknown(key) for key in raw if key not in KEYS]
    values: dict[str, Any] = {}
    for name, key in KEYS.items():
        given = raw.get(name, key.default)
        if isinstance(key.default, dict) and isinstance(given, Mapping) and name != "STORE":
            given = {**key.default, **given}
        try:
            values[name.lower()] = key.reader(given)
        except (ValueError, TypeError) as error:
            problems.append(Problem(name, f"{name}: {error}."))
    return values, problems


def _unknown(key: Any) -> Problem:
    close = difflib.get_close_matches(str(key).upper(), KEYS, 1)
    return Problem(str(key), f"Unknown key {key!r}.", f"Did you mean {close[0]!r}?" if close else None, unknown=True)


def derive(values: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The values that follow from several settings together, Django's among them."""
    derived: dict[str, Any] = {}
    problems: list[Problem] = []
    if values["require_wss"] is None:
        derived["require_wss"] = bool(django_settings.SECURE_SSL_REDIRECT or django_settings.SESSION_COOKIE_SECURE)
    try:
        derived["origins"] = _origins(values["allowed_origins"], derived.get("require_wss", values["require_wss"]))
    except ValueError as error:
        problems.append(Problem("ALLOWED_ORIGINS", f"ALLOWED_ORIGINS: {error}."))
    try:
        derived["proxies"] = Proxies.from_settings(
            values["trusted_proxies"], values["client_ip_header"], values["trusted_proxy_count"]
        )
    except ValueError as error:
        problems.append(Problem("TRUSTED_PROXIES", f"CLIENT_IP_HEADER, TRUSTED_PROXY_COUNT, TRUSTED_PROXIES: {error}."))
    return derived, problems


def _origins(patterns: list[str] | None, require_wss: bool) -> OriginPolicy:
    if patterns is not None:
        return OriginPolicy.compile(patterns)
    return default_patterns(
        django_settings.ALLOWED_HOSTS, django_settings.CSRF_TRUSTED_ORIGINS, require_wss, django_settings.DEBUG
    )


def find_problems() -> list[Problem]:
    """What is wrong with the project's settings; empty when `get_settings()` will succeed."""
    values, problems = inspect(getattr(django_settings, SETTING, {}))
    if problems:
        return problems
    return derive(values)[1]


@cache
def get_settings() -> Settings:
    """The settings in force.

    Raises:
        ImproperlyConfigured: something is wrong with them; `manage.py check` says the same with an id and a hint.
    """
    values, problems = inspect(getattr(django_settings, SETTING, {}))
    if not problems:
        derived, problems = derive(values)
        values = {**values, **derived}
    if problems:
        raise ImproperlyConfigured(f"{SETTING}: " + " ".join(problem.message for problem in problems))
    return Settings(**values)


setting_changed.connect(lambda **_: get_settings.cache_clear(), weak=False, dispatch_uid="channels_secure.conf")
