"""The tests' settings with the client's site in front, whatever database the run itself uses."""

import os

from tests.settings import *  # noqa: F403 - a settings module
from tests.settings import sqlite_database

ROOT_URLCONF = "tests.urls"
DATABASES = {"default": sqlite_database() | {"NAME": os.environ["CHANNELS_SECURE_TEST_DATABASE_NAME"]}}
