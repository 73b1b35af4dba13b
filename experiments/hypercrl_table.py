"""The tables of experiments/results/hypercrl: writes them there and into docs/planning.md.

    python experiments/hypercrl_table.py

A row a method, means over its seeds. Returns count from 0: what the untrained agent earns of a
task. `average`: what is earned of all tasks at the end, in units of what models of the tasks' own
had learned of them (row `single`). `kept`: of old tasks at the end, 1 being what was earned of them
when they had just been learned; `kept_of_the_worst` of the task that lost most.
`forward_transfer`: what was earned of tasks when they had just been learned, in units of `single`,
less 1. `bytes_kept`: of networks and methods at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from grid import RESULTS
from hypercrl import GRIDS, ROWS, SEEDS
from numpy.typing import NDArray
from pages import Rows, write_tables

from crl.metrics import initial_scores, r_matrix
from crl.run import Run

FOLDER = RESULTS / "hypercrl"
PAGE = Path(__file__).parents[1] / "docs" / "planning.md"
Array = NDArray[np.float64]


def rows(grid: str) -> Rows:
    """Of one stream."""
    found = {row: runs for row in ROWS if (runs := _runs(grid, row))}
    if "single" not in found:
        return []
    alone = _just_and_final(found["single"])[0]
    table: Rows = []
    for row, runs in found.items():
        just, final = _just_and_final(runs)
        if row == "single":  # a model of a task's own is kept aside
            final = just
        kept = final[:-1] / just[:-1]
        table.append({
            "method": row, "seeds": len(runs), "average": float(np.mean(final) / np.mean(alone)),
            "kept": float(kept.mean()), "kept_of_the_worst": float(kept.min()),
            "forward_transfer": float(np.mean(just) / np.mean(alone)) - 1,
            "cpu_s": float(np.mean([run.evals()["cpu_s"][-1] for run in runs])),
            "bytes_kept": float(np.mean([_kept(run) for run in runs]))})
    return table


def _runs(grid: str, row: str) -> list[Run]:
    folders = (FOLDER / grid / f"{row}-{seed}" for seed in SEEDS)
    return [Run(folder) for folder in folders if (folder / "run.json").exists()]


def _just_and_final(runs: list[Run]) -> tuple[Array, Array]:
    """What was earned of each task [tasks] at its own end, and at the end of all."""
    scores = [run.scores("return") for run in runs]
    untrained = np.mean([initial_scores(s) for s in scores], axis=0)
    earned = np.mean([r_matrix(s) for s in scores], axis=0) - untrained
    return earned.diagonal(), earned[-1]


def _kept(run: Run) -> int:
    return int(sum(run.info["kept"].values()))


def tables() -> dict[str, Rows]:
    """All that there is so far."""
    return {grid: table for grid in GRIDS if (table := rows(grid))}


def main() -> None:
    """Writes the tables and prints them."""
    write_tables(tables(), FOLDER, PAGE)


if __name__ == "__main__":
    main()
