"""The people of the table, the log that must stay quiet, and the outcome of each case for the page."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from channels_secure.models import AuditEvent
from tests.conformance.visiting import Visit
from tests.conformance.world import World

# What servers and frameworks say when something went wrong that nobody caught.
FOREIGN_LOGGERS = ("asyncio", "channels:", "channels.", "daphne", "uvicorn", "django", "twisted")
OUTCOMES = pytest.StashKey[dict[str, dict[str, bool]]]()
OUTCOMES_FILE = "CONFORMANCE_OUTCOMES"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(id): the test is this row of the conformance table")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash.setdefault(OUTCOMES, {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    if OUTCOMES_FILE in os.environ:
        Path(os.environ[OUTCOMES_FILE]).write_text(json.dumps(session.config.stash[OUTCOMES]))


class Judge:
    """Runs the cases of one test and reports all that failed; `python -m tests.conformance` reads the outcomes."""

    def __init__(self, outcomes: dict[str, dict[str, bool]]) -> None:
        self.outcomes = outcomes
        self.failures: list[str] = []

    @contextmanager
    def case(self, name: str, driver: str) -> Iterator[None]:
        """One case; what goes wrong in it does not stop the others."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a crash is as much a failure as a wrong answer
            self.note(name, driver, passed=False)
            where = error.__traceback__
            while (
                where is not None
                and where.tb_next is not None
                and "conformance" in where.tb_next.tb_frame.f_code.co_filename
            ):
                where = where.tb_next
            line = where.tb_lineno if where is not None else 0
            self.failures.append(f"{name} ({driver}), line {line}: {type(error).__name__}: {str(error)[:1500]}")
        else:
            self.note(name, driver, passed=True)

    def note(self, name: str, driver: str, *, passed: bool) -> None:
        drivers = self.outcomes.setdefault(name, {})
        drivers[driver] = passed and drivers.get(driver, True)

    def close(self) -> None:
        if self.failures:
            pytest.fail(f"{len(self.failures)} cases failed:\n" + "\n".join(self.failures), pytrace=False)


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    judge = Judge(request.config.stash.setdefault(OUTCOMES, {}))
    yield judge
    judge.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that is one row says so by its mark."""
    report: pytest.TestReport = yield  # type: ignore[assignment]  # hook wrappers are sent the result
    mark = item.get_closest_marker("row")
    if mark is not None and (report.when == "call" or report.failed):
        kind = getattr(item, "callspec", None) and item.callspec.params.get("kind")  # type: ignore[attr-defined]
        driver = kind or "communicator"
        drivers = item.config.stash.setdefault(OUTCOMES, {}).setdefault(mark.args[0], {})
        drivers[driver] = report.passed and drivers.get(driver, True)
    return report  # type: ignore[return-value]


@pytest.fixture
def visit() -> Iterator[Visit]:
    visit = Visit()
    with visit.stack:
        yield visit


@pytest.fixture
def world(transactional_db: None) -> World:
    return World()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> "QuietLog":
    """Collects the log; the test says at its end what may stand in it."""
    caplog.set_level(logging.DEBUG)
    return QuietLog(caplog)


class QuietLog:
    """The log of one test, with everything that a formatter could make of a record."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    def take(self) -> str:
        """Everything logged since the last call, errors first checked for."""
        records = list(self.caplog.records)
        self.caplog.clear()
        errors = [f"{r.name}: {r.getMessage()}" for r in records if r.levelno >= logging.ERROR or r.exc_info]
        assert not errors, errors
        return "\n".join(f"{record.getMessage()} {vars(record)}" for record in records)

    def errors(self) -> list[str]:
        return [
            f"{record.name}: {record.getMessage()}"
            for record in self.caplog.records
            if record.levelno >= logging.ERROR or record.exc_info
        ]

    def foreign_errors(self) -> list[str]:
        return [line for line in self.errors() if line.startswith(FOREIGN_LOGGERS)]


def audit_rows() -> list[dict[str, Any]]:
    return [dict(row) for row in AuditEvent.objects.order_by("id").values()]
