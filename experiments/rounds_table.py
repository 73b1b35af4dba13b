"""The table of experiments/results/rounds: writes it there and into docs/ray.md.

    python experiments/rounds_table.py

A row a way to learn, means over tasks and seeds. `success`: of the last evaluation.
`mean_success`: over all evaluations but the first, which is before the first step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from grid import RESULTS
from pages import Rows, write_tables
from rounds import ROWS, SEEDS, TASKS

from crl.run import Run

FOLDER = RESULTS / "rounds"
PAGE = Path(__file__).parents[1] / "docs" / "ray.md"


def tables() -> dict[str, Rows]:
    """All that there is so far."""
    table: Rows = []
    for row in ROWS:
        folders = [FOLDER / f"{row}-{task}-{seed}" for task in TASKS for seed in SEEDS]
        curves = [_curve(Run(folder)) for folder in folders if (folder / "run.json").exists()]
        if curves:
            table.append({"learned_from": row, "runs": len(curves),
                          "success": float(np.mean([curve[-1] for curve in curves])),
                          "mean_success": float(np.mean([curve[1:].mean() for curve in curves]))})
    return {"rounds": table} if table else {}


def _curve(run: Run) -> np.ndarray:
    """Success of each evaluation."""
    evals = run.evals()
    return np.array([evals["success_once"][evals["env_step"] == step].mean()
                     for step in np.unique(evals["env_step"])])


def main() -> None:
    """Writes the table and prints it."""
    write_tables(tables(), FOLDER, PAGE)


if __name__ == "__main__":
    main()
