"""What a world model keeps of old tasks: by which experience stays in its replay, or by dreams.

    python experiments/r2i_keep.py cars    # or lengths
    python experiments/r2i_table.py        # the tables of what there is so far

Each goes on where it stopped, two runs at a time. The replay holds as many steps as one task has.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from grid import run_grid, set_arguments
from r2i import SETTINGS

SEEDS = range(3)
ROWS: dict[str, list[str]] = {  # arguments of `crl train`
    "newest": ["--set", "agent.keep=fifo"],
    "reservoir": ["--set", "agent.keep=reservoir"],
    "dream-rehearsal": ["--method", "dream-rehearsal", "--set", 'agent.reset=["replay"]'],
}


@dataclass(frozen=True)
class Grid:
    """Rows × seeds 0, 1, 2 of one stream.

    Attributes:
        stream: Its name.
        steps: Of a task.
        settings: ``section.name`` → value, of all rows.
    """

    stream: str
    steps: int
    settings: dict[str, object]


GRIDS = {
    "cars": Grid("hcrl-lqr", 2_000, {
        "agent.train_ratio": 256, "agent.gamma": 0.9, "agent.behaviour_rate": 1e-3,
        "agent.start_steps": 500}),
    "lengths": Grid("memory-length-5,memory-length-15", 8_000, {
        "agent.train_ratio": 200, "agent.behaviour_rate": 3e-4, "agent.start_steps": 1_000}),
}


def jobs(grid: Grid) -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`; seed by seed, so that there is soon a table."""
    values = {"stream.steps_per_task": grid.steps, "train.eval_every": grid.steps,
              "agent.replay_size": grid.steps, "agent.memory": "s5",
              "train.eval_episodes": 20, **SETTINGS, **grid.settings}
    arguments = ["--stream", grid.stream, "--agent", "r2i", *set_arguments(values)]
    return {f"{row}-{seed}": [*arguments, *own, "--seed", str(seed)]
            for seed in SEEDS for row, own in ROWS.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=GRIDS)
    name = parser.parse_args().grid
    run_grid(f"r2i/keep-{name}", jobs(GRIDS[name]))
