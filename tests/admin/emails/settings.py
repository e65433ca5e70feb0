"""The tests' settings with another user model, and a database in memory, for one process."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

AUTH_USER_MODEL = "emails.Person"
ROOT_URLCONF = "tests.admin.emails.urls"
INSTALLED_APPS = [
    *(app for app in INSTALLED_APPS if not app.startswith("rest_framework_simplejwt")),
    "tests.admin.emails",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
