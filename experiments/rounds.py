"""What SAC learns if it is shown rounds of episodes, beside learning after every step.

    python experiments/rounds.py          # goes on where it stopped, two runs at a time
    python experiments/rounds_table.py    # the table

Episodes have 200 steps. Workers play none of them: they would play the same.
"""

from __future__ import annotations

from grid import run_grid, set_arguments

TASKS = ("window-close-v3", "handle-press-side-v3")
SEEDS = range(3)
ROWS = {  # episodes of a round, rounds ahead
    "steps": (0, 0), "rounds-of-2": (2, 0), "rounds-of-4": (4, 0), "rounds-of-4-ahead": (4, 1),
}
_SETTINGS = {"stream.steps_per_task": 40_000, "train.eval_every": 4_000, "train.eval_episodes": 10}


def main() -> None:
    """Runs everything that is not finished yet; seed by seed, so that there is soon a table."""
    run_grid("rounds", {
        f"{row}-{task}-{seed}": [
            "--stream", task, "--agent", "sac", "--seed", str(seed), *set_arguments({
                **_SETTINGS, "train.round_episodes": episodes, "train.rounds_ahead": ahead})]
        for seed in SEEDS for task in TASKS for row, (episodes, ahead) in ROWS.items()})


if __name__ == "__main__":
    main()
