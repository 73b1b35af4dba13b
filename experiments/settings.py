"""Settings of SAC on Continual World's tasks by what they learn in a CPU-second: three grids.

    python experiments/settings.py search   # one setting at a time, on three tasks
    python experiments/settings.py ten      # the defaults beside plain SAC, on all ten
    python experiments/settings.py bf16     # products in bfloat16 beside float32
    python experiments/settings_table.py    # the tables of what there is so far

Each goes on where it stopped, two runs at a time. The step counts make the runs of a grid about
equally long: a step costs a CPU more the more it learns from it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from grid import run_grid

from crl.envs.continual_world import CW10

Settings = dict[str, object]  # of SAC

# What the search starts from: SAC's defaults before it. Written out, since defaults change.
START: Settings = {
    "hidden": "[128,128]", "layer_norm": "true", "precision": "float32", "batch_size": 128,
    "update_to_data": 1.0, "n_step": 3, "reward_scale": 0.1, "gamma": 0.99, "polyak": 0.995,
    "normalize_observations": "false", "learning_rate": 1e-3, "target_entropy": -1.0,
    "initial_temperature": 0.1}
QUARTER: Settings = {"update_to_data": 0.25, "batch_size": 256}
FAST: Settings = {**QUARTER, "polyak": 0.98}  # SAC's defaults since
WIDE: Settings = {"hidden": "[256,256]"}


@dataclass(frozen=True)
class Grid:
    """Settings × tasks × seeds 0, 1, …; the first setting is what the others are held against."""

    tasks: tuple[str, ...]
    seeds: int
    settings: dict[str, tuple[int, Settings]]  # name → steps, what differs from START


GRIDS = {
    "search": Grid(("push-v3", "peg-unplug-side-v3", "hammer-v3"), 3, {
        "start": (54_000, {}),
        "half": (90_000, {**QUARTER, "update_to_data": 0.5}),
        "quarter": (130_000, QUARTER),
        "quarter-normalised": (130_000, {**QUARTER, "normalize_observations": "true"}),
        "quarter-gamma-.97": (130_000, {**QUARTER, "gamma": 0.97}),
        "fast-targets": (130_000, FAST),
    }),
    "ten": Grid(CW10, 1, {
        # SAC as it is usually run on a CPU, with the layer normalisation that critics want.
        "plain": (60_000, {**WIDE, "n_step": 1}),
        "defaults": (220_000, FAST),
    }),
    "bf16": Grid(("window-close-v3", "handle-press-side-v3"), 2, {
        "float32": (40_000, WIDE),
        "bf16": (40_000, {**WIDE, "precision": "bf16"}),
    }),
}
EVALUATIONS = 12


def jobs(grid: Grid) -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`; task by task, so that there is soon a table."""
    return {f"{name}-{task}-{seed}": _arguments(task, seed, *grid.settings[name])
            for seed in range(grid.seeds) for task in grid.tasks for name in grid.settings}


def _arguments(task: str, seed: int, steps: int, settings: Settings) -> list[str]:
    values = [f"stream.steps_per_task={steps}", "train.eval_episodes=10",
              f"train.eval_every={steps // EVALUATIONS}",
              *(f"agent.{key}={value}" for key, value in {**START, **settings}.items())]
    return ["--stream", task, "--agent", "sac", "--seed", str(seed),
            *(word for value in values for word in ("--set", value))]


def main() -> None:
    """Runs everything of a grid that is not finished yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=GRIDS)
    name = parser.parse_args().grid
    run_grid(f"settings/{name}", jobs(GRIDS[name]))


if __name__ == "__main__":
    main()
