"""The pytest plugin: every test begins with a process that remembers nothing. Loaded by its entry point."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def channels_secure_state() -> Iterator[None]:
    """Forget what the process knows, before a test and after it."""
    _reset()
    yield
    _reset()


def _reset() -> None:
    # Loaded in every project that has the package installed, also those whose tests know nothing of Django.
    if "channels_secure.conf" in sys.modules:
        from channels_secure.testing.state import reset

        reset()
