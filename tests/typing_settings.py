"""Settings for the type checker alone, which must know the example's modules beside the package's."""

import sys
from pathlib import Path

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "example_project"))

INSTALLED_APPS = [*INSTALLED_APPS, "chat"]
