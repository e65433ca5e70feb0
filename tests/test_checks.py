"""Every system check, firing and silent."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.checks import CheckMessage, Error, Warning, run_checks  # noqa: A004 - Django's name
from django.core.checks.registry import registry
from pytest_django import Settings

from channels_secure import checks
from channels_secure.auth.tickets import TicketAuthenticator
from channels_secure.checks import consumers as consumer_checks
from channels_secure.checks import deployment, trail
from channels_secure.checks import stores as store_checks
from channels_secure.checks.consumers import check_consumers, declared_consumers
from channels_secure.checks.trail import check_spool
from channels_secure.codecs import FernetCodec
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.consumers.handlers import plan_of
from channels_secure.policy.handshake import Handshake

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "checks.md"
JWT = "channels_secure.auth.jwt.JWTAuthenticator"
SESSION = "channels_secure.auth.session.SessionAuthenticator"
TICKET = "channels_secure.auth.tickets.TicketAuthenticator"
AUDIT_KEY = "k" * 32


def found(*, deploy: bool = False) -> list[CheckMessage]:
    """What Django's own command would say about the package."""
    messages = run_checks(include_deployment_checks=deploy, databases=[])
    return [message for message in messages if str(message.id).startswith("channels_secure.")]


def codes(*, deploy: bool = False) -> set[str]:
    return {str(message.id).removeprefix("channels_secure.") for message in found(deploy=deploy)}


def deploy_codes() -> set[str]:
    return codes(deploy=True)


def message_of(code: str) -> CheckMessage:
    (message,) = [message for message in found(deploy=True) if message.id == f"channels_secure.{code}"]
    return message


@pytest.fixture(autouse=True)
def only_this_tests_consumers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the consumers of other test modules: a class lives on, and some of them are misdeclared on purpose."""
    older = declared_consumers()
    monkeypatch.setattr(consumer_checks, "declared_consumers", lambda: declared_consumers() - older)


urlpatterns: list[Any] = []


@pytest.fixture(autouse=True)
def without_endpoints(settings: Settings) -> None:
    """A project whose URLs are nobody's business."""
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def secure(settings: Settings) -> Settings:
    """A project that has nothing to mind, not even in production."""
    settings.SECURE_SSL_REDIRECT = True
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    settings.CHANNELS_SECURE = {
        "STORE": {"BACKEND": "example.SharedStore"},
        "TRUSTED_PROXIES": [],
        "AUDIT_KEY": AUDIT_KEY,
    }
    return settings


Versions = Callable[..., None]


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    """Put other versions before the installed ones: the metadata is read from `sys.path` in its order."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(**distributions: str) -> None:
        for name, version in distributions.items():
            folder = tmp_path / f"{name}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        PathFinder.invalidate_caches()

    return install


@pytest.fixture
def without_simplejwt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide simplejwt from imports, as where the extra was not installed."""
    monkeypatch.setitem(sys.modules, "rest_framework_simplejwt", None)
    monkeypatch.delitem(sys.modules, JWT.rpartition(".")[0], raising=False)


def test_a_sound_project_hears_nothing(secure: Settings) -> None:
    assert deploy_codes() == set()


def test_a_fresh_project_hears_of_production_only_when_it_deploys(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {}
    assert codes() == set()
    assert deploy_codes() == {"W021", "W022", "W025", "W026", "W027"}


# Settings ------------------------------------------------------------------------------------------------------------


def test_e001_an_unknown_key(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"ALLOWED_ORIGIN": []}
    assert codes() == {"E001"}
    message = message_of("E001")
    assert message.msg == "CHANNELS_SECURE: Unknown key 'ALLOWED_ORIGIN'."
    assert str(message.hint).startswith("Did you mean 'ALLOWED_ORIGINS'?")


def test_e002_a_wrong_value(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"MODE": "off", "MAX_CONNECTIONS": {"user": "ten"}}
    assert [str(message.id) for message in found()] == ["channels_secure.E002"] * 2
    secure.CHANNELS_SECURE = None
    assert message_of("E002").msg == "CHANNELS_SECURE must be a dict, not NoneType."


@pytest.mark.parametrize(
    "origins", ["*", ["*"], ["example.com"], ["https://ex\u00e4mple.com"], ["https://a.com/b"], [5]]
)
def test_e003_origins_that_are_none(secure: Settings, origins: Any) -> None:
    secure.CHANNELS_SECURE = {"ALLOWED_ORIGINS": origins}
    assert codes() == {"E003"}


def test_e003_is_silent_about_origins(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {
        "ALLOWED_ORIGINS": ["https://example.com", "https://*.example.com", "https://xn--exmple-cua.com"]
    }
    assert codes() == set()


@pytest.mark.parametrize("proxies", [["proxy.local"], ["0.0.0.0/0"], "10.0.0.1"])
def test_e004_proxies_that_are_none(secure: Settings, proxies: Any) -> None:
    secure.CHANNELS_SECURE = {"TRUSTED_PROXIES": proxies}
    assert codes() == {"E004"}


def test_e004_is_silent_about_proxies(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["10.0.0.0/8", "2001:db8::1", "unix"]}
    assert codes() == set()


def test_wrong_settings_are_said_once_and_no_other_check_fails_over_them(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"MODE": "off", "TOKEN_SOURCES": ["query"], "CLOSE_CODES": {"blocked": 1008}}
    assert deploy_codes() == {"E002"}


def test_w003_codes_that_daphne_cannot_send(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"CLOSE_CODES": {"blocked": 1008, "unauthenticated": 1008, "internal_error": 1011}}
    assert codes() == {"W003"}
    assert "1008, 1011" in message_of("W003").msg
    secure.CHANNELS_SECURE = {"CLOSE_CODES": {"blocked": 4008, "disconnected": 1000, "rate_limited": 3000}}
    assert codes() == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")), ("USE_X_FORWARDED_HOST", True)],
)
def test_w005_a_proxy_that_only_django_knows(secure: Settings, name: str, value: Any) -> None:
    setattr(secure, name, value)
    secure.CHANNELS_SECURE = {}
    assert codes() == {"W005"}
    assert name in message_of("W005").msg


@pytest.mark.parametrize(
    "keys", [{"TRUSTED_PROXIES": ["10.0.0.1"]}, {"TRUSTED_PROXIES": []}, {"TRUSTED_PROXY_COUNT": 1}]
)
def test_w005_is_silent_about_a_declared_proxy(secure: Settings, keys: dict[str, Any]) -> None:
    secure.USE_X_FORWARDED_HOST = True
    secure.CHANNELS_SECURE = keys
    assert codes() == set()


def test_w005_is_silent_where_django_knows_of_no_proxy(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {}
    assert codes() == set()


# Installation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"])
def test_e005_an_app_that_is_needed(secure: Settings, name: str) -> None:
    from channels_secure.checks.installation import check_apps

    # These need the others themselves.
    left_out = {name, "django.contrib.admin", "rest_framework_simplejwt.token_blacklist"}
    secure.INSTALLED_APPS = [app for app in secure.INSTALLED_APPS if app not in left_out]
    (message,) = check_apps(None)
    assert (message.id, message.msg) == ("channels_secure.E005", f"INSTALLED_APPS lacks {name!r}.")


def test_e005_is_silent_about_sessions_that_are_kept_elsewhere(secure: Settings) -> None:
    from channels_secure.checks.installation import check_apps

    secure.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    secure.INSTALLED_APPS = [app for app in secure.INSTALLED_APPS if app != "django.contrib.sessions"]
    assert check_apps(None) == []


def test_w001_channels_is_not_listed(secure: Settings) -> None:
    from channels_secure.checks.installation import check_apps

    secure.INSTALLED_APPS = [app for app in secure.INSTALLED_APPS if app != "channels"]
    assert [message.id for message in check_apps(None)] == ["channels_secure.W001"]


HASTY: list[Any] = [
    None,
    [],
    ["redis://localhost"],
    [("localhost", 6379)],
    [{"address": "redis://localhost"}],
    [{"address": "redis://localhost", "socket_timeout": 5}],
    ["redis://localhost?socket_timeout=5"],
    ["redis://localhost?socket_timeout=x"],
    ["redis://localhost?socket_timeout=60", "redis://other"],
]
PATIENT: list[Any] = [
    ["redis://localhost?socket_timeout=60"],
    [{"address": "redis://localhost", "socket_timeout": None}],
    [{"address": "redis://localhost", "socket_timeout": 15}],
    [{"host": "localhost", "port": 6379, "socket_timeout": None}],
]


def redis_layer(hosts: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": hosts}}}


@pytest.mark.parametrize("hosts", HASTY)
def test_e008_a_redis_client_that_ends_idle_consumers(secure: Settings, versions: Versions, hosts: Any) -> None:
    versions(redis="8.0.0", channels_redis="4.3.0")
    secure.CHANNEL_LAYERS = redis_layer(hosts)
    assert codes() == {"E008"}
    assert "redis-py 8.0.0" in message_of("E008").msg


@pytest.mark.parametrize("hosts", PATIENT)
def test_e008_is_silent_about_hosts_with_a_long_timeout(secure: Settings, versions: Versions, hosts: Any) -> None:
    versions(redis="8.1.0", channels_redis="4.3.0")
    secure.CHANNEL_LAYERS = redis_layer(hosts)
    assert codes() == set()


@pytest.mark.parametrize(("redis", "layer"), [("7.4.1", "4.3.0"), ("8.1.0", "4.3.1"), ("8.1.0", "5.0")])
def test_e008_is_silent_about_other_versions(secure: Settings, versions: Versions, redis: str, layer: str) -> None:
    versions(redis=redis, channels_redis=layer)
    secure.CHANNEL_LAYERS = redis_layer(None)
    assert codes() == set()


def test_e008_is_silent_about_other_layers(secure: Settings, versions: Versions) -> None:
    versions(redis="8.1.0", channels_redis="4.3.0")
    for backend in ("channels.layers.InMemoryChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer"):
        secure.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
        assert codes() == set()


# Credentials ---------------------------------------------------------------------------------------------------------


class Complete:
    async def authenticate(self, handshake: Handshake) -> None:
        return None


class Mute:
    pass


class Synchronous:
    def authenticate(self, handshake: Handshake) -> None:
        return None


class Demanding(Complete):
    def __init__(self, key: str) -> None:
        self.key = key


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such.module.Class", "cannot be imported"),
        (f"{__name__}.NoSuchClass", "cannot be imported"),
        ("NoDots", "cannot be imported"),
        (f"{__name__}.Mute", "has no method `authenticate`"),
        (f"{__name__}.PAGE", "has no method `authenticate`"),
        (f"{__name__}.Synchronous", "is not async"),
        (f"{__name__}.Demanding", "cannot be made without arguments"),
    ],
)
def test_e006_an_authenticator_that_cannot_be_used(secure: Settings, path: str, words: str) -> None:
    secure.CHANNELS_SECURE = {"AUTHENTICATORS": [SESSION, path]}
    assert codes() == {"E006"}
    assert repr(path) in message_of("E006").msg
    assert words in message_of("E006").msg


def test_e006_is_silent_about_authenticators(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"AUTHENTICATORS": [SESSION, JWT, f"{__name__}.Complete"]}
    assert codes() == set()


@pytest.mark.parametrize("keys", [{"AUTHENTICATORS": [JWT]}, {"TOKEN_SOURCES": ["header"]}])
def test_e007_tokens_without_simplejwt(secure: Settings, without_simplejwt: None, keys: dict[str, Any]) -> None:
    secure.CHANNELS_SECURE = keys
    assert codes() == {"E007"}
    assert next(iter(keys)) in message_of("E007").msg


@pytest.mark.parametrize(
    "keys", [{}, {"TOKEN_SOURCES": []}, {"AUTHENTICATORS": [SESSION], "TOKEN_SOURCES": ["header"]}]
)
def test_e007_is_silent_about_a_project_without_tokens(
    secure: Settings, without_simplejwt: None, keys: dict[str, Any]
) -> None:
    secure.CHANNELS_SECURE = keys
    assert codes() == set()


def test_w002_tokens_in_urls(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"TOKEN_SOURCES": ["header", "query"]}
    assert codes() == {"W002"}
    for keys in ({"TOKEN_SOURCES": ["header", "cookie"]}, {"TOKEN_SOURCES": ["query"], "AUTHENTICATORS": [SESSION]}):
        secure.CHANNELS_SECURE = keys
        assert codes() == set()


def test_w004_sessions_in_signed_cookies(secure: Settings) -> None:
    secure.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert codes() == {"W004"}
    secure.CHANNELS_SECURE = {"AUTHENTICATORS": [JWT]}
    assert codes() == set()


@pytest.mark.parametrize("keys", [{}, {"AUTHENTICATORS": [JWT], "TOKEN_SOURCES": ["cookie"]}])
def test_w006_cookies_that_count_without_an_origin(secure: Settings, keys: dict[str, Any]) -> None:
    secure.CHANNELS_SECURE = {"ALLOW_MISSING_ORIGIN": "always", **keys}
    assert codes() == {"W006"}
    secure.CHANNELS_SECURE = {"ALLOW_MISSING_ORIGIN": "token", **keys}
    assert codes() == set()


def test_w006_is_silent_where_no_cookie_counts(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"ALLOW_MISSING_ORIGIN": "always", "AUTHENTICATORS": [JWT]}
    assert codes() == set()


@pytest.mark.parametrize(
    ("code", "key", "bad", "good"),
    [
        ("W007", "TOKEN_TYPE_CLAIM", None, "kind"),
        (
            "W008",
            "AUTH_TOKEN_CLASSES",
            ["rest_framework_simplejwt.tokens.SlidingToken"],
            ["rest_framework_simplejwt.tokens.SlidingToken", "rest_framework_simplejwt.tokens.AccessToken"],
        ),
        ("W009", "AUTH_HEADER_NAME", "HTTP_X_ACCESS_TOKEN", "HTTP_AUTHORIZATION"),
    ],
)
def test_w007_to_w009_simplejwt_settings_that_do_not_fit(
    secure: Settings, code: str, key: str, bad: Any, good: Any
) -> None:
    secure.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True, key: bad}
    assert codes() == {code}
    secure.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True, key: good}
    assert codes() == set()


def test_w010_tickets_that_nobody_takes(secure: Settings) -> None:
    secure.ROOT_URLCONF = "tests.urls"
    secure.CHANNELS_SECURE = {
        **secure.CHANNELS_SECURE,
        "AUTHENTICATORS": [SESSION, "no.such.Class", f"{__name__}.found"],
    }
    assert "W010" in codes()
    assert "TicketAuthenticator" in str(message_of("W010").hint)


@pytest.mark.parametrize("path", [TICKET, f"{__name__}.OwnTickets"])
def test_w010_is_silent_where_tickets_are_taken(secure: Settings, path: str) -> None:
    secure.ROOT_URLCONF = "tests.urls"
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUTHENTICATORS": [SESSION, path]}
    assert codes() == set()


def test_w010_is_silent_about_defaults_and_about_tickets_that_a_project_issues_itself(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUTHENTICATORS": [TICKET]}
    assert codes() == set()
    secure.ROOT_URLCONF, secure.CHANNELS_SECURE = "tests.urls", {}
    assert "W010" not in codes()


class OwnTickets(TicketAuthenticator):
    """Tickets with something more to them."""


# Consumers -----------------------------------------------------------------------------------------------------------


def test_w012_a_message_that_cannot_be_told_from_others(secure: Settings) -> None:
    class Untagged(msgspec.Struct):
        text: str

    class Sending(SecureJsonConsumer):
        sends = (Untagged,)

    message = message_of("W012")
    assert message.obj is Sending
    assert "Untagged has neither a tag nor a member `type`" in message.msg


def test_w012_is_silent_about_messages_with_a_type(secure: Settings) -> None:
    class Tagged(msgspec.Struct, tag="chat.said", tag_field="type"):
        text: str

    class Sending(SecureJsonConsumer):
        sends = (Tagged,)

    assert Sending in declared_consumers()
    assert "W012" not in codes()


def test_e009_a_handler_without_a_schema(secure: Settings) -> None:
    class Misdeclared(SecureJsonConsumer):
        @handles("chat.say")
        async def say(self, message) -> None:  # type: ignore[no-untyped-def]  # this is what is wrong
            ...

    message = message_of("E009")
    assert codes() == {"E009"}
    assert message.obj is Misdeclared
    assert "Misdeclared.say" in message.msg
    assert "annotate" in message.msg


@pytest.mark.parametrize("name", ["ping", "pong", "refresh_token"])
def test_e009_a_handler_of_a_frame_that_is_the_packages(secure: Settings, name: str) -> None:
    class Greedy(SecureJsonConsumer):
        @handles(name)
        async def take(self, message: dict[str, Any]) -> None: ...

    assert codes() == {"E009"}
    assert message_of("E009").obj is Greedy


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (msgspec.defstruct("Lost", [("a", "Nowhere")]), "name 'Nowhere' is not defined"),
        (list[int], "a message is a JSON object"),
        (msgspec.defstruct("A", [], tag=True) | msgspec.defstruct("B", [], tag=True), "another `tag_field`"),
    ],
    ids=["unreadable", "no object", "tagged by type"],
)
def test_e009_a_schema_that_no_message_fits(secure: Settings, schema: Any, words: str) -> None:
    class Deaf(SecureJsonConsumer):
        async def take(self, message: Any) -> None: ...

    Deaf.take.__annotations__["message"] = schema
    Deaf.take = handles("chat.say")(Deaf.take)  # type: ignore[method-assign]
    message = message_of("E009")
    assert codes() == {"E009"}
    assert message.obj is Deaf
    assert "Deaf.take: " in message.msg
    assert words in message.msg
    assert "JSON objects have" in str(message.hint)


def test_e009_a_consumer_that_inherits_the_mistake_of_another(secure: Settings) -> None:
    class Greedy(SecureJsonConsumer):
        @handles("ping")
        async def take(self, message: dict[str, Any]) -> None: ...

    class Heir(Greedy):
        pass

    assert {message.obj for message in found()} == {Greedy, Heir}


def test_e009_is_silent_about_a_consumer_that_works(secure: Settings) -> None:
    class Fine(SecureJsonConsumer):
        @handles("chat.say", rate="5/10s", cost=2)
        async def say(self, message: dict[str, Any]) -> None: ...

    assert consumer_checks.declared_consumers() == {Fine}
    assert codes() == set()


class CodecWithoutMethods:
    pass


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (FernetCodec(), "has no keys"),
        (FernetCodec(keys=["not-a-key"]), "is not 32 bytes"),
        (FernetCodec, "is a class and not a codec"),
        (CodecWithoutMethods(), "has no `encode`"),
        (None, "has no `encode`"),
    ],
    ids=["no keys", "bad key", "class", "no methods", "None"],
)
def test_e013_a_codec_that_cannot_work(secure: Settings, chosen: Any, words: str) -> None:
    class Encrypted(SecureJsonConsumer):
        codec = chosen

    message = message_of("E013")
    assert codes() == {"E013"}
    assert message.obj is Encrypted
    assert words in message.msg
    assert "not-a-key" not in str(message)


def test_e013_a_codec_without_its_extra(secure: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Encrypted(SecureJsonConsumer):
        codec = FernetCodec(keys=["A" * 43 + "="])

    assert codes() == set()
    plan_of.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert "pip install channels-secure[encryption]" in message_of("E013").msg


def test_wrong_settings_keep_the_check_of_consumers_silent(secure: Settings) -> None:
    class Misdeclared(SecureJsonConsumer):
        @handles("ping")
        async def take(self, message: dict[str, Any]) -> None: ...

    assert [message.obj for message in check_consumers(None)] == [Misdeclared]
    secure.CHANNELS_SECURE = {"MODE": "off"}
    assert check_consumers(None) == []


# The store -----------------------------------------------------------------------------------------------------------

REDIS_STORE = "channels_secure.stores.redis.RedisStore"


def test_e010_a_store_whose_client_is_not_installed(secure: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = {"BACKEND": REDIS_STORE, "LOCATION": "redis://localhost:6379/0"}
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "STORE": store}
    assert deploy_codes() == set()
    monkeypatch.setattr(store_checks, "find_spec", {"redis": None}.get)
    assert codes() == {"E010"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"LOCATION": "localhost:6379"},
        {"LOCATION": "redis://:secret@localhost:port"},
        {"LOCATION": "redis://:secret@localhost", "PREFIX": "{cs}"},
        {"LOCATION": "redis://:secret@localhost", "SOCKET_TIMEOUT": -1},
        {"LOCATION": "redis://:secret@localhost", "TIMEOUT": 1},
    ],
)
def test_e011_a_store_that_cannot_be_made(secure: Settings, options: dict[str, Any]) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "STORE": {"BACKEND": REDIS_STORE, **options}}
    assert codes() == {"E011"}
    assert "secret" not in str(message_of("E011"))


# Production ----------------------------------------------------------------------------------------------------------


def test_w020_report_mode(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "MODE": "report"}
    assert (codes(), deploy_codes()) == (set(), {"W020"})


def test_w021_the_memory_store(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {"TRUSTED_PROXIES": [], "AUDIT_KEY": AUDIT_KEY}
    assert (codes(), deploy_codes()) == (set(), {"W021"})


@pytest.mark.parametrize("layers", [{}, {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}])
def test_w022_no_layer_between_processes(secure: Settings, layers: dict[str, Any]) -> None:
    secure.CHANNEL_LAYERS = layers
    assert (codes(), deploy_codes()) == (set(), {"W022"})


VULNERABLE = [
    {"daphne": "4.2.1"},
    {"daphne": "4.1.2"},
    {"Django": "5.2.12"},
    {"Django": "6.0.3"},
    {"Django": "6.0"},
    {"djangorestframework_simplejwt": "5.5.0"},
    {"PyJWT": "2.14.9"},
    {"granian": "2.7.3"},
]
GOOD = [
    {"daphne": "4.2.2"},
    {"Django": "5.2.13"},
    {"Django": "6.0.4"},
    {"Django": "6.1"},
    {"djangorestframework_simplejwt": "5.5.1"},
    {"PyJWT": "2.15"},
    {"granian": "2.7.4"},
    {"granian": "10.0rc1"},
]


@pytest.mark.parametrize("installed", VULNERABLE, ids=str)
def test_w023_a_vulnerable_version(secure: Settings, versions: Versions, installed: dict[str, str]) -> None:
    versions(**installed)
    assert (codes(), deploy_codes()) == (set(), {"W023"})
    (version,) = installed.values()
    assert version in message_of("W023").msg
    assert "CVE-" in message_of("W023").msg
    assert str(message_of("W023").hint).startswith("The first good version is ")


@pytest.mark.parametrize("installed", GOOD, ids=str)
def test_w023_is_silent_about_good_versions(secure: Settings, versions: Versions, installed: dict[str, str]) -> None:
    versions(**installed)
    assert deploy_codes() == set()


def test_w023_is_silent_about_token_libraries_where_no_token_counts(secure: Settings, versions: Versions) -> None:
    versions(PyJWT="1.7.1", djangorestframework_simplejwt="4.0.0")
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUTHENTICATORS": [SESSION]}
    assert deploy_codes() == set()


def test_w024_access_tokens_that_live_long(secure: Settings) -> None:
    for lifetime, expected in ((timedelta(hours=2), {"W024"}), (timedelta(hours=1), set())):
        secure.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True, "ACCESS_TOKEN_LIFETIME": lifetime}
        assert (codes(), deploy_codes()) == (set(), expected)


def test_w025_access_tokens_that_outlive_the_password(secure: Settings) -> None:
    for simple_jwt in ({}, None, {"CHECK_REVOKE_TOKEN": False}):
        secure.SIMPLE_JWT = simple_jwt
        assert (codes(), deploy_codes()) == (set(), {"W025"})
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "TOKEN_SOURCES": []}
    assert deploy_codes() == set()


def test_w026_plain_transport(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "REQUIRE_WSS": False}
    assert (codes(), deploy_codes()) == (set(), {"W026"})


# The audit trail -----------------------------------------------------------------------------------------------------


@pytest.fixture
def spool(secure: Settings, tmp_path: Path) -> Path:
    """A folder that is as it should be."""
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    spool_in(secure, folder)
    return folder


def spool_in(secure: Settings, folder: Path | str) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUDIT_SPOOL_DIR": str(folder)}


def test_e012_and_w011_are_silent_about_a_folder_that_is_there_or_can_be_made(secure: Settings, spool: Path) -> None:
    assert deploy_codes() == set()
    spool_in(secure, spool / "to" / "be" / "made")
    assert deploy_codes() == set()
    assert not (spool / "to").exists()


def test_e012_a_spool_that_cannot_be(secure: Settings, spool: Path) -> None:
    for folder, words in (("var/spool", "not an absolute path"), (spool / "file" / "spool", "leads through a file")):
        (spool / "file").touch()
        spool_in(secure, folder)
        assert codes() == {"E012"}
        assert words in message_of("E012").msg


def test_e012_a_spool_that_the_server_may_not_write(secure: Settings, spool: Path) -> None:
    spool.chmod(0o500)
    for folder, words in ((spool, "cannot be written"), (spool / "deeper", "cannot be made in")):
        spool_in(secure, folder)
        with somebody_ordinary(spool):
            (message,) = check_spool(None)
        assert message.id == "channels_secure.E012"
        assert words in message.msg


@contextmanager
def somebody_ordinary(folder: Path) -> Iterator[None]:
    """Be a user who is bound by permissions, which root is not, and to whom a folder belongs."""
    if os.geteuid():
        yield
        return
    nobody = 65534
    os.chown(folder, nobody, nobody)
    for parent in folder.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
        if parent.name.startswith("pytest-of-"):
            break
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_e012_a_spool_that_everybody_may_write(secure: Settings, spool: Path) -> None:
    spool.chmod(0o1777)
    assert codes() == {"E012"}
    assert "spool events of their own" in message_of("E012").msg


def test_e012_a_platform_without_locks(secure: Settings, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "find_spec", {"fcntl": None}.get)
    assert codes() == {"E012"}
    assert "flock" in message_of("E012").msg


@pytest.mark.parametrize("mode", [0o704, 0o701, 0o755])
def test_w011_a_spool_that_everybody_may_read(spool: Path, mode: int) -> None:
    spool.chmod(mode)
    assert codes() == {"W011"}
    spool.chmod(0o750)
    assert codes() == set()


@pytest.mark.parametrize("name", ["MEDIA_ROOT", "STATIC_ROOT"])
def test_w011_a_spool_that_is_served(secure: Settings, spool: Path, name: str) -> None:
    setattr(secure, name, spool.parent)
    assert codes() == {"W011"}
    assert name in message_of("W011").msg
    setattr(secure, name, spool.parent / "elsewhere")
    assert codes() == set()


def test_w027_a_trail_without_a_key(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUDIT_KEY": None}
    assert (codes(), deploy_codes()) == (set(), {"W027"})
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUDIT_KEY": [AUDIT_KEY, "old"]}
    assert deploy_codes() == set()


@pytest.mark.parametrize("key", ["k" * 31, ["short", AUDIT_KEY]])
def test_w028_a_key_that_is_short(secure: Settings, key: Any) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUDIT_KEY": key}
    assert (codes(), deploy_codes()) == (set(), {"W028"})


def test_w028_a_key_that_serves_other_purposes_too(secure: Settings) -> None:
    secure.CHANNELS_SECURE = {**secure.CHANNELS_SECURE, "AUDIT_KEY": secure.SECRET_KEY}
    assert deploy_codes() == {"W028"}
    assert secure.SECRET_KEY not in str(message_of("W028"))


# The catalogue -------------------------------------------------------------------------------------------------------


def test_ids_are_distinct_and_well_formed() -> None:
    ids = [check.id for check in checks.CATALOGUE]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"channels_secure\.[EW]\d{3}", name) for name in ids)


def test_the_letter_of_an_id_says_how_grave_it_is() -> None:
    for check in checks.CATALOGUE:
        assert isinstance(check.report("x"), Error if check.code[0] == "E" else Warning)


@pytest.mark.parametrize("check", checks.CATALOGUE, ids=lambda check: check.code)
def test_every_check_is_documented_where_its_hint_says(check: checks.Check) -> None:
    page, _, anchor = re.search(r"See (\S+)\.$", str(check.report("x").hint))[1].partition("#")  # type: ignore[index]
    assert Path(page) == PAGE.relative_to(PAGE.parents[2])
    (row,) = [line for line in PAGE.read_text().splitlines() if f'<a id="{anchor}"></a>' in line]
    assert row.startswith(f'| <a id="{check.code.lower()}"></a>`{check.code}` | ')
    assert row.count(" | ") == 2


def test_nothing_else_is_documented_and_the_headings_are_right() -> None:
    text = PAGE.read_text()
    documented = re.findall(r"^\| <a id=\"\w+\"></a>`(\w+)`", text, re.MULTILINE)
    assert sorted(documented) == sorted(check.code for check in checks.CATALOGUE)
    production = text.partition("## Warnings for production")[2]
    assert set(re.findall(r"`(W\d+)` \|", production)) == {check.code for check in checks.CATALOGUE if check.deploy}


def test_every_check_has_a_test_here() -> None:
    source = Path(__file__).read_text()
    for check in checks.CATALOGUE:
        assert re.search(rf"def test_\w*{check.code.lower()}", source) or check.code == "W008"


def test_importing_the_package_registers_the_checks() -> None:
    ordinary = {check.__module__ for check in registry.get_checks() if check.__module__.startswith("channels_secure.")}
    with_deploy = {check.__module__ for check in registry.get_checks(include_deployment_checks=True)}
    assert {"channels_secure.checks.settings", "channels_secure.checks.installation"} <= ordinary
    assert deployment.__name__ in with_deploy - ordinary


def test_the_package_starts_and_is_checked_where_simplejwt_is_not_installed() -> None:
    source = (
        "import sys; sys.modules['rest_framework_simplejwt'] = sys.modules['jwt'] = None\n"
        "import django; django.setup(); from django.core.management import call_command; call_command('check')"
    )
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(PAGE.parents[2])}
    subprocess.run([sys.executable, "-c", source], env=environ, check=True, timeout=60)
