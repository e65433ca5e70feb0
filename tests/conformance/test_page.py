"""The page in the documentation is about the cases that there are, and all of them passed when it was written."""

import ast
from pathlib import Path

from tests.conformance import page
from tests.conformance.table import CONTROLS, SCENARIOS, TABLE

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_every_case_once() -> None:
    assert sorted(page.ids_on_page()) == sorted([*TABLE, *SCENARIOS, *CONTROLS])


def test_the_page_shows_no_failure() -> None:
    text = page.PAGE.read_text()
    assert "**fail**" not in text
    assert "not run" not in text


def test_every_test_that_the_page_names_is_there() -> None:
    for name in page.played():
        file, test = name.split("::")
        module = ast.parse((ROOT / file).read_text())
        assert test in {each.name for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_a_failure_would_be_shown() -> None:
    (row, *_) = SCENARIOS.values()
    (test,) = row.tests
    assert page.result(row, {}) == "not run"
    assert page.result(row, {test: {"": True}}) == "pass"
    assert page.result(row, {test: {"": False}}) == "**fail**"
    assert page.result(row, {test: {"daphne": True, "uvicorn": False}}) == "Daphne pass, uvicorn **fail**"
