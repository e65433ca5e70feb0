"""Checks of the CHANNELS_SECURE dict itself."""

from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, register
from django.core.exceptions import ImproperlyConfigured

from channels_secure.checks import catalogue as found
from channels_secure.conf import SETTING, Problem, Settings, find_problems, get_settings

_BY_KEY = {"ALLOWED_ORIGINS": found.WRONG_ORIGINS, "TRUSTED_PROXIES": found.WRONG_PROXIES}


def readable_settings() -> Settings | None:
    """The settings, or None when they are wrong, which one check has to say and the others need not repeat."""
    try:
        return get_settings()
    except ImproperlyConfigured:
        return None


@register(Tags.security)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Unknown keys and wrong values."""
    return [_report(problem) for problem in find_problems()]


def _report(problem: Problem) -> CheckMessage:
    check = found.UNKNOWN_KEY if problem.unknown else _BY_KEY.get(problem.key, found.WRONG_VALUE)
    message = problem.message if problem.key == SETTING else f"{SETTING}: {problem.message}"
    return check.report(message, hint=problem.hint)


@register(Tags.security)
def check_close_codes(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Close codes that Daphne raises on (autobahn sends 1000 and 3000 to 4999 only)."""
    settings = readable_settings()
    codes = {} if settings is None else settings.close_codes
    refused = sorted({code for code in codes.values() if code != 1000 and code < 3000})
    return [found.CODES_DAPHNE_CANNOT_SEND.report(", ".join(map(str, refused)))] if refused else []


@register(Tags.security)
def check_proxies(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A proxy that Django knows of and the package does not."""
    settings = readable_settings()
    if settings is None or settings.proxies.declared:
        return []
    signs = [name for name in ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST") if getattr(django_settings, name)]
    return [found.PROXY_NOT_DECLARED.report(" and ".join(signs))] if signs else []
