"""The tables of experiments/results/settings: writes GRID.csv there and prints them.

    python experiments/settings_table.py

Of each setting and task, over its seeds:

- area: success against CPU-seconds, from 0 to what the grid's first setting took for the task, as a
  share of the most there could be; after a run's end its last success counts on;
- return_area: the same of the return, whose unit is the task's reward;
- solved_cpu_s: CPU-seconds until two evaluations in a row average a success of 0.8; empty if
  most seeds never get there;
- matched_cpu_s: CPU-seconds until two evaluations in a row average nine tenths of the best return
  that the first setting's did; likewise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from grid import RESULTS, write_table
from rich.table import Table
from settings import GRIDS, Grid

from crl.run import Run
from crl.tables import console

SOLVED, MATCHED = 0.8, 0.9
COLUMNS = ("setting", "task", "seeds", "area", "return_area", "solved_cpu_s", "matched_cpu_s",
           "final_success", "cpu_s")
FOLDER = RESULTS / "settings"


class Curve:
    """CPU-seconds, success and return of each evaluation of a single-task run."""

    def __init__(self, run: Run) -> None:
        evals = run.evals()
        steps, first = np.unique(evals["env_step"], return_index=True)
        self.cpu = evals["cpu_s"][first]
        self.success, self.returns = (
            np.array([evals[column][evals["env_step"] == step].mean() for step in steps])
            for column in ("success_once", "return"))

    def area(self, values: np.ndarray, budget: float) -> float:
        """Mean over CPU-seconds from 0 to a budget; between evaluations in a straight line."""
        return float(np.interp(np.linspace(0, budget, 1001), self.cpu, values).mean())

    def time_to(self, values: np.ndarray, level: float) -> float:
        """CPU-seconds until two evaluations in a row average a level; NaN if never."""
        enough = pairs(values) >= level
        return float(self.cpu[1:][enough][0]) if enough.any() else float("nan")


def pairs(values: np.ndarray) -> np.ndarray:
    """The mean of each evaluation and the next."""
    mean: np.ndarray = (values[1:] + values[:-1]) / 2
    return mean


def rows(grid: Grid, folder: Path) -> list[dict[str, float | str]]:
    """A row a setting and task."""
    table: list[dict[str, float | str]] = []
    for task in grid.tasks:
        curves = {name: found for name in grid.settings if (found := _curves(folder, name, task))}
        first = curves.get(next(iter(grid.settings)))
        if first is None:
            continue
        budget = float(np.mean([c.cpu[-1] for c in first]))
        level = MATCHED * float(np.mean([pairs(c.returns).max() for c in first]))
        for name, found in curves.items():
            table.append({
                "setting": name, "task": task, "seeds": len(found),
                "area": float(np.mean([c.area(c.success, budget) for c in found])),
                "return_area": float(np.mean([c.area(c.returns, budget) for c in found])),
                "solved_cpu_s": _of_most([c.time_to(c.success, SOLVED) for c in found]),
                "matched_cpu_s": _of_most([c.time_to(c.returns, level) for c in found]),
                "final_success": float(np.mean([c.success[-2:].mean() for c in found])),
                "cpu_s": float(np.mean([c.cpu[-1] for c in found]))})
    return table


def _curves(folder: Path, setting: str, task: str) -> list[Curve]:
    found = (folder / f"{setting}-{task}-{seed}" for seed in range(100))
    return [Curve(Run(run)) for run in found if (run / "run.json").exists()]


def _of_most(times: list[float]) -> float:
    known = np.isfinite(times)
    return float(np.mean(np.array(times)[known])) if known.mean() > 0.5 else float("nan")


def main() -> None:
    """Writes the tables, and prints four columns of each, a line a setting."""
    for name, grid in GRIDS.items():
        table = rows(grid, FOLDER / name)
        if table:
            write_table(FOLDER / f"{name}.csv", COLUMNS, table)
            for column in ("area", "return_area", "solved_cpu_s", "matched_cpu_s"):
                _print(grid, table, column, f"{name}: {column}")


def _print(grid: Grid, table: list[dict[str, float | str]], column: str, title: str) -> None:
    shown = Table(box=None, title=title, title_justify="left")
    for heading in ("setting", *(task.removesuffix("-v3") for task in grid.tasks)):
        shown.add_column(heading, justify="left" if heading == "setting" else "right")
    digits = ".2f" if column == "area" else ".0f"
    for setting in grid.settings:
        values = {row["task"]: float(row[column]) for row in table if row["setting"] == setting}
        if values:
            shown.add_row(setting, *(f"{values[t]:{digits}}" if np.isfinite(values.get(t, np.nan))
                                     else "–" for t in grid.tasks))
    console().print(shown)


if __name__ == "__main__":
    main()
