"""The settings of a deployed project: the tests' own, and over them those that the page on deploying prints."""

from typing import Any

from tests.live.pages import DEPLOY, blocks
from tests.settings import *  # noqa: F403
from tests.settings import CHANNELS_SECURE as WANTED_BY_A_TEST

CHANNELS_SECURE: dict[str, Any] = {}
exec(blocks(DEPLOY, "python")[0])
CHANNELS_SECURE |= WANTED_BY_A_TEST
