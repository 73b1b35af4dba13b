"""Settings of SAC on the ten Continual World tasks, one at a time: which learn with least CPU time.

    python experiments/settings.py                     # go on where it stopped, two runs at a time
    python experiments/settings.py --only base plain   # these settings only
    python experiments/settings_table.py               # what there is so far
"""

from __future__ import annotations

import argparse

from grid import run_grid

from crl.envs.continual_world import CW10

STEPS = 60_000
# `plain` is the baseline to beat: SAC with layer normalisation, 2×256, one-step returns. All have
# the defaults of SAC besides, of which those that are searched over are written out in `base`.
BASE = {"hidden": "[128,128]", "n_step": 3, "reward_scale": 0.1, "batch_size": 128,
        "update_to_data": 1.0, "normalize_observations": "false", "gamma": 0.99,
        "learning_rate": 1e-3, "target_entropy": -1.0}
SETTINGS: dict[str, dict[str, object]] = {
    "plain": {"hidden": "[256,256]", "n_step": 1},
    "base": {},
    "normalised": {"normalize_observations": "true"},
    "wide": {"hidden": "[256,256]"},
    "wide-bf16": {"hidden": "[256,256]", "precision": "bf16"},
    "five-step": {"n_step": 5},
    "half-updates": {"update_to_data": 0.5},
    "half-updates-batch-256": {"update_to_data": 0.5, "batch_size": 256},
    "reward-1": {"reward_scale": 1.0, "initial_temperature": 1.0},
    "low-entropy": {"target_entropy": -2.0},
}


def arguments(task: str, name: str, seed: int) -> list[str]:
    """Of `crl train`: a run of one task, evaluated every tenth."""
    settings = {**BASE, **SETTINGS[name]}
    values = [f"stream.steps_per_task={STEPS}", "train.eval_episodes=10",
              *(f"agent.{key}={value}" for key, value in settings.items())]
    return ["--stream", task, "--agent", "sac", "--seed", str(seed),
            *(word for value in values for word in ("--set", value))]


def main() -> None:
    """Runs everything that is not finished yet, setting by setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--tasks", nargs="+", choices=CW10, default=list(CW10))
    parser.add_argument("--seeds", type=int, default=1, help="the first so many seeds")
    options = parser.parse_args()
    run_grid("settings", {f"{name}-{task}-{seed}": arguments(task, name, seed)
                          for seed in range(options.seeds) for name in options.only
                          for task in options.tasks})


if __name__ == "__main__":
    main()
