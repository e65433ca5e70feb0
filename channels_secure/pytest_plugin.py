"""The pytest plugin: every test begins with a process that remembers nothing, and a few fixtures. An entry point."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

# Loaded in every project that has the package installed, also where there is no Django: nothing else is imported here.
from channels_secure.resetting import reset

if TYPE_CHECKING:
    from channels_secure.testing import SecureCommunicator

Open = Callable[..., "SecureCommunicator"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget what the process knows before a test."""
    reset()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """And after it, before its fixtures end: a row still being written when Django empties the tables is a deadlock."""
    reset()


@pytest.fixture
def secure_communicator() -> Open:
    """Open a socket of the project: `secure_communicator("/ws/chat/lobby/", user=alice)`.

    The application is that of ASGI_APPLICATION unless `application=` says otherwise; the other options are those of
    `channels_secure.testing.SecureCommunicator`.
    """
    from channels.routing import get_default_application

    from channels_secure.testing import SecureCommunicator

    def open_socket(path: str = "/", *, application: Any = None, **options: Any) -> SecureCommunicator:
        return SecureCommunicator(application or get_default_application(), path, **options)

    return open_socket


@pytest.fixture
def as_user(secure_communicator: Open) -> Callable[..., Open]:
    """`secure_communicator` for one person: `alice = as_user(user)`, and then `alice("/ws/chat/lobby/")`."""

    def open_as(user: Any, **options: Any) -> Open:
        return lambda path="/", **more: secure_communicator(path, **{"user": user, **options, **more})

    return open_as


@pytest.fixture
def unlimited() -> Iterator[None]:
    """No rates and limits of the settings, for tests about something else."""
    from channels_secure.testing import unlimited as without_limits

    with without_limits():
        yield
