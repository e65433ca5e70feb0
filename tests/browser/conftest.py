"""A Chromium for the folder, and a running example of its own for every test."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.driver import Browser, has_playwright
from tests.browser.example import (
    Example,
    Server,
    Visitors,
    chromium_at,
    copy_database,
    daphne,
    open_sessions,
    running_example,
    seed,
)
from tests.conftest import LEFT_OUT


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and not has_playwright():
        item.config.stash[LEFT_OUT].setdefault("playwright", []).append(item.nodeid)
        pytest.skip("LEFT OUT: playwright is not installed")


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium: Playwright's event loop must be gone before another folder's async tests start theirs."""
    with chromium_at(chromium) as browser:
        yield browser


@pytest.fixture(scope="package")
def seeded_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("seed") / "db.sqlite3"
    seed(database)
    return database


@pytest.fixture(scope="package")
def sessions(seeded_database: Path) -> dict[str, str]:
    return open_sessions(seeded_database)


@pytest.fixture
def example(
    request: pytest.FixtureRequest, seeded_database: Path, sessions: dict[str, str], tmp_path: Path
) -> Iterator[Example]:
    """An example of the test's own, so that no test inherits another's rates and blocks; its log must stay clean.

    On Daphne, unless the test is parametrized with `ON_EACH_SERVER`.
    """
    with clean_example(seeded_database, tmp_path, getattr(request, "param", daphne)) as running:
        yield running


@pytest.fixture(scope="module")
def shared_example(
    request: pytest.FixtureRequest,
    seeded_database: Path,
    sessions: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Example]:
    """The same for tests that leave nothing behind."""
    server: Server = getattr(request, "param", daphne)
    with clean_example(seeded_database, tmp_path_factory.mktemp("example"), server) as running:
        yield running


@contextlib.contextmanager
def clean_example(seeded_database: Path, directory: Path, server: Server = daphne) -> Iterator[Example]:
    database = copy_database(seeded_database, directory / "db.sqlite3")
    with running_example(database, directory / "server.log", server=server) as running:
        yield running
    assert running.complaints() == []


@pytest.fixture
def visitors(browser: Browser, example: Example, sessions: dict[str, str]) -> Iterator[Visitors]:
    """People with browsers; whatever a test does, no page raises and no policy is violated."""
    people = Visitors(browser=browser, example=example, sessions=sessions)
    yield people
    people.leave()
    assert people.errors == []
    assert people.violations() == []
