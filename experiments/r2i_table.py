"""The tables of experiments/results/r2i: writes them there as CSV and into docs/world-models.md.

    python experiments/r2i_table.py

A row a sequence model, means over its seeds: success and return of the last two evaluations,
CPU-seconds of the run, and until the first evaluation that was good. recall-curve.csv has a row
every so many updates: what the models of recall.csv recall then, the worst of the seeds too.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from grid import RESULTS
from memory_table import rows
from pages import Rows, write_tables
from r2i import GRIDS

FOLDER = RESULTS / "r2i"
PAGE = Path(__file__).parents[1] / "docs" / "world-models.md"


def tables() -> dict[str, Rows]:
    """All that there is so far."""
    found = {name: rows(FOLDER / name, grid) for name, grid in GRIDS.items()}
    return {name: table for name, table in {**found, "recall-curve": recalled()}.items() if table}


def recalled() -> Rows:
    """A row a model and number of updates."""
    if not (FOLDER / "recall.csv").exists():
        return []
    with open(FOLDER / "recall.csv", newline="") as file:
        runs = list(csv.DictReader(file))
    table: Rows = []
    for model, updates in dict.fromkeys((run["model"], run["updates"]) for run in runs):
        those = [run for run in runs if (run["model"], run["updates"]) == (model, updates)]
        recall, control, cpu = (np.array([float(run[name]) for run in those])
                                for name in ("recall", "control", "cpu_s"))
        table.append({"model": model, "updates": int(updates), "seeds": len(those),
                      "recall": float(recall.mean()), "worst": float(recall.min()),
                      "control": float(control.mean()), "cpu_s": float(cpu.mean())})
    return table


def main() -> None:
    """Writes the tables and prints them."""
    write_tables(tables(), FOLDER, PAGE)


if __name__ == "__main__":
    main()
