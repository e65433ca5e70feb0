"""The tests' settings in a project that uses django-unfold's admin: pytest --ds tests.unfold_settings tests/admin."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = ["unfold", *INSTALLED_APPS]
