"""The table as CSV and Markdown, and its numbers as text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from crl.leaderboard.protocols import Protocol
from crl.leaderboard.ranking import COLUMNS, Column, Row
from crl.metrics import Summary
from crl.report.tables import NONE, interval, score

Cell = str | int | float


def number(column: Column, value: float) -> str:
    """A value as the column's unit is read."""
    if math.isnan(value):
        return NONE
    return score(value) if column.unit == "score" else f"{value:,.0f}"


def between(column: Column, summary: Summary) -> str:
    """The interval of a score; costs go without."""
    return interval(summary) if column.unit == "score" else ""


def leaderboard_csv(protocol: Protocol, rows: Sequence[Row]) -> str:
    """A row an entry: mean, low and high of every column."""
    header = ["protocol", "rank", "entry", "seeds",
              *(f"{column.key}{end}" for column in COLUMNS for end in ("", "_low", "_high"))]
    return _csv(header, ([protocol.title, row.rank, row.group.name, len(row.group.runs),
                          *(value for column in COLUMNS for value in _three(row, column))]
                         for row in rows))


def tasks_csv(protocol: Protocol, rows: Sequence[Row]) -> str:
    """A row an entry, task and run: its score when it was learned, and at the end."""
    def lines() -> Iterable[list[Cell]]:
        for row in rows:
            for run, learned, kept in zip(row.group.runs, row.learned, row.kept, strict=True):
                for name, *both in zip(run.run.tasks, learned.tolist(), kept.tolist(), strict=True):
                    yield [protocol.title, row.group.name, run.seed, name, *both]
    return _csv(["protocol", "entry", "seed", "task", "learned", "kept"], lines())


def leaderboard_md(protocol: Protocol, rows: Sequence[Row]) -> str:
    """The table for a page on a code host."""
    shown = [column for column in COLUMNS
             if not all(math.isnan(row.values[column.key].mean) for row in rows)]
    lines = ["| | entry | seeds | " + " | ".join(column.title for column in shown) + " |",
             "|---" * (3 + len(shown)) + "|"]
    for row in rows:
        cells = [str(row.rank), row.group.name.replace("|", "\\|"), str(len(row.group.runs))]
        for column in shown:
            summary = row.values[column.key]
            low_high = between(column, summary)
            cells.append(number(column, summary.mean) + (f" [{low_high}]" if low_high else ""))
        lines.append("| " + " | ".join(cells) + " |")
    return (f"{protocol.title}, {protocol.score}; means over seeds with 90 % bootstrap "
            "intervals.\n\n" + "\n".join(lines) + "\n")


def _three(row: Row, column: Column) -> list[float]:
    summary = row.values[column.key]
    return [summary.mean, summary.low, summary.high]


def _csv(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if isinstance(cell, float) and math.isnan(cell) else
                         f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row])
    return text.getvalue()
