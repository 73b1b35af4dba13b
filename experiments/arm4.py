"""Every method on arm4, five seeds each: about an hour on two cores.

    python experiments/arm4.py               # go on where it stopped, two runs at a time
    python experiments/arm4.py --seeds 1     # the first seed only
    python experiments/arm4_table.py         # the table of what there is
"""

from __future__ import annotations

import argparse

from grid import run_grid

from crl.envs.arm_tasks import ARM_TASKS

# Defaults among them, so that the table stays what it is when they change.
SMALL = ["agent.hidden=[64,64]", "agent.learning_rate=3e-3", "agent.reward_scale=1",
         "agent.start_steps=500", "agent.update_after=500", "agent.n_step=3",
         "agent.normalize_observations=false", "agent.batch_size=128", "agent.update_to_data=1",
         "agent.polyak=0.995", "train.eval_episodes=5"]
# Row of the table → methods, and settings besides the defaults.
ROWS: dict[str, tuple[list[str], list[str]]] = {
    "finetuning": ([], []),
    **{method: ([method], []) for method in (
        "l2", "ewc", "mas", "si", "vcl", "parseval", "l2-init",
        "perfect-memory", "a-gem", "gem", "clonex", "ser", "replay-scheduling",
        "power-law-rehearsal",
        "packnet", "input-affine", "modulation", "relevance-masks", "rank-updates",
        "half-fine-tuning",
        "ema", "elephant",
        "redo", "continual-backprop", "shrink-and-perturb")},
    "resets": (["resets"], ["resets.period=2000"]),  # the default is longer than the stream
    "clnp": (["clnp"], ["agent.layer_norm=false"]),
    "ewc-online": (["ewc"], ["ewc.online=0.9"]),
    "clonex-best-return": (["clonex"], ["agent.explore=best_return"]),
}


def arguments(stream: str, methods: list[str], settings: list[str], seed: int) -> list[str]:
    """Of `crl train`."""
    return ["--stream", stream, "--agent", "sac", "--seed", str(seed),
            *(word for method in methods for word in ("--method", method)),
            *(word for value in [*SMALL, *settings] for word in ("--set", value))]


def main() -> None:
    """Runs everything that is not finished yet, seed by seed; first the single-task references."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="the first so many seeds")
    seeds = range(parser.parse_args().seeds)
    run_grid("arm4-single", {f"{task}-{seed}": arguments(task, [], ["stream.steps_per_task=5000"],
                                                         seed)
                             for seed in seeds for task in ARM_TASKS})
    run_grid("arm4", {f"{row}-{seed}": arguments("arm4", *ROWS[row], seed)
                      for seed in seeds for row in ROWS})


if __name__ == "__main__":
    main()
