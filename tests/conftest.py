"""What every test may ask for, and the rules that no test may break.

1. An `async def` test, and a test that starts a live server, needs `@pytest.mark.django_db(transaction=True)`: with a
   plain `django_db` the rows of an async test are committed for real and leak into the next test (pytest-django #580).
2. Nothing is skipped, save what needs Chromium or nginx on a machine that cannot have them; that is said loudly.
"""

import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker

from tests import services
from tests.browser.driver import find_chromium
from tests.live.servers import KINDS, LiveServer, ServerKind, ServerPool

# A shared machine's pauses are not failures, and a failure must be repeatable from the log alone.
hypothesis_settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("tests")

LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()


def find_nginx() -> str | None:
    """Return the path of nginx; Debian keeps it in /usr/sbin, which is not on every user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


PROGRAMS: dict[str, Callable[[], str | None]] = {"browser": find_chromium, "nginx": find_nginx}


# Rules ---------------------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}


def is_transactional(item: pytest.Item) -> bool:
    if {"transactional_db", "django_db_reset_sequences"} & set(getattr(item, "fixturenames", ())):
        return True
    marker = item.get_closest_marker("django_db")
    if marker is None:
        return False
    return bool(marker.kwargs.get("transaction", marker.args[0] if marker.args else False))


def uses_database(item: pytest.Item) -> bool:
    asked = {"db", "transactional_db", "django_db_reset_sequences"} & set(getattr(item, "fixturenames", ()))
    return item.get_closest_marker("django_db") is not None or bool(asked)


def commits_for_real(item: pytest.Item) -> bool:
    is_async = inspect.iscoroutinefunction(getattr(item, "obj", None))
    return is_async or bool({"server", "shared_server"} & set(getattr(item, "fixturenames", ())))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"server", "shared_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.live)
        if uses_database(item):
            item.add_marker(pytest.mark.database)
    wrong = [
        item.nodeid for item in items if uses_database(item) and commits_for_real(item) and not is_transactional(item)
    ]
    if wrong:
        listing = "\n  ".join(wrong)
        raise pytest.UsageError(
            f"these commit for real and need @pytest.mark.django_db(transaction=True):\n  {listing}"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, find in PROGRAMS.items():
        if item.get_closest_marker(mark) and find() is None:
            item.config.stash[LEFT_OUT].setdefault(mark, []).append(item.nodeid)
            pytest.skip(f"LEFT OUT: no {mark} can be had on this machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]  # hook wrappers are sent the result
    is_left_out = any(item.nodeid in names for names in item.config.stash[LEFT_OUT].values())
    if report.skipped and not hasattr(report, "wasxfail") and not is_left_out:
        report.outcome = "failed"
        report.longrepr = f"nothing is ever skipped here, but {item.nodeid} was: {report.longrepr}"
    return report  # type: ignore[return-value]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report: pytest.CollectReport = yield  # type: ignore[assignment]
    if report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"nothing is ever skipped here, but {collector.nodeid} was: {report.longrepr}"
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for mark, names in config.stash[LEFT_OUT].items():
        terminalreporter.section(
            f"LEFT OUT: {len(names)} tests need {mark}, which this machine lacks", red=True, bold=True
        )
        for name in names:
            terminalreporter.line(name, red=True)


# Servers beside the tests --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a real PostgreSQL server, whichever database the run itself uses."""
    with services.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a real Valkey or Redis server, shared by the session: a test uses a key prefix of its own."""
    with services.redis() as url:
        yield url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """Start PostgreSQL, when the run is to use it, just before pytest-django makes the test database."""
    if os.environ.get("DATABASE") != "postgresql":
        return
    url = request.getfixturevalue("postgresql_url")
    os.environ["CHANNELS_SECURE_TEST_DATABASE_URL"] = url  # for the live servers, which are child processes
    connections.settings["default"].update(services.parse_database_url(url))


def insistent(flush: Callable[[Any], None]) -> Callable[[Any], None]:
    """Try again where a live server's last rows and PostgreSQL's TRUNCATE waited for each other."""

    def flush_again(sql_list: Any) -> None:
        for _ in range(5):
            try:
                return flush(sql_list)
            except OperationalError as error:
                if "deadlock" not in str(error):
                    raise
        return flush(sql_list)

    return flush_again


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let tables be emptied beside a live server, and the database be dropped in the end."""
    connection.ops.execute_sql_flush = insistent(connection.ops.execute_sql_flush)  # type: ignore[method-assign]
    yield
    # What Django's async ORM left open in asgiref's one thread would hold up the drop.
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; only for tests marked `browser`."""
    path = find_chromium()
    if path is None:
        raise RuntimeError("mark the test `browser`: a fixture cannot leave it out loudly")
    return path


@pytest.fixture(scope="session")
def nginx() -> str:
    """The path of nginx; only for tests marked `nginx`."""
    path = find_nginx()
    if path is None:
        raise RuntimeError("mark the test `nginx`: a fixture cannot leave it out loudly")
    return path


# Live ASGI servers ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> ServerKind:
    """Run the test once on each server."""
    kind: ServerKind = request.param
    return kind


@pytest.fixture
def server(tmp_path: Path, django_db_setup: None) -> Iterator[Callable[..., LiveServer]]:
    """Start real servers for this test alone: `server(kind, app, settings={…}, environ={…}, arguments=[…])`."""
    with ServerPool(tmp_path) as pool:
        yield pool.start


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[ServerPool]:
    """The servers that are kept for the session: what they write may come after the test that made them do so."""
    with ServerPool(tmp_path_factory.mktemp("servers")) as pool:
        yield pool


@pytest.fixture(scope="session")
def shared_server(shared_servers: ServerPool) -> Callable[..., LiveServer]:
    """The same, kept for the session and shared by tests that ask for equal arguments: use your own address."""
    return shared_servers.shared


# People --------------------------------------------------------------------------------------------------------------


class MakeUser(Protocol):
    def __call__(self, username: str = ..., **fields: Any) -> User: ...


@pytest.fixture
def make_user() -> MakeUser:
    """Make users, from synchronous code; async tests ask for them before they begin, or use `acreate_user`."""

    def make(username: str = "alice", **fields: Any) -> User:
        return get_user_model().objects.create_user(username, **{"password": "correct horse", **fields})

    return make


@pytest.fixture
def user(make_user: MakeUser) -> User:
    """Alice, an ordinary user with the password `correct horse`."""
    return make_user()
