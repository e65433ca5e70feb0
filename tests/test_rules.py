"""The rules of `tests/conftest.py`, each shown by a run of pytest that breaks it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


RULE_BREAKERS = """
import pytest

@pytest.mark.django_db
async def test_async(): pass

@pytest.mark.django_db(transaction=False)
async def test_async_and_says_so(): pass

async def test_async_by_fixture(db): pass

@pytest.mark.django_db
def test_with_a_server(server): pass

@pytest.mark.django_db(transaction=True)
async def test_that_is_right(): pass

@pytest.mark.django_db
def test_that_is_synchronous(): pass
"""

FAILURES = """
import warnings
import pytest

@pytest.mark.skip(reason="tired")  # what the rule must refuse: this text is run as a suite of its own
def test_marked(): pass

def test_skipping(): pytest.skip("tired")

def test_warning(): warnings.warn("old", DeprecationWarning)

@pytest.mark.browser
def test_browsing(): raise AssertionError("ran without a browser")
"""

RIGHT = """
import pytest
from django.contrib.auth.models import User

@pytest.mark.browser
def test_browsing(chromium): assert chromium == "/opt/some/chromium"

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round", [1, 2])
async def test_rows_of_one_round_are_gone_in_the_next(user, round):
    assert [each.username async for each in User.objects.all()] == ["alice"]
    await User.objects.acreate_user("bob")
    assert await User.objects.acount() == 2
"""


def run_pytest(folder: Path, *sources: str, **environ: str) -> tuple[int, str]:
    """Run `sources` as test modules under this suite's configuration; return the exit code and the output."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    for number, source in enumerate(sources):
        (folder / f"test_{number}.py").write_text(source)
    options = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=ROOT,
        env={**os.environ, "DATABASE": "sqlite", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return finished.returncode, finished.stdout + finished.stderr


def test_a_test_that_commits_for_real_must_say_so(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, RULE_BREAKERS)
    assert code == pytest.ExitCode.USAGE_ERROR
    named = [line.partition("::")[2] for line in output.splitlines() if "::" in line]
    assert named == ["test_async", "test_async_and_says_so", "test_async_by_fixture", "test_with_a_server"]


def test_a_skip_or_a_warning_fails_the_run_and_a_missing_browser_is_told_loudly(tmp_path: Path) -> None:
    module_that_skips_itself = "import pytest\npytest.importorskip('no_such_module')"
    code, output = run_pytest(tmp_path, FAILURES, module_that_skips_itself, PATH=str(tmp_path), CHROMIUM_PATH="")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "2 failed, 1 skipped, 2 errors" in output
    assert output.count("nothing is ever skipped here") >= 3
    assert "DeprecationWarning: old" in output
    assert "LEFT OUT: 1 tests need browser, which this machine lacks" in output


def test_a_run_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, RIGHT, CHROMIUM_PATH="/opt/some/chromium")
    assert code == pytest.ExitCode.OK, output
    assert "3 passed" in output


def test_what_uses_the_database_can_be_run_alone(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, RIGHT, PYTEST_ADDOPTS="-m database")
    assert code == pytest.ExitCode.OK, output
    assert "2 passed, 1 deselected" in output
