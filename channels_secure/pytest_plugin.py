"""The pytest plugin: every test begins with a process that remembers nothing. Loaded by its entry point."""

import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget what the process knows before a test."""
    _reset()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """And after it, before its fixtures end: a row still being written when Django empties the tables is a deadlock."""
    _reset()


def _reset() -> None:
    # Loaded in every project that has the package installed, also those whose tests know nothing of Django.
    if "channels_secure.conf" in sys.modules:
        from channels_secure.testing.state import reset

        reset()
