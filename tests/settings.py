"""The smallest Django project that has everything the package touches.

Read from the environment, so that the live servers started by `tests.live.servers` share the test run's database:

`DATABASE`                             `sqlite` (default) or `postgresql`
`CHANNELS_SECURE_TEST_DATABASE_URL`    where PostgreSQL is; filled in by `tests.conftest` when it starts one itself
`CHANNELS_SECURE_TEST_DATABASE_NAME`   the name of the test database, for child processes
`CHANNELS_SECURE_TEST_SETTINGS`        JSON that becomes the `CHANNELS_SECURE` setting, for child processes
`CHANNELS_SECURE_TEST_CHANNEL_LAYERS`  JSON that becomes the `CHANNEL_LAYERS` setting, for child processes
"""

import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.services import parse_database_url

TEST_DATABASE_FILE = Path(tempfile.gettempdir()) / f"channels-secure-tests-{os.getpid()}.sqlite3"


def sqlite_database() -> dict[str, Any]:
    # A file, not shared memory: threads and child processes must see the same rows, and shared memory answers "table is
    # locked" at once where a file in WAL mode waits.
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CHANNELS_SECURE_TEST_DATABASE_NAME", ":memory:"),
        "OPTIONS": {
            "timeout": 5,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
        },
        "TEST": {"NAME": str(TEST_DATABASE_FILE)},
    }


def postgresql_database() -> dict[str, Any]:
    parts = parse_database_url(os.environ.get("CHANNELS_SECURE_TEST_DATABASE_URL", "postgresql:///postgres"))
    name = os.environ.get("CHANNELS_SECURE_TEST_DATABASE_NAME", parts["NAME"])
    return {"ENGINE": "django.db.backends.postgresql", **parts, "NAME": name, "TEST": {"NAME": "test_channels_secure"}}


SECRET_KEY = "only-the-tests-use-this-key-so-it-may-stand-here"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "channels_secure",
    "channels_secure.rooms",
]
# A test shows how the package does where simplejwt is not installed.
if find_spec("rest_framework_simplejwt") is not None:
    INSTALLED_APPS.append("rest_framework_simplejwt.token_blacklist")
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": postgresql_database() if os.environ.get("DATABASE") == "postgresql" else sqlite_database(),
}
CHANNEL_LAYERS = json.loads(
    os.environ.get(
        "CHANNELS_SECURE_TEST_CHANNEL_LAYERS", '{"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}'
    )
)
CHANNELS_SECURE: dict[str, Any] = json.loads(os.environ.get("CHANNELS_SECURE_TEST_SETTINGS", "{}"))
