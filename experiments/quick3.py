"""Fine-tuning, EWC, ClonEx and PackNet on quick3, three seeds each: half an hour on two cores.

    python experiments/quick3.py             # go on where it stopped, two runs at a time
    crl report experiments/results/quick3/* --out report
"""

from __future__ import annotations

from grid import run_grid

METHODS = ("finetuning", "packnet", "ewc", "clonex")
SEEDS = (0, 1, 2)


def main() -> None:
    """Runs everything that is not finished yet."""
    run_grid("quick3", {
        f"{method}-{seed}": ["--stream", "quick3", "--agent", "sac", "--seed", str(seed),
                             *([] if method == "finetuning" else ["--method", method])]
        for seed in SEEDS for method in METHODS})


if __name__ == "__main__":
    main()
