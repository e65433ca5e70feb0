"""The example's settings with access tokens that last some seconds, so that a test sees them renewed."""

from datetime import timedelta

from config.settings import *  # type: ignore[import-not-found]  # noqa: F403 - the example is not on mypy's path here
from config.settings import CHANNELS_SECURE, SIMPLE_JWT

SIMPLE_JWT = {**SIMPLE_JWT, "ACCESS_TOKEN_LIFETIME": timedelta(seconds=6)}
CHANNELS_SECURE = {**CHANNELS_SECURE, "TOKEN_EXPIRY_WARNING": 4}
