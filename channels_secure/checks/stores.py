"""Checks of the store that several processes share."""

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.core.exceptions import ImproperlyConfigured

from channels_secure.checks import catalogue as found
from channels_secure.checks.settings import readable_settings
from channels_secure.stores import make

REDIS = "channels_secure.stores.redis.RedisStore"


@register(Tags.compatibility)
def check_store(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Options with which the first handshake would fail; no server is asked, because checks also run without any."""
    settings = readable_settings()
    if settings is None or settings.store["BACKEND"] != REDIS:
        return []
    if find_spec("redis") is None:
        return [found.REDIS_NOT_INSTALLED.report()]
    try:
        make(settings.store)
    except ImproperlyConfigured as error:
        return [found.WRONG_STORE.report(str(error))]
    return []
