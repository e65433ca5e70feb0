"""The page in the documentation is about the cases that there are, and all of them passed when it was written."""

from tests.conformance import page
from tests.conformance.table import TABLE


def test_the_page_has_every_case_once() -> None:
    assert sorted(page.ids_on_page()) == sorted(TABLE)


def test_the_page_shows_no_failure() -> None:
    text = page.PAGE.read_text()
    assert "**fail**" not in text
    assert "not run" not in text
