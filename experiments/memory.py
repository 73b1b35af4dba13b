"""What memories are worth: the same agent with each of them, and with none.

    python experiments/memory.py t-maze           # a clue, a corridor of 100 cells, a turn
    python experiments/memory.py repeat-previous  # the fourth last card, card by card
    python experiments/memory.py cart-pole        # its velocities are hidden
    python experiments/memory.py pendulum         # likewise
    python experiments/memory_table.py            # the tables of what there is so far

Each goes on where it stopped, two runs at a time. Policies of the T-Maze are tested at one, three
and ten times the length they were trained at, as `crl eval --memory` does.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from grid import RESULTS, run_grid, set_arguments, write_table

from crl.memory_evaluation import evaluate_memory
from crl.run import Run

Settings = dict[str, object]


@dataclass(frozen=True)
class Grid:
    """Rows × seeds 0, 1, 2 of one stream, of whose last task scores are.

    Attributes:
        stream, steps: What is learned, and how long each task.
        agent: The agent's name.
        rows: Of the table: name → memory, and settings besides ``settings``.
        settings: ``section.name`` → value, of all rows.
        good: A return that only a memory, or frames, reach: CPU-seconds until then are compared.
        lengths: Of the last task, at which finished policies are tested.
    """

    stream: str
    steps: int
    agent: str
    rows: dict[str, tuple[str, Settings]]
    settings: Settings
    good: float
    lengths: tuple[int, ...] = ()


Rows = dict[str, tuple[str, Settings]]
_MEMORIES: Rows = {name: (name, {}) for name in ("s5", "gru", "ffm", "lstm", "bilinear", "rmc",
                                                 "dt-mem", "hcam", "gtrxl", "trmrl")}
_NONE: Rows = {"mlp": ("mlp", {}), "mlp, 4 frames": ("mlp", {"stream.frame_stack": 4})}
# Defaults among them, so that the tables stay what they are when they change.
_SAC: Settings = {
    "agent.shared_memory": "true", "agent.n_step": 1, "agent.polyak": 0.98, "agent.batch_size": 16,
    "agent.start_steps": 1_000, "agent.update_after": 1_000, "agent.hidden": "[64]"}
_PPO: Settings = {
    "agent.shared_memory": "true", "agent.rollout_steps": 1_000, "agent.sequence_length": 64,
    "agent.batch_size": 4, "agent.hidden": "[128,128]", "agent.memory_size": 64,
    "agent.learning_rate": 1e-3, "agent.reward_scale": 0.1, "agent.clip": 0.2,
    "agent.entropy_weight": 0.0, "agent.value_weight": 0.5, "agent.max_gradient_norm": 0.5,
    "train.eval_episodes": 10}
_HIDDEN: Settings = {"stream.hide_velocities": "true"}

GRIDS = {
    "t-maze": Grid(
        # Who only knows a long corridor hardly ever sees its end: shorter ones first, and the
        # replay keeps them. There is no time to lose a step, so that whoever acts at random in one
        # of fifty does not see it either. What an action is worth shows at once (a credit of one
        # step, as Ni et al. 2023 have it), so that a short horizon loses nothing.
        "t-maze-10,t-maze-30,t-maze-100", 30_000, "recurrent-sac",
        # Memories begin such that a clue that is shown once is not small beside what is shown
        # always, and lasts: gates drawn to hold for up to a corridor (chrono initialisation),
        # modes whose inputs are normalised.
        {**{name: (name, {}) for name in ("ffm", "bilinear", "mlp")},
         **{name: (name, {"agent.memory_options": '{"horizon": 100}'})
            for name in ("gru", "lstm")},
         "s5": ("s5", {"agent.memory_options": '{"normalized": true}'})},
        {**_SAC, "agent.multi_head": "false", "agent.reset": "[]", "agent.memory_size": 32,
         "agent.batch_size": 8, "agent.learning_rate": 1e-3, "agent.sequence_length": 101,
         "agent.update_to_data": 0.1, "agent.initial_temperature": 0.05, "agent.gamma": 0.9,
         "agent.reward_scale": 1.0, "agent.epsilon": 0.003, "train.eval_episodes": 20},
        good=0.9, lengths=(100, 300, 1000)),
    "repeat-previous": Grid(
        "repeat-previous-easy", 12_000, "recurrent-sac",
        # Each with the better of two learning rates on seed 0: 3e-3 of all others.
        {**_MEMORIES, **_NONE, **{name: (name, {"agent.learning_rate": 1e-3})
                                  for name in ("ffm", "trmrl")}},
        {**_SAC, "agent.memory_size": 64, "agent.learning_rate": 3e-3, "agent.sequence_length": 51,
         "agent.update_to_data": 0.25, "agent.initial_temperature": 0.1,
         # An action changes nothing of what comes; rewards are of 1/48.
         "agent.gamma": 0.0, "agent.reward_scale": 20, "agent.epsilon": 0.3,
         "train.eval_episodes": 10}, good=0.9),
    "cart-pole": Grid(
        "CartPole-v1", 30_000, "recurrent-ppo", {**_MEMORIES, **_NONE},
        {**_PPO, **_HIDDEN, "agent.gamma": 0.99, "agent.gae_lambda": 0.95, "agent.epochs": 5},
        good=200),
    "pendulum": Grid(
        "Pendulum-v1", 60_000, "recurrent-ppo", {**_MEMORIES, **_NONE},
        {**_PPO, **_HIDDEN, "agent.gamma": 0.95, "agent.gae_lambda": 0.9, "agent.epochs": 10},
        good=-400),
}
SEEDS = range(3)


def jobs(grid: Grid) -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`; seed by seed, so that there is soon a table."""
    return {job(name, seed): _arguments(grid, name, seed) for seed in SEEDS for name in grid.rows}


def job(name: str, seed: int) -> str:
    """The folder of a row's run."""
    return f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def _arguments(grid: Grid, name: str, seed: int) -> list[str]:
    memory, own = grid.rows[name]
    values = {"stream.steps_per_task": grid.steps, "agent.memory": memory, **grid.settings, **own}
    return ["--stream", grid.stream, "--agent", grid.agent, "--seed", str(seed),
            *set_arguments(values)]


def test_memories(name: str, grid: Grid) -> None:
    """Writes memory.csv beside each finished run whose folder is still here."""
    for folder in jobs(grid):
        run, result = Path("runs") / "memory" / name / folder, RESULTS / "memory" / name / folder
        if not grid.lengths or not (run / "run.json").exists() or (result / "memory.csv").exists():
            continue
        trained = Run(run)
        last = len(trained.stream) - 1
        rows = evaluate_memory(trained.policy(last), trained.stream[last],
                               trained.config["stream"], grid.lengths)
        write_table(result / "memory.csv", ("task", "horizon", "kind", "success", "control"), [
            {"task": row.task, "horizon": row.horizon, "kind": row.kind,
             "success": float(row.success.mean()), "control": float(row.control.mean())}
            for row in rows])


def main() -> None:
    """Runs everything of a grid that is not finished yet, then tests what it made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", choices=GRIDS)
    name = parser.parse_args().grid
    torch.set_num_threads(1)  # of the tests; runs see to theirs
    run_grid(f"memory/{name}", jobs(GRIDS[name]))
    test_memories(name, GRIDS[name])


if __name__ == "__main__":
    main()
