"""The pages that keep the figures: only what stands between two markers is written."""

import re
from pathlib import Path

from tests.benchmarks.plot import svg
from tests.benchmarks.report import Section

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "performance.md"
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "_static" / "bench"
IMAGES_FROM_PAGE = "../_static/bench"
# The sections whose goals the README shows too.
HEADLINES = ("inprocess", "sockets", "handshake", "memory", "broadcast", "sever", "reach", "stores")


class NoPlace(LookupError):
    """The page has no markers for a section."""


def keep(section: Section, command: str, machine: str) -> None:
    """Write a section's figures, its command and its machine into the page, and its charts next to it."""
    page = PAGE.read_text()
    PAGE.write_text(replace(page, section.name, f"{section.as_markdown(IMAGES_FROM_PAGE)}\n\n`{command}`: {machine}"))
    IMAGES.mkdir(parents=True, exist_ok=True)
    for chart in section.charts:
        (IMAGES / f"{chart.name}.svg").write_text(svg(chart))
    README.write_text(replace(README.read_text(), "goals", "\n".join(goals(PAGE.read_text()))))


def goals(page: str) -> list[str]:
    """Return one table of the goals in HEADLINES that the page says were met or missed."""
    head = "| goal | set | measured |  |"
    shown = "".join(re.findall(rf"<!-- figures of (?:{'|'.join(HEADLINES)}) -->.*?<!-- end", page, re.DOTALL))
    rows = [line for line in shown.splitlines() if line.startswith("| ") and line.endswith((" met |", " missed |"))]
    return [head, "| --- | ---: | ---: | ---: |", *rows]


def replace(page: str, name: str, text: str) -> str:
    """Return the page with `text` between the markers of `name`."""
    begin, end = f"<!-- figures of {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    replaced, count = pattern.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)
    if count != 1:
        raise NoPlace(f"a page needs the lines {begin} and {end}, once")
    return replaced
