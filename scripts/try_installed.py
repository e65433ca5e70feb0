"""Use the installed distribution in a minimal project: import every module, run the checks, migrate.

Run by `check_distribution.py` with the Python of a clean environment, in isolated mode and with warnings as errors.
"""

import importlib
import importlib.resources
import pkgutil
import sys
from types import ModuleType

import django
from django.conf import settings
from django.core.management import call_command

# Each of these needs the optional dependency that it is there for.
NEEDS_AN_EXTRA = (
    "channels_secure.auth.jwt",
    "channels_secure.auth.revocable",
    "channels_secure.client",
    "channels_secure.codecs.fernet",
    "channels_secure.codecs.points",
    "channels_secure.consumers.pydantic_schemas",
    "channels_secure.metrics",
    "channels_secure.pytest_plugin",
    "channels_secure.stores.redis",
)

CONTEXT_PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]


def configure() -> None:
    urls = ModuleType("no_urls")
    urls.urlpatterns = []  # type: ignore[attr-defined]
    sys.modules["no_urls"] = urls
    settings.configure(
        SECRET_KEY="nobody signs anything with this key, it is only long enough",
        ROOT_URLCONF="no_urls",
        INSTALLED_APPS=[
            *(f"django.contrib.{app}" for app in ("admin", "auth", "contenttypes", "messages", "sessions")),
            "channels",
            "channels_secure",
            "channels_secure.rooms",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": CONTEXT_PROCESSORS},
            }
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def import_everything() -> int:
    import channels_secure

    if "site-packages" not in channels_secure.__file__:
        raise SystemExit(f"this is not the installed package: {channels_secure.__file__}")
    if not importlib.resources.files("channels_secure").joinpath("py.typed").is_file():
        raise SystemExit("py.typed is not installed")
    names = [module.name for module in pkgutil.walk_packages(channels_secure.__path__, "channels_secure.")]
    wanted = [name for name in names if not name.startswith(NEEDS_AN_EXTRA)]
    for name in wanted:
        importlib.import_module(name)
    return len(wanted)


def main() -> None:
    configure()
    count = import_everything()
    call_command("check")
    call_command("migrate", verbosity=0)
    print(f"the wheel's {count} modules import with the hard dependencies alone, and its migrations run")


if __name__ == "__main__":
    main()
