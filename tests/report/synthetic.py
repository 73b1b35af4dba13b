"""Run folders as ``crl.train`` leaves them, with made-up learning and forgetting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crl.rows import COLUMNS, SCHEMA, Rows
from crl.run import write_info

TASKS = ("window-close-v3", "faucet-close-v3", "handle-press-side-v3")
FORGETTING = {"packnet": 0.03, "ewc": 0.4, "clonex": 0.08}


def write_run(
    folder: Path,
    *,
    method: str | None = "packnet",
    seed: int = 0,
    tasks: Sequence[str] = TASKS,
    steps: int = 30_000,
    evaluations: int = 10,
    eval_episodes: int = 10,
    horizon: int = 200,
    status: str = "finished",
    stop_at: float = 1.0,
    protocol: str | None = None,
    agent: dict[str, Any] | None = None,
    label: str = "sac",
    skill: float = 0.95,
    jitter: int = 0,
) -> Path:
    """Writes a run folder.

    Args:
        stop_at: Share of the stream after which the rows end; 0: no evaluation at all.
        skill: Success rate of a learned task.
        jitter: Largest number of steps by which an evaluation is late.
    """
    rng = np.random.default_rng([seed, len(method or "")])
    folder.mkdir(parents=True)
    write_info(folder, {
        "schema": SCHEMA, "status": status, "seed": seed,
        "protocol": protocol or f"quick3-v1:metaworld-3.1.1:{steps}",
        "tasks": [{"name": name, "steps": steps, "head": i} for i, name in enumerate(tasks)],
        "config": {
            "stream": {"name": "quick3", "steps_per_task": steps, "horizon": horizon},
            "agent": {"name": label, "learning_rate": 1e-3, "hidden": [256, 256], **(agent or {})},
            "methods": [{"name": method, "retrain_steps": 1000}] if method else [],
            "train": {"eval_every": steps // evaluations, "eval_episodes": eval_episodes,
                      "threads": 1},
        },
        "versions": {"python": "3.11.7", "crl": "0.1.0", "torch": "2.13.0+cpu"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "hardware": {"cpu": "Example CPU", "cores": 2, "machine": "x86_64", "system": "Linux",
                     "device": "cpu", "threads": 1},
        "started": "2026-11-23T08:00:00Z",
    })
    rows = {name: Rows(folder / f"{name}.csv") for name in ("train", "evals")}
    text: dict[str, list[str]] = {"train": [], "evals": []}
    loss = FORGETTING.get(method or "", 0.75)
    end = stop_at * steps * len(tasks)
    peak, level = np.zeros(len(tasks)), np.full(len(tasks), 0.03)

    def write(name: str, step: int, train: int, task: int, episode: int, p: float) -> None:
        success = int(rng.random() < p)
        values = dict(zip(COLUMNS, (step, step // 2, step / 90, step / 95, train, task, episode,
                                    int(rng.integers(2**31)), 300 + 1500 * p + rng.normal(0, 90),
                                    success, success, horizon), strict=True))
        text[name].append(",".join(f"{values[c]:.6g}" if kind is float else str(values[c])
                                   for c, kind in COLUMNS.items()))

    def evaluate(step: int, train: int) -> None:
        for task in range(len(tasks)):
            for episode in range(eval_episodes):
                write("evals", step, train, task, episode, level[task])

    if end > 0:
        evaluate(0, 0)
    for task in range(len(tasks)):
        speed = rng.uniform(5, 9)
        for k in range(1, evaluations + 1):
            share = k / evaluations
            step = int(task * steps + share * steps)
            if k < evaluations:
                step += int(rng.integers(jitter + 1))
            if step > end:
                break
            for episode in range(max(1, steps // evaluations // horizon)):
                write("train", step - (steps // evaluations) + (episode + 1) * horizon
                      if episode * horizon < steps // evaluations else step,
                      task, task, len(text["train"]), level[task])
            level[task] = peak[task] = skill / (1 + np.exp(-speed * 2 * (share - 0.45)))
            for earlier in range(task):
                kept = max(0.02, 1 - loss) ** (1 if task - earlier == 1 else 1.3)
                level[earlier] = peak[earlier] * (kept + (1 - kept) * np.exp(-4 * share)
                                                  if task - earlier == 1 else kept)
            evaluate(step, task)
    for name, file in rows.items():
        file.close()
        with open(folder / f"{name}.csv", "a", newline="") as out:
            out.writelines(line + "\r\n" for line in text[name])
    return folder


def edit_info(folder: Path, **changes: Any) -> None:
    """Changes entries of ``run.json``."""
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
