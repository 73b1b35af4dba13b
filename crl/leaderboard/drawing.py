"""The figures of the page, as SVG that the page's style sheet colours for light and dark.

Every figure is drawn in a box of 100 × 100 that the page stretches; its labels are HTML, so that
they stay readable at any width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from crl.leaderboard.ranking import THRESHOLDS, Row
from crl.metrics import Summary
from crl.report.curves import FloatArray, Line, View
from crl.report.load import Section
from crl.report.plots import COLOURS, brief

DASHES = ("", "6 4", "2 3", "10 4 2 4")  # another each time the palette is used up
LOWEST, HIGHEST = -0.05, 1.05            # of a score that is drawn


def profiles(rows: Sequence[Row], shown: int) -> str:
    """The share of runs and tasks above each score, a line an entry; those from ``shown`` on are
    hidden."""
    parts = []
    for i, row in enumerate(rows):
        band = "" if math.isnan(row.low[0]) else _area(THRESHOLDS, row.low, row.high, 1.0)
        hidden = " hidden" if i >= shown else ""
        parts.append(f'<g data-entry="{i}" {_colour(i)}{hidden}>{band}'
                     f"{_line(THRESHOLDS, row.profile, 1.0)}</g>")
    marks = "".join(_label("left", 100 * value, text) for value, text in
                    ((0, "0"), (0.25, ".25"), (0.5, ".5"), (0.75, ".75"), (1, "1")))
    return (f'<div class="chart tall">{_grid()}'
            '<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
            'aria-label="Performance profiles; the same numbers follow from tasks.csv">'
            f'{"".join(parts)}</svg>{marks}{_scores()}</div>')


def task_chart(section: Section, view: View, task: int, colour: int) -> str:
    """The score of one task over the whole stream, its own training shaded."""
    total = float(section.boundaries[-1])
    start, end = (100 * step / total for step in (section.starts[task], section.boundaries[task]))
    drawn = "".join(_curve(line, task, total) for line in view.tasks)
    ends = _label("left", 0, "0") + _label("left", 100, brief(total))
    name = escape(section.tasks[task])
    return (f'<div class="chart">{_grid()}'
            '<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
            f'aria-label="Score of {name} over the stream; its own training is shaded">'
            f'<rect class="trained" x="{start:.1f}" width="{end - start:.1f}" height="100"/>'
            f"<g {_colour(colour)}>{drawn}</g></svg>{ends}{_scores()}</div>")


def spread(summary: Summary) -> str:
    """A mean and its interval on a scale from 0 to 1, beside the numbers."""
    if math.isnan(summary.mean):
        return ""
    interval = ""
    if not math.isnan(summary.low):
        low, high = _percent(summary.low), _percent(summary.high)
        interval = f'<i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
    return (f'<span class="spread" aria-hidden="true">{interval}'
            f'<b style="left:{_percent(summary.mean):.1f}%"></b></span>')


def swatch(colour: int) -> str:
    """The line of an entry in the figures."""
    return ('<svg class="line" viewBox="0 0 24 6" aria-hidden="true">'
            f'<g {_colour(colour)}><path d="M0,3H24"/></g></svg>')


def _colour(number: int) -> str:
    dash = DASHES[number // COLOURS % len(DASHES)]
    return (f'style="--c:var(--c{number % COLOURS})"'
            + (f' stroke-dasharray="{dash}"' if dash else ""))


def _curve(line: Line, task: int, total: float) -> str:
    band = ("" if line.low is None or line.high is None or math.isnan(line.low[-1, task]) else
            _area(line.x, line.low[:, task], line.high[:, task], total))
    return band + _line(line.x, line.y[:, task], total)


def _line(x: FloatArray, y: FloatArray, width: float) -> str:
    return f'<path d="M{"L".join(_points(x, y, width))}"/>'


def _area(x: FloatArray, low: FloatArray, high: FloatArray, width: float) -> str:
    there = [*_points(x, high, width), *_points(x, low, width)[::-1]]
    return f'<path class="band" d="M{"L".join(there)}Z"/>'


def _points(x: Iterable[float], y: Iterable[float], width: float) -> list[str]:
    return [f"{100 * a / width:.4g},{100 - _percent(b):.4g}"
            for a, b in zip(x, y, strict=True) if not math.isnan(b)]


def _percent(value: float) -> float:
    return 100 * min(HIGHEST, max(LOWEST, value))


def _grid() -> str:
    return "".join(f'<i class="rule" style="bottom:{at}%"></i>' for at in (0, 50, 100))


def _scores() -> str:
    return "".join(_label("bottom", at, text) for at, text in ((0, "0"), (50, ".5"), (100, "1")))


def _label(side: str, at: float, text: str) -> str:
    kind = "y" if side == "bottom" else "x end" if at == 100 else "x"
    return f'<span class="{kind}" style="{side}:{at:g}%">{text}</span>'
