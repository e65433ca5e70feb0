"""The example's settings with django-unfold's admin, which no policy without inline scripts lets run."""

from config.settings import *  # type: ignore[import-not-found]  # noqa: F403 - the example is not on mypy's path here
from config.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = ["unfold", *INSTALLED_APPS]
MIDDLEWARE = [each for each in MIDDLEWARE if not each.startswith("config.csp")]
