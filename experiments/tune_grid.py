"""Methods × seeds on CW10, by Ray Tune: a run a core; the same command goes on where it stopped.

    python experiments/tune_grid.py
    RAY_ADDRESS=auto python experiments/tune_grid.py     # on the cluster that this machine is of
    crl report runs/tune/cw10 --out report
"""

from __future__ import annotations

import os
from pathlib import Path

import crl.tune
from crl.ray_session import session

STREAM = {"name": "cw10"}
AGENT = {"name": "sac"}
METHODS = ("", "ewc", "packnet", "clonex")  # "" is fine-tuning
SEEDS = (0, 1, 2)
OUT = Path("runs/tune/cw10")


def main() -> None:
    with session(os.cpu_count() or 1):
        from ray import tune  # within the session, which tells Ray to keep to itself

        space = {"stream": STREAM, "agent": AGENT, "seed": tune.grid_search(SEEDS),
                 "methods": tune.grid_search([[name] if name else [] for name in METHODS])}
        crl.tune.check(crl.tune.fit(space, OUT))


if __name__ == "__main__":
    main()
