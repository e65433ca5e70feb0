"""A program that changes something and ends: the others are told, also where the layer's server has a name."""

import subprocess
import sys
import time
from urllib.parse import urlsplit

from redis import Redis

PROGRAM = """
import sys, django
from django.conf import settings
layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [sys.argv[1]]}}
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "channels", "channels_secure"],
    CHANNEL_LAYERS={"default": layer}, SECRET_KEY="x" * 50,
)
django.setup()
from channels_secure.signals import policy_changed
from channels_secure.supervisor import push
policy_changed.send(None)
"""
MEMBER = "specific.test!program"


def test_a_program_that_ends_at_once_has_told_the_others(redis_url: str) -> None:
    url = f"redis://localhost:{urlsplit(redis_url).port}/0"
    with Redis.from_url(redis_url) as client:
        client.zadd("asgi:group:channels_secure.policy", {MEMBER: time.time()})
        try:
            done = subprocess.run([sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, timeout=60)  # noqa: PLW1510
            assert done.returncode == 0, done.stderr
            assert client.zcard("asgispecific.test!") == 1, done.stderr
        finally:
            client.delete("asgispecific.test!")
            client.zrem("asgi:group:channels_secure.policy", MEMBER)
