"""A plugin of pytest that writes down how each test went, by its name and, where it has one, its server.

`python -m tests.conformance` loads it; it stands outside of `conftest.py`, whose hooks see this folder's tests only.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

RESULTS_FILE = "CONFORMANCE_RESULTS"
RESULTS = pytest.StashKey[dict[str, dict[str, bool]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test has passed if no phase of none of its parameters failed, and was not skipped."""
    report: pytest.TestReport = yield  # type: ignore[assignment]  # hook wrappers are sent the result
    if report.when == "call" or not report.passed:
        name = item.nodeid.split("[")[0]
        parameters = getattr(item, "callspec", None)
        server = "" if parameters is None else str(parameters.params.get("kind", ""))
        servers = item.config.stash.setdefault(RESULTS, {}).setdefault(name, {})
        servers[server] = report.passed and servers.get(server, True)
    return report  # type: ignore[return-value]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if RESULTS_FILE in os.environ:
        Path(os.environ[RESULTS_FILE]).write_text(json.dumps(session.config.stash.get(RESULTS, {})))
