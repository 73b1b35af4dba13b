"""Arms that see neither their goal, but for an episode's first step, nor how fast they are.

    python experiments/hidden_goal.py    # recurrent and feed-forward SAC on two Meta-World tasks
    python experiments/memory_table.py   # its table, with those of memory.py

Everyone is shown the last reward. Goes on where it stopped, two runs at a time.
"""

from __future__ import annotations

import argparse

from grid import run_grid, set_arguments

TASKS = ("reach-v3", "reach-wall-v3")
SEEDS = range(3)
_RECURRENT = {
    "agent.hidden": "[64,64]", "agent.sequence_length": 60, "agent.batch_size": 64,
    # Seldom and much at once: goals are what there is to see, and an episode shows one.
    "agent.update_to_data": 0.02, "agent.learning_rate": 2e-3, "agent.n_step": 3,
    "agent.polyak": 0.98}
# Row of the table → agent, and settings besides those of all.
ROWS: dict[str, tuple[str, dict[str, object]]] = {
    "recurrent-sac, gru": ("recurrent-sac", {"agent.memory": "gru", **_RECURRENT}),
    "recurrent-sac, mlp": ("recurrent-sac", {"agent.memory": "mlp", **_RECURRENT}),
    "sac": ("sac", {}),
}
_SETTINGS = {
    "stream.steps_per_task": 100_000, "stream.horizon": 60, "stream.partially_observable": "true",
    "stream.goal_shown": 1, "stream.hide_velocities": "true", "stream.observe_reward": "true",
    "agent.normalize_observations": "true", "agent.reward_scale": 0.1,
    "train.eval_every": 10_000, "train.eval_episodes": 20}


def jobs() -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`."""
    return {job(task, row, seed): [
        "--stream", task, "--agent", agent, "--seed", str(seed),
        *set_arguments({**_SETTINGS, **own})]
        for seed in SEEDS for task in TASKS for row, (agent, own) in ROWS.items()}


def job(task: str, row: str, seed: int) -> str:
    """The folder of a row's run."""
    return f"{task}-{row.replace(', ', '-')}-{seed}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    run_grid("memory/hidden-goal", jobs())
