"""`tests.settings` for a server process whose sessions are in the cache that environment variables name."""

import json
import os

from tests.settings import *  # noqa: F403 - the way in which Django's settings are extended

SESSION_ENGINE = "django.contrib.sessions.backends.cache"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["CHANNELS_SECURE_TEST_CACHE_URL"],
        "OPTIONS": json.loads(os.environ["CHANNELS_SECURE_TEST_CACHE_OPTIONS"]),
    }
}
