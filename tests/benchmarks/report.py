"""What a section found out, and how it is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure: `rounds` replaces each section's own number, `quick` is for a first look."""

    quick: bool = False
    rounds: int | None = None

    def choose(self, usual: T, quick: T) -> T:
        return quick if self.quick else usual

    def repeat(self, usual: int, quick: int) -> int:
        return self.choose(usual, quick) if self.rounds is None else self.rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that the project has set itself, and what was measured."""

    name: str
    measured: float
    bound: float
    unit: str = ""
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    def row(self) -> tuple[str, str, str, str]:
        word = "at most" if self.at_most else "at least"
        return (
            self.name,
            f"{word} {show(self.bound)}{self.unit}",
            f"{show(self.measured)}{self.unit}",
            "met" if self.is_met else "missed",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head; the first column is a name, the others are figures."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def as_text(self) -> str:
        widths = [max(len(line[column]) for line in (self.head, *self.rows)) for column in range(len(self.head))]
        lines = []
        for line in (self.head, *self.rows):
            cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            lines.append("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
        return "\n".join(lines)

    def as_markdown(self) -> str:
        rule = ("---", *("---:" for _ in self.head[1:]))
        return "\n".join("| " + " | ".join(line) + " |" for line in (self.head, rule, *self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars from zero; less is better unless the title says otherwise."""

    name: str
    title: str
    bars: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One of the benchmarks, done."""

    name: str
    title: str
    tables: Sequence[Table]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()

    def as_text(self) -> str:
        parts = [f"== {self.title}", *(table.as_text() for table in self.tables)]
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        parts += [self._goals().as_text()] if self.goals else []
        return "\n\n".join(parts)

    def as_markdown(self, images: str) -> str:
        parts = [f"### {self.title}"]
        parts += [f"![{chart.title}]({images}/{chart.name}.svg)" for chart in self.charts]
        parts += [table.as_markdown() for table in self.tables]
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        parts += [self._goals().as_markdown()] if self.goals else []
        return "\n\n".join(parts)

    def _goals(self) -> Table:
        return Table(head=("goal", "set", "measured", ""), rows=[goal.row() for goal in self.goals])


def late(found: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(found, n=100)[98]


def show(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
