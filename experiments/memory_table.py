"""The tables of experiments/results/memory: writes GRID.csv there and prints them.

    python experiments/memory_table.py

Of each row, over its seeds: parameters of the memory and floats of its state; success and return of
the last two evaluations; CPU-seconds of the run; of the T-Maze, success at each length, and of the
same policy without its memory.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from grid import RESULTS, write_table
from memory import GRIDS, SEEDS, Grid, job
from rich.table import Table

from crl.memory import make_memory
from crl.run import Run
from crl.tables import console

FOLDER = RESULTS / "memory"


def rows(name: str, grid: Grid) -> list[dict[str, float | str]]:
    """A row a memory."""
    table = []
    for row in grid.rows:
        folders = [FOLDER / name / job(row, seed) for seed in SEEDS]
        found = [folder for folder in folders if (folder / "run.json").exists()]
        if found:
            table.append({"memory": row, "seeds": len(found), **_size(Run(found[0])),
                          **_means([_scores(folder) for folder in found])})
    return table


def _size(run: Run) -> dict[str, float]:
    agent = run.config["agent"]
    memory = make_memory(agent["memory"], agent["memory_size"], agent["memory_size"],
                         torch.Generator(), **agent["memory_options"])
    return {"parameters": sum(p.numel() for p in memory.parameters()),
            "state_floats": memory.state_size}


def _scores(folder: Path) -> dict[str, float]:
    evals = Run(folder).evals()
    last = evals["env_step"] >= np.unique(evals["env_step"])[-2]
    scores = {"success": float(evals["success_once"][last].mean()),
              "return": float(evals["return"][last].mean()), "cpu_s": float(evals["cpu_s"][-1])}
    if (folder / "memory.csv").exists():
        with open(folder / "memory.csv", newline="") as file:
            for row in csv.DictReader(file):
                length = row["task"].rpartition("-")[2]
                scores[f"success_at_{length}"] = float(row["success"])
                scores[f"control_at_{length}"] = float(row["control"])
    return scores


def _means(scores: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}


def main() -> None:
    """Writes the tables and prints them."""
    for name, grid in GRIDS.items():
        table = rows(name, grid)
        if not table:
            continue
        columns = list(table[0])
        write_table(FOLDER / f"{name}.csv", columns, table)
        shown = Table(box=None, title=name, title_justify="left")
        for column in columns:
            shown.add_column(column.replace("_", " "), justify="left" if column == "memory" else
                             "right")
        for row in table:
            shown.add_row(*(v if isinstance(v, str) else f"{v:.4g}" for v in row.values()))
        console().print(shown)


if __name__ == "__main__":
    main()
