"""The tables of experiments/results/afm: writes them there and into docs/afm.md.

    python experiments/afm_table.py

A row a method, means over maps, changes and seeds: `success`, the share of the waypoints that were
reached; `all_of_them`, the share of the episodes in which all were; steps of an episode, its cap if
it did not arrive; the prediction error while something is wrong, metres a step on the ground and
m/s in the air. Rows count what all methods have done: a map, change and seed that one of them has
not yet done is left out. `flow` is what experiments/afm_flow.py has found.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from afm import FOLDER, PROTOCOL
from pages import Rows, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "afm.md"
_NOTHING_WRONG = "eight"  # the quadrotor's regime that has no error to measure

Episodes = dict[str, dict[tuple[str, str, str], dict[str, str]]]


def episodes(robot: str) -> Episodes:
    """Row → map, regime and seed → what came of it, of those that all rows have done."""
    found: Episodes = defaultdict(dict)
    for path in sorted((FOLDER / robot).glob("seed-*/episodes.csv")):
        with open(path, newline="") as file:
            for line in csv.DictReader(file):
                found[line["row"]][line["map"], line["regime"], line["seed"]] = line
    rows = PROTOCOL[robot].rows
    shared = set.intersection(*(set(found[row]) for row in rows))
    return {row: {key: found[row][key] for key in sorted(shared)} for row in rows}


def mean(lines: list[dict[str, str]], column: str) -> float:
    """Of a column, where it is a number."""
    return float(np.nanmean([float(line[column]) for line in lines]))


def rows(robot: str) -> Rows:
    """Of one robot."""
    table: Rows = []
    for row, found in episodes(robot).items():
        lines = [line for (_, regime, _), line in found.items() if regime != _NOTHING_WRONG]
        if lines:
            table.append({
                "method": row, "seeds": len({line["seed"] for line in lines}),
                "episodes": len(lines), "success": mean(lines, "progress"),
                "all_of_them": mean(lines, "success"), "steps": mean(lines, "steps"),
                "prediction_error": mean(lines, "prediction_error")})
    return table


def by_regime(robot: str) -> Rows:
    """Success of each method, change by change."""
    found = episodes(robot)
    done = [regime for regime in PROTOCOL[robot].regimes
            if any(key[1] == regime for key in found["frozen"])]
    return [{"method": row, **{regime: mean([line for key, line in lines.items()
                                             if key[1] == regime], "progress")
                               for regime in done}} for row, lines in found.items()] if done else []


def of_flow() -> Rows:
    """As experiments/afm_flow.py wrote it."""
    path = FOLDER / "flow.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{key: value if key == "transform" else float(value)
                 for key, value in line.items()} for line in csv.DictReader(file)]


def tables() -> dict[str, Rows]:
    """All that there is so far."""
    made = {"flow": of_flow(), **{robot: rows(robot) for robot in PROTOCOL},
            **{f"{robot}-changes": by_regime(robot) for robot in PROTOCOL}}
    return {name: table for name, table in made.items() if table}


def main() -> None:
    """Writes the tables and prints them."""
    write_tables(tables(), FOLDER, PAGE)


if __name__ == "__main__":
    main()
