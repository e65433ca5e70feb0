"""The pages about testing say what the code says."""

from pathlib import Path

from channels_secure import pytest_plugin
from channels_secure.testing import attacks

DOCS = Path(__file__).resolve().parents[2] / "docs"


def table_of_attacks() -> str:
    """The table of docs/reference/attacks.md."""
    lines = ["| attack | tries | rule | what stops it |", "|---|---|---|---|"]
    lines += [f"| `{each.id}` | {each.tries} | {each.rule} | {each.remedy} |" for each in attacks]
    return "\n".join(lines) + "\n"


def test_every_attack_is_documented_as_it_is() -> None:
    assert table_of_attacks() in (DOCS / "reference" / "attacks.md").read_text()


def test_every_fixture_is_documented() -> None:
    page = (DOCS / "howto" / "test.md").read_text()
    fixtures = [name for name, value in vars(pytest_plugin).items() if "fixture" in type(value).__name__.lower()]
    assert {"secure_communicator", "as_user", "unlimited"} <= set(fixtures)
    assert [name for name in fixtures if f"| `{name}` |" not in page] == []
