"""The tables of experiments/results/afm: writes them there and into docs/afm.md.

    python experiments/afm_table.py

A row a method, means over maps, changes and seeds: `success`, the share of the waypoints that were
reached; `all_of_them`, the share of the episodes in which all were; steps of an episode, its cap if
it did not arrive; the prediction error while something is wrong, metres a step on the ground and
m/s in the air. A seed counts when it is finished. `flow` is what experiments/afm_flow.py has found.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from afm import FOLDER, PROTOCOL
from pages import Rows, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "afm.md"
_NOTHING_WRONG = "eight"  # the quadrotor's regime that has no error to measure

Line = dict[str, str]


def episodes(robot: str) -> dict[str, list[Line]]:
    """Row → what came of its episodes."""
    found: dict[str, list[Line]] = defaultdict(list)
    for info in sorted((FOLDER / robot).glob("seed-*/run.json")):
        if json.loads(info.read_text())["status"] == "finished":
            with open(info.with_name("episodes.csv"), newline="") as file:
                for line in csv.DictReader(file):
                    found[line["row"]].append(line)
    return {row: found[row] for row in PROTOCOL[robot].rows if row in found}


def mean(lines: list[Line], column: str) -> float:
    """Of a column, where it is a number."""
    return float(np.nanmean([float(line[column]) for line in lines]))


def rows(robot: str) -> Rows:
    """Of one robot."""
    table: Rows = []
    for row, found in episodes(robot).items():
        lines = [line for line in found if line["regime"] != _NOTHING_WRONG]
        table.append({
            "method": row, "seeds": len({line["seed"] for line in lines}), "episodes": len(lines),
            "success": mean(lines, "progress"), "all_of_them": mean(lines, "success"),
            "steps": mean(lines, "steps"), "prediction_error": mean(lines, "prediction_error")})
    return table


def by_regime(robot: str) -> Rows:
    """Success of each method, change by change."""
    return [{"method": row, **{regime: mean([line for line in found if line["regime"] == regime],
                                            "progress")
                               for regime in PROTOCOL[robot].regimes}}
            for row, found in episodes(robot).items()]


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
