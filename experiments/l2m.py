"""A policy that imitates some robot tasks, and what it takes to learn more of them, one by one.

    python experiments/l2m.py six-four    # or forty-ten, longer
    python experiments/l2m_table.py       # the tables of what there is so far

Makes the data sets, pre-trains a policy a seed, has each row go on from it, and evaluates what came
of it on all tasks, old and new. Goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grid import RESULTS, run_grid, set_arguments

import crl
from crl.data import make_data
from crl.envs.continual_world import CW10
from crl.envs.metaworld_tasks import TASKS
from crl.evaluation import evaluate
from crl.run import Run
from crl.seeding import integer
from crl.stream import Task, make_env

SEEDS = range(3)
ROWS: dict[str, list[str]] = {  # arguments of `crl train`
    "lora": ["--set", "agent.kind=lora"],
    "ia3": ["--set", "agent.kind=ia3"],
    "prefix": ["--set", "agent.kind=prefix"],
    "prompts": ["--set", "agent.kind=prefix", "--set", "agent.select=cosine"],
    "head": ["--set", "agent.tune=head"],
    "full": ["--set", "agent.tune=full"],
    "ewc": ["--set", "agent.tune=full", "--method", "ewc", "--set", "ewc.coefficient=1e4",
            "--set", "ewc.batches=4", "--set", "ewc.batch_size=64"],
}
SELECT = {"lora": ("prototypes", "oracle")}  # what else tells slots at the end; default: as trained
COLUMNS = ("select", "task", "seed", "success_once", "success_end", "slot", "own_slot")


@dataclass(frozen=True)
class Grid:
    """Rows × seeds 0, 1, 2.

    Attributes:
        old: Tasks that the policy is pre-trained on.
        new: Tasks that it learns afterwards, one by one.
        episodes: Of experts, of each task.
        old_steps, new_steps: Gradient steps for each task.
        final: Episodes of the last evaluation of each task.
        rows: Which.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    episodes: int
    old_steps: int
    new_steps: int
    final: int
    rows: tuple[str, ...] = tuple(ROWS)


GRIDS = {
    "six-four": Grid(
        ("reach-v3", "push-v3", "window-open-v3", "button-press-topdown-v3", "drawer-open-v3",
         "door-close-v3"),
        ("window-close-v3", "handle-press-side-v3", "faucet-close-v3", "drawer-close-v3"),
        episodes=40, old_steps=500, new_steps=400, final=10),
    "forty-ten": Grid(
        tuple(task for task in TASKS if task not in CW10), tuple(CW10), episodes=40,
        old_steps=250, new_steps=400, final=5, rows=("lora", "full")),
}
# Defaults among them, so that the tables stay what they are when they change.
_SETTINGS: dict[str, object] = {
    "agent.size": "nano", "agent.window": 5, "agent.bins": 64, "agent.batch_size": 64,
    "agent.learning_rate": 1e-3, "train.eval_tasks": "seen", "train.checkpoint_every": 10**6}


def pretraining(name: str, grid: Grid) -> dict[str, list[str]]:
    """Of each seed's policy, the arguments of `crl train`."""
    values = {"stream.steps_per_task": grid.old_steps, "train.eval_every": grid.old_steps,
              "agent.data": f"runs/l2m/{name}/data", **_SETTINGS, "train.eval_episodes": 1,
              "train.eval_tasks": "current"}
    return {f"pretrained-{seed}": ["--agent", "l2m", "--stream", ",".join(grid.old),
                                   *set_arguments(values), "--seed", str(seed)] for seed in SEEDS}


def jobs(name: str, grid: Grid) -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`; seed by seed, so that there is soon a table."""
    values = {"stream.steps_per_task": grid.new_steps, "train.eval_every": grid.new_steps,
              "agent.data": f"runs/l2m/{name}/data", "agent.select": "prototypes", **_SETTINGS,
              "train.eval_episodes": 5}
    return {f"{row}-{seed}": ["--agent", "l2m", "--stream", ",".join(grid.new),
                              *set_arguments(values), "--seed", str(seed), "--set",
                              f"agent.pretrained=runs/l2m/{name}/pretrained-{seed}", *ROWS[row]]
            for seed in SEEDS for row in grid.rows}


def evaluate_at_the_end(name: str, grid: Grid, job: str) -> None:
    """Evaluates a finished run on old and new tasks: final.csv, a row an episode."""
    target, folder = RESULTS / "l2m" / name / job / "final.csv", Path("runs/l2m") / name / job
    if target.exists() or not (target.parent / "run.json").exists():
        return
    agent: Any = Run(folder).agent()
    tasks = [*crl.make_stream(",".join(grid.old)), *crl.make_stream(",".join(grid.new))]
    rows: list[dict[str, object]] = []
    for select in SELECT.get(job.rpartition("-")[0], (agent.config.select,)):
        agent.config = replace(agent.config, select=select)
        for task in tasks:
            policy, own = agent.policy(task), agent._slot_of.get(task.name, 0)
            episodes = evaluate(policy, task, grid.final, seed=1)
            slots = _first_slots(policy, task, [episode.seed for episode in episodes])
            rows += [{"select": select, "task": task.name, "seed": episode.seed,
                      "success_once": int(episode.success_once),
                      "success_end": int(episode.success_end), "slot": slot, "own_slot": own}
                     for episode, slot in zip(episodes, slots, strict=True)]
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{job}: evaluated", flush=True)


def _first_slots(policy: Any, task: Task, seeds: list[int]) -> list[int]:
    """Which slot each episode begins with."""
    env, slots = make_env(task), []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        _, state = policy.step(np.asarray(obs, np.float32)[None], policy.initial_state(1),
                               np.array([True]))
        slots.append(int(state[-1][0]))
    env.close()
    return slots


def main() -> None:
    """Everything of one grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=GRIDS)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    name, grid = options.grid, GRIDS[options.grid]
    torch.set_num_threads(1)
    stream = crl.make_stream(",".join((*grid.old, *grid.new)))
    make_data(stream, Path("runs/l2m") / name / "data", episodes=grid.episodes, noise=0.3,
              seed=integer(0, "l2m"))
    run_grid(f"l2m/{name}", pretraining(name, grid), options.processes)
    run_grid(f"l2m/{name}", jobs(name, grid), options.processes)
    for job in (*pretraining(name, grid), *jobs(name, grid)):
        evaluate_at_the_end(name, grid, job)


if __name__ == "__main__":
    main()
