"""The table of experiments/results/settings: writes table.csv beside it and prints it.

    python experiments/settings_table.py

Area: success against CPU-seconds, from 0 to what `plain` took for the task, as a share of the most
there could be; after a run's end its last success counts on. Solved: CPU-seconds until success
averages 0.8 or more over two evaluations; – if never. Means over seeds; a seed that never gets
there has no such time, and the task counts as solved if most seeds do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from grid import RESULTS, write_table
from rich.table import Table
from settings import SETTINGS

from crl.envs.continual_world import CW10
from crl.run import Run
from crl.tables import console

SOLVED = 0.8
COLUMNS = ("setting", "task", "seeds", "area", "solved_cpu_s", "final_success", "cpu_s")


def curve(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """CPU-seconds and success of each evaluation of a single-task run."""
    evals = run.evals()
    steps, first = np.unique(evals["env_step"], return_index=True)
    success = [evals["success_once"][evals["env_step"] == step].mean() for step in steps]
    return evals["cpu_s"][first], np.array(success)


def area(cpu: np.ndarray, success: np.ndarray, budget: float) -> float:
    """Mean success over CPU-seconds from 0 to a budget; between evaluations in a straight line."""
    grid = np.linspace(0, budget, 1001)
    return float(np.interp(grid, cpu, success).mean())


def solved_at(cpu: np.ndarray, success: np.ndarray) -> float:
    """CPU-seconds until two evaluations in a row average 0.8; NaN if never."""
    enough = (success[1:] + success[:-1]) / 2 >= SOLVED
    return float(cpu[1:][enough][0]) if enough.any() else float("nan")


def rows() -> list[dict[str, float | str]]:
    """A row a setting and task."""
    table: list[dict[str, float | str]] = []
    for task in CW10:
        plain = _curves("plain", task)
        if not plain:
            continue
        budget = float(np.mean([cpu[-1] for cpu, _ in plain]))
        for setting in SETTINGS:
            curves = _curves(setting, task)
            if not curves:
                continue
            times = [solved_at(*one) for one in curves]
            most = sum(np.isfinite(times)) * 2 > len(times)
            table.append({
                "setting": setting, "task": task, "seeds": len(curves),
                "area": float(np.mean([area(*one, budget) for one in curves])),
                "solved_cpu_s": float(np.nanmean(times)) if most else float("nan"),
                "final_success": float(np.mean([success[-2:].mean() for _, success in curves])),
                "cpu_s": float(np.mean([cpu[-1] for cpu, _ in curves]))})
    return table


def _curves(setting: str, task: str) -> list[tuple[np.ndarray, np.ndarray]]:
    folders = (RESULTS / "settings" / f"{setting}-{task}-{seed}" for seed in range(100))
    return [curve(Run(folder)) for folder in folders if (folder / "run.json").exists()]


def main() -> None:
    """Writes table.csv, and prints a line a setting with the areas of all tasks."""
    table = rows()
    write_table(RESULTS / "settings" / "table.csv", COLUMNS, table)
    _print(table, "area", "area")
    _print(table, "solved_cpu_s", "CPU-seconds until solved")


def _print(table: Sequence[dict[str, float | str]], column: str, title: str) -> None:
    shown = Table(box=None, title=title, title_justify="left")
    for name in ("setting", *(task.removesuffix("-v3") for task in CW10), "mean"):
        shown.add_column(name, justify="left" if name == "setting" else "right")
    for setting in SETTINGS:
        values = {str(row["task"]): float(row[column]) for row in table
                  if row["setting"] == setting}
        if values:
            digits = ".2f" if column == "area" else ".0f"
            known = [v for v in values.values() if np.isfinite(v)]
            mean = f"{np.mean(known):{digits}}" if column == "area" else f"{len(known)} tasks"
            shown.add_row(setting, *(f"{values[t]:{digits}}" if np.isfinite(values.get(t, np.nan))
                                     else "–" for t in CW10), mean)
    console().print(shown)


if __name__ == "__main__":
    main()
