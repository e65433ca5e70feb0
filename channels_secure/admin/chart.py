"""The geometry of stacked bars for an inline SVG: numbers and texts alone, no style and no script.

Widths are shares of the picture, heights are pixels, so that it fits any window while lines and patterns stay as drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PLOT = 180
# A handful among millions must be seen too.
LEAST = 2.0
GAP = 0.2
_UNITS = ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One series in one bar: `x` and `width` in per cent, `y` and `height` in pixels, as attributes want them."""

    bar: int
    series: int
    count: int
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line across, at so many pixels from above, and what it stands for."""

    y: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All of it; without anything to show there are no lines."""

    height: int
    segments: list[Segment]
    lines: list[Line]


def stack(bars: Sequence[Sequence[int]]) -> Stack:
    """Draw bars that each hold the counts of the same series, the first of which is to stand at the bottom."""
    series = max(map(len, bars), default=0)
    # Above the highest line, for what the least height adds.
    head = round(series * LEAST)
    top = nice(max(map(sum, bars), default=0))
    segments = [segment for number, bar in enumerate(bars) for segment in _bar(number, bar, len(bars), top, head)]
    lines = [Line(y=_px(head + PLOT * (top - value) / top), label=short(value)) for value in _marks(top)] if top else []
    return Stack(height=head + PLOT, segments=segments, lines=lines)


def _bar(number: int, bar: Sequence[int], bars: int, top: int, head: int) -> list[Segment]:
    width = 100 / bars
    floor, found = float(head + PLOT), []
    for series, count in enumerate(bar):
        if count <= 0:
            continue
        height = max(LEAST, PLOT * count / top)
        floor -= height
        place = {"x": _px(width * (number + GAP / 2)), "width": _px(width * (1 - GAP))}
        found.append(Segment(bar=number, series=series, count=count, y=_px(floor), height=_px(height), **place))
    return found


def nice(value: int) -> int:
    """The least round number that is not below `value`."""
    if value <= 0:
        return 0
    unit: int = 10 ** (len(str(value)) - 1)
    return next(step * unit for step in (1, 2, 4, 6, 8, 10) if step * unit >= value)


def _marks(top: int) -> list[int]:
    return [top, top // 2, 0] if top % 2 == 0 else [top, 0]


def short(value: int) -> str:
    """A number in few letters, for an axis: 12000 is 12k."""
    for size, letter in _UNITS:
        if value >= size:
            return f"{value / size:.3g}{letter}" if value < size * 1000 else f"{value // size}{letter}"
    return str(value)


def _px(value: float) -> str:
    # As text, so that no template writes a decimal comma into it.
    return f"{value:.2f}".rstrip("0").rstrip(".")
