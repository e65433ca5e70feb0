"""What the documentation prints, to be run as it stands there."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
DEPLOY = DOCS / "howto" / "deploy.md"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def filled_in(text: str, values: dict[str, str]) -> str:
    """The text with what the reader puts in; AssertionError for something that is not there to be replaced."""
    for placeholder, value in values.items():
        assert placeholder in text, placeholder
        text = text.replace(placeholder, value)
    return text
