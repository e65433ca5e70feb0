"""Checks of what is installed beside the package."""

import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, register

from channels_secure.checks import catalogue as found

# channels_redis waits this long in BZPOPMIN.
BLOCKING_SECONDS = 5


def version_of(distribution: str) -> tuple[int, ...] | None:
    """The release numbers of an installed distribution, None if it is not installed."""
    try:
        text = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, release[0].split("."))) if release else None


@register(Tags.compatibility)
def check_apps(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Applications whose models the package refers to, and Channels itself."""
    needed = ["django.contrib.contenttypes", "django.contrib.auth"]
    if django_settings.SESSION_ENGINE in {f"django.contrib.sessions.backends.{name}" for name in ("db", "cached_db")}:
        needed.append("django.contrib.sessions")
    missing = [found.APP_MISSING.report(repr(name)) for name in needed if not apps.is_installed(name)]
    return missing if apps.is_installed("channels") else [*missing, found.CHANNELS_NOT_LISTED.report()]


@register(Tags.compatibility)
def check_redis_client(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """redis-py 8 has a default socket timeout of five seconds, which channels_redis up to 4.3.0 does not expect."""
    client, layer = version_of("redis"), version_of("channels_redis")
    if client is None or layer is None or client < (8,) or layer > (4, 3, 0):
        return []
    layers = getattr(django_settings, "CHANNEL_LAYERS", {})
    if all(_is_patient(host) for config in layers.values() for host in _redis_hosts(config)):
        return []
    return [found.REDIS_TIMEOUT.report(metadata.version("redis"))]


def _redis_hosts(layer: Mapping[str, Any]) -> Iterator[Any]:
    # The pub/sub layer does not block on a list.
    if str(layer.get("BACKEND", "")).startswith("channels_redis.core."):
        yield from layer.get("CONFIG", {}).get("hosts") or ["redis://localhost:6379"]


def _is_patient(host: Any) -> bool:
    """Whether a host's configuration lets a command block for longer than channels_redis does."""
    options: Mapping[str, Any] = host if isinstance(host, Mapping) else {"address": host}
    if "socket_timeout" in options:
        timeout = options["socket_timeout"]
        return timeout is None or timeout > BLOCKING_SECONDS
    address = options.get("address")
    in_url = parse_qs(urlsplit(address).query).get("socket_timeout") if isinstance(address, str) else None
    try:
        return in_url is not None and float(in_url[0]) > BLOCKING_SECONDS
    except ValueError:
        return False
