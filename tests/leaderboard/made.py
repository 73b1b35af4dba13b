"""Run folders as ``crl.train`` leaves them under a protocol, with made-up scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crl import seeding
from crl.leaderboard.protocols import PROTOCOLS
from crl.rows import COLUMNS, SCHEMA, digest
from crl.run import write_info

TASKS = {"arm4": ("arm-plain", "arm-mirrored", "arm-swapped", "arm-crossed"),
         "laptop-3": ("handle-press-side-v3", "faucet-close-v3", "window-close-v3")}
STEPS = {"arm4": 5_000, "laptop-3": 40_000}


def write_run(folder: Path, method: str | None = "ewc", seed: int = 0, *, protocol: str = "arm4",
              skill: float = 0.9, kept: float = 0.8, agent: dict[str, Any] | None = None) -> Path:
    """Writes a finished run.

    Args:
        skill: Success of a task from the middle of its own training.
        kept: Success of it after that.
    """
    settled, tasks, steps = PROTOCOLS[protocol], TASKS[protocol], STEPS[protocol]
    rng = np.random.default_rng([seed, len(method or ""), round(100 * skill)])
    every, episodes = settled.train["eval_every"], settled.train["eval_episodes"]
    times = [(0, 0)] + [(task * steps + step, task) for task in range(len(tasks))
                        for step in range(every, steps + 1, every)]
    lines = [",".join(COLUMNS)]
    for number, (step, training) in enumerate(times):
        for task in range(len(tasks)):
            learned = step > task * steps + steps // 2
            p = 0.02 if not learned else skill if task >= training else kept
            for episode in range(episodes):
                success = int(rng.random() < p)
                lines.append(f"{step},{step // 2},{step / 90:.4g},{step / 95 + rng.random():.8g},"
                             f"{training},{task},{episode},"
                             f"{seeding.integer(seed, 'evaluate', number, task, episode)},"
                             f"{success * 10},{success},{success},40")
    folder.mkdir(parents=True)
    (folder / "evals.csv").write_text("\r\n".join(lines) + "\r\n", newline="")
    write_info(folder, {
        "schema": SCHEMA, "status": "finished", "seed": seed, "protocol": settled.fixed,
        "tasks": [{"name": name, "steps": steps, "head": i} for i, name in enumerate(tasks)],
        "config": {
            "stream": {"name": settled.stream["name"]},
            "agent": {"name": "sac", "hidden": [64, 64], **(agent or {})},
            "methods": [{"name": method}] if method else [],
            "train": {**settled.train, "threads": 1}},
        "versions": {"python": "3.11.7", "crl": "0.1.0"}, "commit": "0123456789abcdef",
        "hardware": {"cpu": "Example CPU", "device": "cpu", "threads": 1},
        "kept": {"networks": 4_000, "methods": 400 * len(method or "")},
        "sha256": {"evals.csv": digest(folder / "evals.csv"), "train.csv": "not submitted"},
    })
    return folder


def write_entry(folder: Path, method: str | None = "ewc", seeds: int = 5, **options: Any) -> Path:
    """Writes the runs of an entry."""
    for seed in range(seeds):
        write_run(folder / f"{method}-{seed}", method, seed, **options)
    return folder
