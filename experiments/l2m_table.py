"""The tables of experiments/results/l2m: writes them there as CSV and into docs/l2m.md.

    python experiments/l2m_table.py

A row a method and what told slots at the end, means over seeds. `old` and `new`: success at any
step of an episode, on the tasks of pre-training and on those learned afterwards, at the end of all;
`old_end` and `new_end`: at its last step. `forgotten`: of new tasks, what was lost of it since they
were just learned. `match`: share of episodes that began with the right slot. `slot_bytes`: what a
task costs; `cpu_s`: what learning the new tasks and evaluating them took. Row `pretrained` is the
policy before. Draws docs/slots.png: which slots were taken for which tasks.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from grid import RESULTS
from l2m import GRIDS, ROWS, SEEDS, Grid
from matplotlib.figure import Figure
from pages import Row, Rows, write_tables

from crl.agents.l2m import modulators
from crl.agents.l2m_config import SIZES, L2MConfig
from crl.agents.l2m_model import DecisionTransformer
from crl.memory.modulation import ModulationPool
from crl.metrics import r_matrix
from crl.run import Run

FOLDER = RESULTS / "l2m"
DOCS = Path(__file__).parents[1] / "docs"
Episodes = list[dict[str, str]]


def rows(name: str, grid: Grid) -> Rows:
    """Of one grid."""
    table: Rows = []
    for row in ("pretrained", *grid.rows):
        runs = [FOLDER / name / f"{row}-{seed}" for seed in SEEDS]
        runs = [run for run in runs if (run / "final.csv").exists()]
        for select in dict.fromkeys(e["select"] for run in runs for e in episodes(run)):
            table.append(_row(row, select, runs, grid))
    return table


def episodes(run: Path, select: str | None = None) -> Episodes:
    """Those of the last evaluation, a dictionary each."""
    with open(run / "final.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if select in (None, row["select"])]


def _row(row: str, select: str, runs: Sequence[Path], grid: Grid) -> Row:
    found = [episodes(run, select) for run in runs]
    tuned = row in ROWS
    return {
        "method": row, "told by": select if row in ("lora", "ia3", "prefix", "prompts") else "–",
        "seeds": len(runs),
        **{f"{age}{'_end' if when == 'success_end' else ''}": _mean(found, when, tasks)
           for age, tasks in (("old", grid.old), ("new", grid.new))
           for when in ("success_once", "success_end")},
        "forgotten": _forgotten(runs) if tuned else float("inf"),
        "match": float(np.mean([e["slot"] == e["own_slot"] for run in found for e in run])),
        "slot_bytes": slot_bytes(row),
        "cpu_s": float(np.mean([Run(run).evals()["cpu_s"][-1] for run in runs]))}


def _mean(found: Sequence[Episodes], column: str, tasks: Sequence[str]) -> float:
    return float(np.mean([int(e[column]) for run in found for e in run if e["task"] in tasks]))


def _forgotten(runs: Sequence[Path]) -> float:
    learned = np.mean([r_matrix(Run(run).scores()) for run in runs], axis=0)
    return float(np.mean(learned.diagonal()[:-1] - learned[-1, :-1]))


def slot_bytes(row: str) -> int:
    """What a slot of a row's kind takes."""
    kind = {"lora": "lora", "ia3": "ia3", "prefix": "prefix", "prompts": "prefix"}.get(row)
    if kind is None:
        return 0
    size, generator = SIZES["nano"], torch.Generator()
    model = DecisionTransformer(39, 4, width=size.width, layers=size.layers, heads=size.heads,
                                window=5, bins=64, returns=False, generator=generator)
    pool = ModulationPool(model, modulators(L2MConfig(kind=kind)), generator)
    return pool.slot_size(pool.grow()).bytes


def draw(name: str, grid: Grid, path: Path) -> None:
    """Which slots were taken for the episodes of which tasks, of all seeds."""
    runs = [FOLDER / name / f"lora-{seed}" for seed in SEEDS]
    found = [e for run in runs if (run / "final.csv").exists()
             for e in episodes(run, "prototypes")]
    tasks = (*grid.old, *grid.new)
    counts = np.zeros((len(tasks), 1 + len(grid.new)))
    for e in found:
        counts[tasks.index(e["task"]), int(e["slot"])] += 1
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    figure = Figure(figsize=(6, 0.34 * len(tasks) + 1.3), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(shares):
        if share:
            axis.text(x, y, f"{share:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if share > 0.5 else "black")
    short = [task.removesuffix("-v3") for task in tasks]
    axis.set_yticks(range(len(tasks)), short)
    axis.set_xticks(range(1 + len(grid.new)), ["none", *short[len(grid.old):]], rotation=30,
                    ha="right")
    axis.axhline(len(grid.old) - 0.5, color="gray", linewidth=1)
    axis.set_xlabel("slot that was taken")
    axis.set_ylabel("task")
    figure.savefig(path, dpi=120)


def tables() -> dict[str, Rows]:
    """All that there is so far."""
    return {name: table for name, grid in GRIDS.items() if (table := rows(name, grid))}


def main() -> None:
    """Writes the tables and the picture, and prints the tables."""
    write_tables(tables(), FOLDER, DOCS / "l2m.md")
    draw("six-four", GRIDS["six-four"], DOCS / "slots.png")


if __name__ == "__main__":
    main()
