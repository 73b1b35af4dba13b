"""Settings of SAC, by Ray Tune's schedulers; the same command goes on where it stopped.

    python experiments/tune_search.py asha     # on single tasks: those that lag are stopped
    python experiments/tune_search.py pbt      # on a stream: those that lag take over from others

Early stopping goes by who learns the first tasks fast, so that it is for single tasks only. A
population all reaches the end of the stream, with settings that change on the way.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import crl.tune
from crl.ray_session import session

TASKS = ("push-v3", "window-close-v3", "peg-unplug-side-v3")
STREAM = {"name": "quick3"}
STEPS = 100_000  # of a single task
SAMPLES = 8
OUT = Path("runs/tune")


def asha() -> None:
    """Learning rate and width on each task: a search of its own, since tasks differ in pace."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    for task in TASKS:
        space = {"stream": {"name": task, "steps_per_task": STEPS},
                 "agent": {"name": "sac", "learning_rate": tune.loguniform(1e-4, 1e-2),
                           "hidden": tune.choice([[128, 128], [256, 256]])}}
        crl.tune.check(crl.tune.fit(space, OUT / f"asha-{task}", tune.TuneConfig(
            metric="performance", mode="max", num_samples=SAMPLES, scheduler=ASHAScheduler(
                time_attr="env_step", max_t=STEPS, grace_period=STEPS // 5))))


def pbt() -> None:
    """A population on a stream, by the mean success over all of its tasks."""
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    rates = tune.loguniform(1e-4, 1e-2)
    space = {"stream": STREAM, "agent": {"name": "sac", "learning_rate": rates},
             "methods": ["packnet"]}
    crl.tune.check(crl.tune.fit(space, OUT / "pbt", tune.TuneConfig(
        metric="performance", mode="max", num_samples=SAMPLES, scheduler=PopulationBasedTraining(
            time_attr="training_iteration", perturbation_interval=3, synch=True,  # none is ahead
            hyperparam_mutations={"agent": {"learning_rate": rates}}))))


def main() -> None:
    with session(os.cpu_count() or 1):
        {"asha": asha, "pbt": pbt}[sys.argv[1]]()


if __name__ == "__main__":
    main()
