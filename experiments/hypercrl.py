"""Models that plan, task after task: what a hypernetwork keeps, and what other methods do.

    python experiments/hypercrl.py pusher    # or cartpole, slide, door
    python experiments/hypercrl_table.py     # the tables of what there is so far

Each goes on where it stopped, two runs at a time. Policies are evaluated on all tasks before the
first and when a task ends.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from grid import run_grid, set_arguments

Settings = dict[str, object]

SEEDS = range(3)
ROWS: dict[str, list[str]] = {  # arguments of `crl train`
    "hypercrl": ["--agent", "hypercrl", "--set",
                 'agent.trunk_options={"width": 128, "chunks": 20, "coefficient": 0.05}'],
    "finetuning": ["--agent", "mpc"],
    "coreset": ["--agent", "mpc", "--method", "perfect-memory",
                "--set", "perfect-memory.capacity=300"],  # a tenth of a task of the pusher, for all
    "ewc": ["--agent", "mpc", "--method", "ewc", "--set", "ewc.coefficient=1e4"],
    "si": ["--agent", "mpc", "--method", "si", "--set", "si.coefficient=0.1"],
    "multi-task": ["--agent", "mpc", "--set", 'agent.reset=["optimizer"]'],
    "single": ["--agent", "mpc", "--set", 'agent.reset=["replay","optimizer","model"]'],
}


@dataclass(frozen=True)
class Grid:
    """Rows × seeds 0, 1, 2 of one stream.

    Attributes:
        steps: Of a task.
        episodes: Of an evaluation of a task.
        settings: ``section.name`` → value, of all rows.
    """

    steps: int
    episodes: int
    settings: Settings = field(default_factory=dict)


GRIDS = {
    "pusher": Grid(3_000, 4, {"agent.start_steps": 500,
                              "agent.planner_options": '{"horizon": 20}'}),
    "slide": Grid(3_000, 8, {"agent.start_steps": 600,
                             "agent.planner_options": '{"horizon": 15}'}),
    # Half as long an episode as the stream's own is time to swing up and hold.
    "cartpole": Grid(1_000, 2, {"stream.horizon": 100, "agent.start_steps": 200,
                                "agent.train_every": 100, "agent.updates": 300,
                                "agent.hidden": "[128,128]"}),
    "door": Grid(6_000, 4, {"agent.start_steps": 600, "agent.planner_options": '{"horizon": 15}'}),
}
# Defaults among them, so that the tables stay what they are when they change.
_SETTINGS: Settings = {
    "agent.model": "deterministic", "agent.planner": "icem", "agent.train_every": 200,
    "agent.updates": 500, "agent.learning_rate": 1e-3, "agent.batch_size": 100,
    "agent.hidden": "[200,200]", "agent.planner_options": '{"horizon": 25}'}


def jobs(name: str, grid: Grid) -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`; seed by seed, so that there is soon a table."""
    values = {"stream.steps_per_task": grid.steps, "train.eval_every": grid.steps,
              "train.eval_episodes": grid.episodes, **_SETTINGS, **grid.settings}
    arguments = ["--stream", f"hcrl-{name}", *set_arguments(values)]
    return {f"{row}-{seed}": [*arguments, *own, "--seed", str(seed)]
            for seed in SEEDS for row, own in ROWS.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=GRIDS)
    name = parser.parse_args().grid
    run_grid(f"hypercrl/{name}", jobs(name, GRIDS[name]))
