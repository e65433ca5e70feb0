"""Checks for `manage.py check --deploy`: what a development machine may do and production should not."""

from collections.abc import Iterator
from datetime import timedelta
from importlib import metadata
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, register

from channels_secure.checks import catalogue as found
from channels_secure.checks.credentials import simplejwt_setting, takes_tokens
from channels_secure.checks.installation import version_of
from channels_secure.checks.settings import readable_settings

MEMORY = "channels_secure.stores.memory.MemoryStore"
IN_MEMORY_LAYERS = frozenset({"channels.layers.InMemoryChannelLayer"})
LONG_LIFETIME = timedelta(hours=1)

# Distribution, the branch it concerns, the first good version, why.
FLOORS: tuple[tuple[str, tuple[int, ...], tuple[int, ...], str], ...] = (
    ("daphne", (), (4, 2, 2), "CVE-2026-44545 and CVE-2026-44546: no message size limit, forged headers"),
    ("Django", (5, 2), (5, 2, 13), "CVE-2026-3902: forged headers"),
    ("Django", (6, 0), (6, 0, 4), "CVE-2026-3902: forged headers"),
    ("djangorestframework-simplejwt", (), (5, 5, 1), "CVE-2024-22513: tokens of disabled users"),
    ("PyJWT", (), (2, 15), "CVE-2026-32597 and later fixes: `crit` not checked, key confusion"),
    ("granian", (), (2, 7, 4), "CVE-2026-42544: a handshake ends the worker"),
)
_ONLY_FOR_TOKENS = frozenset({"PyJWT", "djangorestframework-simplejwt"})


@register(Tags.security, deploy=True)
def check_enforcement(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What is switched off or holds within one process only."""
    settings = readable_settings()
    if settings is None:
        return []
    messages = []
    if settings.reports_only:
        messages.append(found.REPORT_MODE.report())
    if settings.store["BACKEND"] == MEMORY:
        messages.append(found.MEMORY_STORE.report())
    if not settings.require_wss:
        messages.append(found.PLAIN_TRANSPORT.report())
    return [*messages, *_check_layers()]


def _check_layers() -> Iterator[CheckMessage]:
    layers = getattr(django_settings, "CHANNEL_LAYERS", {})
    if "default" not in layers:
        yield found.IN_MEMORY_LAYER.report("CHANNEL_LAYERS has no 'default'")
    for name, layer in layers.items():
        if layer.get("BACKEND") in IN_MEMORY_LAYERS:
            yield found.IN_MEMORY_LAYER.report(f"The channel layer {name!r} lives in each process's memory")


@register(Tags.security, deploy=True)
def check_versions(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Installed versions with published vulnerabilities that concern WebSockets."""
    floors = [floor for floor in FLOORS if floor[0] not in _ONLY_FOR_TOKENS or takes_tokens()]
    return [
        found.VULNERABLE_VERSION.report(
            f"{name} {metadata.version(name)} is vulnerable ({why})",
            hint=f"The first good version is {'.'.join(map(str, good))}.",
        )
        for name, branch, good, why in floors
        if (version := version_of(name)) is not None and version[: len(branch)] == branch and version < good
    ]


@register(Tags.security, deploy=True)
def check_token_lifetime(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Access tokens that last too long to be given up for lost."""
    if not takes_tokens():
        return []
    messages = []
    lifetime = simplejwt_setting("ACCESS_TOKEN_LIFETIME")
    if isinstance(lifetime, timedelta) and lifetime > LONG_LIFETIME:
        messages.append(found.LONG_ACCESS_TOKENS.report(str(lifetime)))
    if simplejwt_setting("CHECK_REVOKE_TOKEN") is not True:
        messages.append(found.PASSWORD_KEEPS_TOKENS.report())
    return messages
