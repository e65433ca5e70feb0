"""The example's settings: a laptop by default, a server through the environment.

`DJANGO_DEBUG=0`, `DJANGO_SECRET_KEY`, `DJANGO_ALLOWED_HOSTS` (comma separated), `DATABASE_URL`, `REDIS_URL`,
`AUDIT_KEY`, and `TRUSTED_PROXIES` (comma separated networks) when a proxy ends TLS.
"""

import os
from pathlib import Path
from typing import Any

from config.databases import database

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = os.environ.get("DJANGO_DEBUG", "1") != "0"
# Everybody knows this key, so nothing but a laptop may use it: without DEBUG a missing key is a KeyError.
DEVELOPMENT_KEY = "django-insecure-development-only-everybody-knows-this-key"
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", DEVELOPMENT_KEY) if DEBUG else os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = [host for host in os.environ.get("DJANGO_ALLOWED_HOSTS", "").split(",") if host]

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "channels_secure",
    "chat",
]

CHANNELS_SECURE: dict[str, Any] = {
    # `hello` tells the page that it was really let in: a refused browser sees its socket open first, too.
    "SEND_HELLO": True,
    # Without one, whoever can change the database can change the audit trail unseen.
    "AUDIT_KEY": os.environ.get("AUDIT_KEY"),
}
# The package's records are named after what happened; who and why stand in their attributes.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "websockets": {
            "()": "logging.Formatter",
            "fmt": "{asctime} {levelname} {message} reason={reason} user={username} ip={ip} path={path}",
            "style": "{",
            "defaults": {"reason": "", "username": "", "ip": "", "path": ""},
        },
    },
    "handlers": {"websockets": {"class": "logging.StreamHandler", "formatter": "websockets"}},
    "loggers": {"channels_secure": {"handlers": ["websockets"], "level": "INFO", "propagate": False}},
}
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
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

DATABASES = {"default": database(os.environ.get("DATABASE_URL") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if redis_url := os.environ.get("REDIS_URL"):
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [redis_url]}}}
    CHANNELS_SECURE["STORE"] = {"BACKEND": "channels_secure.stores.redis.RedisStore", "LOCATION": redis_url}
else:
    # Rates and connection limits are kept in memory, that is per process: right for the one process that this needs.
    SILENCED_SYSTEM_CHECKS = ["channels_secure.W021"]
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "UserAttributeSimilarityValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "rooms"
LOGOUT_REDIRECT_URL = "rooms"
REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}  # a new password ends the access tokens made with the old one

TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"

if not DEBUG:
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True

if proxies := os.environ.get("TRUSTED_PROXIES"):
    CHANNELS_SECURE["TRUSTED_PROXIES"] = proxies.split(",")
    # Only right behind a proxy that overwrites this header whatever the client sent.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
