"""The tables of experiments/results/memory: writes them there as CSV and into docs/memories.md.

    crl bench memory --json > experiments/results/memory/bench.jsonl  # on an idle machine
    python experiments/memory_table.py

GRID.csv has a row a memory, over its seeds: success and return of the last two evaluations;
CPU-seconds of the run; of the T-Maze, success at each length, and of the same policy without its
memory. cores.csv has a row a memory: its size, its speed, and a score of each grid. memory3.csv has
what was earned of each task at its own end, and at the end of all; hidden-goal.csv success and
return of the last two evaluations.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import hidden_goal
import memory3
import numpy as np
import torch
from grid import RESULTS
from memory import GRIDS, SEEDS, Grid, job
from pages import Row, Rows, write_tables

from crl import registry
from crl.memory import make_memory
from crl.run import Run

FOLDER = RESULTS / "memory"
PAGE = Path(__file__).parents[1] / "docs" / "memories.md"


def rows(folder: Path, grid: Grid) -> Rows:
    """A row a memory, of the runs in a folder."""
    table: Rows = []
    for row in grid.rows:
        folders = [folder / job(row, seed) for seed in SEEDS]
        if means := _over_seeds(folders, lambda f: {**_scores(f), "good_cpu_s": _good(f, grid)}):
            table.append({"memory": row, **means})
    return table


def cores(grids: dict[str, Rows]) -> Rows:
    """A row a memory: parameters and bytes of state 64 wide, speed as `crl bench memory` has it."""
    with open(FOLDER / "bench.jsonl") as file:
        found = {row["case"]: row["ours"] for row in map(json.loads, file)}
    table: Rows = []
    for name in registry.memories.names():
        memory = make_memory(name, 64, 64, torch.Generator())
        row: Row = {
            "memory": name, "parameters": sum(p.numel() for p in memory.parameters()),
            "state_bytes": 4 * memory.state_size, "step_us": 1e6 * found[f"{name} step"],
            "training_pass_ms": 1e3 * found[f"{name} training pass"]}
        for grid, rows in grids.items():
            scores = next((r for r in rows if r["memory"] == name), {})
            lengths = GRIDS[grid].lengths
            columns = ({f"{grid}_{n}": f"success_at_{n}" for n in (lengths[0], lengths[-1])}
                       if lengths else {grid: "return"})
            row |= {column: scores.get(score, "") for column, score in columns.items()}
        table.append(row)
    return table


def seconds(grids: dict[str, Rows]) -> Rows:
    """A row a memory, and controls: CPU-seconds of a run of each grid, and until it is good."""
    names = list(dict.fromkeys(str(row["memory"]) for rows in grids.values() for row in rows))
    table: Rows = []
    for name in names:
        row: Row = {"memory": name}
        for grid, rows in grids.items():
            found = next((r for r in rows if r["memory"] == name), {})
            good = found.get("good_cpu_s", "")
            row |= {grid: found.get("cpu_s", ""),
                    f"{grid}_until_{GRIDS[grid].good:g}": "–" if good == np.inf else good}
        table.append(row)
    return table


def chained() -> Rows:
    """A row a method: returns of every task at the end of its own training, and of the stream's."""
    table: Rows = []
    for method in memory3.ROWS:
        folders = [FOLDER / "memory3" / f"{method}-{seed}" for seed in SEEDS]
        if means := _over_seeds(folders, _kept):
            table.append({"method": method, **means})
    return table


def _kept(folder: Path) -> dict[str, float]:
    run = Run(folder)
    evals, tasks = run.evals(), run.info["tasks"]
    last, begun, kept = evals["env_step"].max(), 0, {}
    for number, task in enumerate(tasks):
        begun += task["steps"]
        for when, step in (("then", begun), ("now", last)):
            rows = (evals["eval_task"] == number) & (evals["env_step"] == step)
            kept[f"{task['name']}_{when}"] = float(evals["return"][rows].mean())
    return {**kept, "cpu_s": float(evals["cpu_s"][-1])}


def hidden() -> Rows:
    """A row an agent: success and return on each task."""
    table: Rows = []
    for agent in hidden_goal.ROWS:
        means = {task: _over_seeds([FOLDER / "hidden-goal" / hidden_goal.job(task, agent, seed)
                                    for seed in hidden_goal.SEEDS], _scores)
                 for task in hidden_goal.TASKS}
        if all(means.values()):
            table.append({"agent": agent, **{f"{task}_{name}": value for task in means
                                             for name, value in means[task].items()}})
    return table


def _scores(folder: Path) -> dict[str, float]:
    evals = Run(folder).evals()
    last = ((evals["env_step"] >= np.unique(evals["env_step"])[-2])
            & (evals["eval_task"] == evals["eval_task"].max()))
    scores = {"success": float(evals["success_once"][last].mean()),
              "return": float(evals["return"][last].mean()), "cpu_s": float(evals["cpu_s"][-1])}
    if (folder / "memory.csv").exists():
        with open(folder / "memory.csv", newline="") as file:
            for row in csv.DictReader(file):
                length = row["task"].rpartition("-")[2]
                scores[f"success_at_{length}"] = float(row["success"])
                scores[f"control_at_{length}"] = float(row["control"])
    return scores


def _good(folder: Path, grid: Grid) -> float:
    """CPU-seconds until the mean return of an evaluation of the last task is good; inf: never."""
    evals = Run(folder).evals()
    last = evals["eval_task"] == evals["eval_task"].max()
    for step in np.unique(evals["env_step"]):
        rows = last & (evals["env_step"] == step)
        if evals["return"][rows].mean() >= grid.good:
            return float(evals["cpu_s"][rows][0])
    return np.inf


def _over_seeds(folders: list[Path], scores: Callable[[Path], dict[str, float]]) -> Row:
    """How many of the runs there are, and the means of their scores; nothing if there is none."""
    found = [scores(folder) for folder in folders if (folder / "run.json").exists()]
    return {"seeds": len(found), **{name: float(np.mean([s[name] for s in found]))
                                    for name in found[0]}} if found else {}


def tables() -> dict[str, Rows]:
    """All that there is so far."""
    grids = {name: table for name, grid in GRIDS.items() if (table := rows(FOLDER / name, grid))}
    found = {**grids, "cores": cores(grids), "cpu": seconds(grids), "memory3": chained(),
             "hidden-goal": hidden()}
    return {name: table for name, table in found.items() if table}


def main() -> None:
    """Writes the tables and prints them."""
    write_tables(tables(), FOLDER, PAGE)


if __name__ == "__main__":
    main()
