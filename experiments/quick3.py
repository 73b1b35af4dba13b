"""Fine-tuning, EWC, ClonEx and PackNet on quick3, three seeds each: half an hour on two cores.

    python experiments/quick3.py             # go on where it stopped, two runs at a time
    crl report experiments/results/quick3/* --out report

Each run is a `crl train` with one thread. When it is finished, its run.json and CSV files go
to experiments/results/quick3/; checkpoints stay in runs/quick3/.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

METHODS = ("finetuning", "packnet", "ewc", "clonex")
SEEDS = (0, 1, 2)
PROCESSES = 2
RUNS = Path("runs/quick3")
RESULTS = Path(__file__).parent / "results" / "quick3"


def run(method: str, seed: int) -> str:
    """Trains, or goes on with, one run, and copies its results; returns what to say about it."""
    folder = RUNS / f"{method}-{seed}"
    if folder.exists():
        arguments = ["resume", str(folder)]
    else:
        methods = [] if method == "finetuning" else ["--method", method]
        arguments = ["train", "--stream", "quick3", *methods, "--seed", str(seed),
                     "--out", str(folder)]
    done = subprocess.run([sys.executable, "-m", "crl", *arguments], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return f"{folder}: {done.stderr.strip()}"
    target = RESULTS / folder.name
    target.mkdir(parents=True, exist_ok=True)
    for name in ("run.json", "train.csv", "evals.csv"):
        shutil.copyfile(folder / name, target / name)
    return f"{folder}: finished"


def main() -> None:
    """Runs everything that is not finished yet."""
    jobs = [(method, seed) for seed in SEEDS for method in METHODS]
    with ThreadPoolExecutor(PROCESSES) as pool:
        for message in pool.map(lambda job: run(*job), jobs):
            print(message, flush=True)


if __name__ == "__main__":
    main()
