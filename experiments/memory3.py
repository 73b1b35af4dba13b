"""Memory skills one after another: what of them is forgotten.

    python experiments/memory3.py        # fine-tuning, EWC and PackNet on memory3
    python experiments/memory_table.py   # its table, with those of memory.py

Goes on where it stopped, two runs at a time.
"""

from __future__ import annotations

import argparse

from grid import run_grid, set_arguments

SEEDS = range(3)
# Row of the table → methods, and settings besides the defaults.
ROWS: dict[str, list[str]] = {
    "finetuning": [],
    "ewc": ["--method", "ewc", "--set", "ewc.coefficient=100"],  # 1e4 keeps, and learns no more
    "packnet": ["--method", "packnet"],
}
_SETTINGS = {
    "stream.steps_per_task": 30_000, "agent.memory": "s5", "agent.memory_size": 32,
    "agent.hidden": "[64]", "agent.sequence_length": 52, "agent.batch_size": 5,
    "agent.rollout_steps": 512, "agent.epochs": 6, "agent.learning_rate": 2e-3,
    "agent.gamma": 0.9, "agent.gae_lambda": 0.9, "agent.entropy_weight": 0.01,
    "agent.reward_scale": 1.0, "train.eval_episodes": 20}


def jobs() -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`."""
    return {f"{row}-{seed}": ["--stream", "memory3", "--agent", "recurrent-ppo",
                              "--seed", str(seed), *methods, *set_arguments(_SETTINGS)]
            for seed in SEEDS for row, methods in ROWS.items()}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    run_grid("memory/memory3", jobs())
