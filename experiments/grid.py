"""Runs a grid of `crl train` processes, resumable, and copies what is finished into results/."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PROCESSES = 2


def run_grid(name: str, jobs: Mapping[str, Sequence[str]], processes: int = PROCESSES) -> None:
    """Runs everything that is not finished yet, `processes` at a time, a thread each.

    Args:
        name: Run folders are runs/NAME/JOB; what is kept of them goes to results/NAME/JOB.
        jobs: Job → arguments of `crl train`, without --out.
        processes: How many at a time.
    """
    waiting = [job for job in jobs if not (RESULTS / name / job / "run.json").exists()]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished", flush=True)
    with ThreadPoolExecutor(processes) as pool:
        done = pool.map(lambda job: _run(name, job, jobs[job]), waiting)
        for number, message in enumerate(done, 1):
            print(f"{number}/{len(waiting)} {message}", flush=True)


def set_arguments(settings: Mapping[str, object]) -> list[str]:
    """`--set section.name=value` of each."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def write_table(path: Path, columns: Sequence[str],
                table: Sequence[Mapping[str, float | str]]) -> None:
    """Writes rows as CSV, numbers to four digits."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in table:
            writer.writerow([row[c] if isinstance(row[c], (str, int)) else f"{row[c]:.4g}"
                             for c in columns])


def _run(name: str, job: str, arguments: Sequence[str]) -> str:
    folder = Path("runs") / name / job
    command = ["resume", str(folder)] if folder.exists() else [
        "train", *arguments, "--out", str(folder)]
    done = subprocess.run([sys.executable, "-m", "crl", *command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode != 0:
        return f"{job}: {done.stderr.strip()}"
    target = RESULTS / name / job
    target.mkdir(parents=True, exist_ok=True)
    for file in ("evals.csv", "diagnostics.csv", "run.json"):  # run.json last: then it is whole
        if (folder / file).exists():
            shutil.copyfile(folder / file, target / file)
    return f"{job}: finished"
