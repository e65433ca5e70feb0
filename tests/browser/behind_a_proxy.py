"""The example's settings behind a proxy on the same machine: so people have addresses, and not all the same one."""

from config.settings import *  # type: ignore[import-not-found]  # noqa: F403 - the example is not on mypy's path here
from config.settings import CHANNELS_SECURE

CHANNELS_SECURE = {**CHANNELS_SECURE, "TRUSTED_PROXIES": ["127.0.0.1"]}
