"""Bars as SVG: a few rectangles need no library."""

from html import escape

from tests.benchmarks.report import Chart, show

WIDTH, LABELS, FIGURES, LINE, TITLE = 720, 230, 70, 26, 34
FONT = 'font-family="system-ui, sans-serif" font-size="13"'
OURS, OTHERS = "#2f6f4f", "#9aa5b1"


def svg(chart: Chart) -> str:
    """Return the chart as a document with a background of its own, for light and dark pages."""
    longest = max(value for _, value in chart.bars) or 1
    height = TITLE + LINE * len(chart.bars) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" {FONT}>',
        f"<title>{escape(chart.title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="22" font-weight="600" fill="#1f2933">{escape(chart.title)}</text>',
    ]
    for index, (label, value) in enumerate(chart.bars):
        top = TITLE + LINE * index
        length = max(1.0, (WIDTH - LABELS - FIGURES) * value / longest)
        color = OURS if label.startswith("channels_secure") else OTHERS
        lines += [
            f'<text x="{LABELS - 8}" y="{top + 16}" text-anchor="end" fill="#1f2933">{escape(label)}</text>',
            f'<rect x="{LABELS}" y="{top + 3}" width="{length:.1f}" height="18" rx="2" fill="{color}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{top + 16}" fill="#1f2933">{show(value)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
