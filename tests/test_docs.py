"""The documentation's tables say what the code says."""

import re
from pathlib import Path

import pytest

from channels_secure import models, signals
from channels_secure.conf import CONSUMER_KEYS, KEYS
from channels_secure.policy.decisions import RULES

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def rows(page: Path) -> list[list[str]]:
    """The cells of every table row of a page, without its rules and headings."""
    lines = [line for line in page.read_text().split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


def code(cell: str) -> str:
    return cell.strip("`")


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {code(row[0]): row for row in rows(REFERENCE / "settings.md") if row[0].startswith("`")}
    assert set(documented) == set(KEYS)
    for name, key in KEYS.items():
        assert code(documented[name][2]) == repr(key.default).replace("'", '"'), name


def test_the_settings_that_a_consumer_may_override_are_marked() -> None:
    marked = {code(row[0]).lower() for row in rows(REFERENCE / "settings.md") if row[1] == "**c**"}
    assert marked == CONSUMER_KEYS


def test_every_reason_is_documented_as_it_is_sent() -> None:
    documented = [row for row in rows(REFERENCE / "reasons.md") if row[0].startswith("`")]
    assert documented == [
        [f"`{reason.value}`", str(rule.close), str(rule.status or "–"), rule.reconnect, rule.message]
        for reason, rule in RULES.items()
    ]


def test_the_readme_lists_every_close_code_rightly() -> None:
    documented = {code(row[0]): row[1:3] for row in rows(ROOT / "README.md") if code(row[0]) in set(RULES)}
    assert documented == {
        reason.value: [str(rule.close), str(rule.status or "–")] for reason, rule in RULES.items()
    }


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 150


def test_every_field_of_the_models_is_documented() -> None:
    text = (REFERENCE / "models.md").read_text()
    for model in (models.AuditEvent, models.Block):
        for field in model._meta.concrete_fields:
            assert field.name == "id" or f"`{field.name}`" in text, f"{model.__name__}.{field.name}"


def test_every_public_signal_is_documented() -> None:
    text = (REFERENCE / "signals.md").read_text()
    public = {name for name, value in vars(signals).items() if isinstance(value, signals.Signal)} - {"policy_changed"}
    assert public == set(re.findall(r"`((?:connection|handshake|message|block)_\w+ed)`", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
