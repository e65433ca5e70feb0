"""System checks: what is wrong with a project's settings, and with `--deploy` what only production has to mind.

Importing the package registers them. Ids are stable; docs/reference/checks.md says what to do about each.
"""

from channels_secure.checks import (  # noqa: F401 - they register
    consumers,
    credentials,
    deployment,
    installation,
    settings,
    stores,
    trail,
)
from channels_secure.checks.catalogue import CATALOGUE, Check

__all__ = ["CATALOGUE", "Check"]
