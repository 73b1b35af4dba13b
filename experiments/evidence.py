"""The evidence of a protocol: agents and methods × seeds, under its rules, two runs at a time.

    python experiments/evidence.py --protocol laptop-3               # go on where it stopped
    python experiments/evidence.py --protocol laptop-10 --seeds 1    # the first seed only
    python experiments/evidence.py --protocol laptop-3 --references  # single-task curves, once
    crl leaderboard experiments/results/laptop-3

laptop-3 takes about eight hours on two cores, laptop-10 about nine a seed. The references are what
forward transfer is measured against; they ship with the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from grid import RESULTS, run_grid, set_arguments

import crl
from crl import registry
from crl.leaderboard import protocols, references
from crl.run import Run

_OTHERS = ("dream-rehearsal", "clnp", "resets")  # of world models; with settings, below
METHODS = {method: ["--method", method] for method in registry.methods.names()
           if method not in _OTHERS}
# Row → arguments of `crl train`, besides the protocol's.
ROWS: dict[str, dict[str, list[str]]] = {
    "laptop-3": {
        "finetuning": [], **METHODS,
        "clnp": ["--method", "clnp", "--set", "agent.layer_norm=false"],
        "resets": ["--method", "resets", "--set", "resets.period=5000"],  # its own: once
        "clonex-best-return": ["--method", "clonex", "--set", "agent.explore=best_return"],
        "sb3-sac": ["--agent", "sb3:SAC"],
    },
    "laptop-10": {
        "finetuning": [],
        **{method: METHODS[method] for method in (
            "ewc", "packnet", "clonex", "perfect-memory", "modulation")},
        # As many gradient steps as the others: with one a step, a run would take all night.
        "sb3-sac": ["--agent", "sb3:SAC", "--set", "agent.train_freq=4"],
    },
}


def jobs(name: str, seeds: int) -> dict[str, list[str]]:
    """Of each run, the arguments of `crl train`; seed by seed, so that there is soon a table."""
    return {f"{row}-{seed}": ["--protocol", name, *([] if "--agent" in own else ["--agent", "sac"]),
                              *own, "--seed", str(seed)]
            for seed in range(seeds) for row, own in ROWS[name].items()}


def single_jobs(protocol: protocols.Protocol, seeds: int) -> dict[str, list[str]]:
    """Of each task alone, for as many steps as in the stream; evaluated alike."""
    stream = crl.make_stream(**protocol.stream)
    values = {"stream.steps_per_task": stream[0].steps,
              **{f"train.{key}": str(value).lower() for key, value in protocol.train.items()}}
    return {f"{task.name}-{seed}": ["--stream", task.name, "--agent", "sac",
                                    *set_arguments(values), "--seed", str(seed)]
            for seed in range(seeds) for task in stream}


def main() -> None:
    """Runs everything that is not finished yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", choices=ROWS, required=True)
    parser.add_argument("--seeds", type=int, help="the first so many; default: the protocol's")
    parser.add_argument("--references", action="store_true",
                        help="train the tasks alone, and write the curves that ship")
    options = parser.parse_args()
    protocol = protocols.get(options.protocol)
    seeds = options.seeds or protocol.seeds
    if not options.references:
        run_grid(protocol.name, jobs(protocol.name, seeds))
        return
    grid = f"{protocol.name}-single"
    alone = single_jobs(protocol, seeds)
    run_grid(grid, alone)
    folder = Path(references.__file__).parent / "references"
    references.write_references(protocol, [Run(RESULTS / grid / job) for job in alone],
                                folder / f"{protocol.name}.csv")


if __name__ == "__main__":
    main()
