"""The table of experiments/results/arm4: table.csv and table.png there, rows on docs/methods.md.

    python experiments/arm4_table.py

Bytes kept are what a run has at its end beyond fine-tuning: what its methods hold, and parameters
that they added to the networks; per task of the stream.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from arm4 import ROWS
from grid import RESULTS, write_table
from pages import Row, Rows, markdown, put

from crl.envs.arm_tasks import ARM_TASKS
from crl.metrics import summarize
from crl.report.stills import STYLE
from crl.run import Run

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
COLUMNS = ("method", "seeds", "performance", "low", "high", "forgetting", "forgetting_low",
           "forgetting_high", "forward_transfer", "cpu_s", "bytes_per_task")


def rows() -> Rows:
    """A row a method, the best first."""
    references = [[run.scores() for run in _runs("arm4-single", task)] for task in ARM_TASKS]
    base = np.mean([_networks(run) for run in _runs("arm4", "finetuning")])
    table: Rows = []
    for method in ROWS:
        runs = _runs("arm4", method)
        if not runs:
            continue
        found = summarize([run.scores() for run in runs], references)
        kept = [_kept(run)["methods"] + _networks(run) - base for run in runs]
        table.append({
            "method": method, "seeds": len(runs), "performance": found["performance"].mean,
            "low": found["performance"].low, "high": found["performance"].high,
            "forgetting": found["forgetting"].mean, "forgetting_low": found["forgetting"].low,
            "forgetting_high": found["forgetting"].high,
            "forward_transfer": found["forward_transfer"].mean,
            "cpu_s": float(np.mean([run.evals()["cpu_s"][-1] for run in runs])),
            "bytes_per_task": float(np.mean(kept)) / len(ARM_TASKS)})
    return sorted(table, key=lambda row: -float(row["performance"]))


def _runs(name: str, row: str) -> list[Run]:
    """The finished runs of one row, seed after seed."""
    folders = (RESULTS / name / f"{row}-{seed}" for seed in range(100))
    return [Run(folder) for folder in folders if (folder / "run.json").exists()]


def _kept(run: Run) -> dict[str, int]:
    kept: dict[str, int] = run.info["kept"]
    return kept


def _networks(run: Run) -> int:
    return _kept(run)["networks"]


def shown(table: Rows) -> Rows:
    """As on the page."""
    return [_shown(row) for row in table]


def _shown(row: Row) -> Row:
    return {
        "method": row["method"], "seeds": row["seeds"],
        "performance": _interval(row, "performance", "low", "high"),
        "forgetting": _interval(row, "forgetting", "forgetting_low", "forgetting_high"),
        "forward transfer": f"{row['forward_transfer']:.2f}",
        "CPU-seconds": f"{row['cpu_s']:.0f}",
        "kB a task": f"{float(row['bytes_per_task']) / 1e3:.0f}"}


def main() -> None:
    """Writes the table, draws and prints it."""
    table = rows()
    write_table(RESULTS / "arm4" / "table.csv", COLUMNS, table)
    put({"arm4": markdown(shown(table))}, PAGE)
    _draw(table)


def _draw(table: Rows) -> None:
    """Performance and forgetting of every method with their intervals, the best on top."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8, 6), sharey=True, layout="constrained")
        heights = -np.arange(len(table))
        for ax, name, low, high in ((axes[0], "performance", "low", "high"),
                                    (axes[1], "forgetting", "forgetting_low", "forgetting_high")):
            middle, left, right = (np.array([row[c] for row in table], float)
                                   for c in (name, low, high))
            ax.errorbar(middle, heights, xerr=(middle - left, right - middle), fmt="o",
                        markersize=4, linewidth=1)
            ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
            ax.set_xlabel(name)
        axes[0].set_yticks(heights, [str(row["method"]) for row in table])
        axes[0].set_xlim(0, 1)
        figure.savefig(RESULTS / "arm4" / "table.png", dpi=130)


def _interval(row: Row, mean: str, low: str, high: str) -> str:
    if row["seeds"] == 1:
        return f"{row[mean]:.2f}"
    return f"{row[mean]:.2f} [{row[low]:.2f}, {row[high]:.2f}]"


if __name__ == "__main__":
    main()
