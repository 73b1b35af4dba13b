"""``crl demo``: one stream learned twice, with and without a continual-learning method.

Each run is a process of its own on one core; this process only watches their folders.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from crl.envs.catalog import make_stream
from crl.errors import UserError
from crl.loop import Progress
from crl.progress import Display
from crl.run import Run
from crl.stream import TaskStream

RUNS: dict[str, list[str]] = {"fine-tuning": [], "packnet": ["--method", "packnet"]}
_STREAM = "quick3"
_POLL_S = 0.5


def demo(out: Path, seed: int) -> dict[str, Run]:
    """Trains the two runs side by side in ``out``; goes on with those that are there already.

    Raises:
        UserError: A run could not be started or stopped with an error; its message is passed on.
    """
    stream = make_stream(_STREAM)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    errors = {name: tempfile.TemporaryFile() for name in RUNS}  # noqa: SIM115
    try:
        for name, options in RUNS.items():
            processes[name] = _start(out / name, options, seed, errors[name])
        with Display() as display:
            while None in (status := [p.poll() for p in processes.values()]):
                if any(status):
                    break  # one has failed: do not let the user wait for the other
                time.sleep(_POLL_S)
                for name in RUNS:
                    progress = watch(out / name, stream)
                    if progress:
                        display(name, progress)
        for name, process in processes.items():
            if process.poll():
                errors[name].seek(0)
                lines = errors[name].read().decode(errors="replace").strip().splitlines()
                reason = lines[-1] if lines else f"exit status {process.returncode}"
                raise UserError(f"run {out / name} stopped: {reason.removeprefix('crl: error: ')}")
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()
        for file in errors.values():
            file.close()
    return {name: Run(out / name) for name in RUNS}


def watch(folder: Path, stream: TaskStream) -> Progress | None:
    """Where the run in ``folder`` stands, read from its files; None before it has begun."""
    try:
        run = Run(folder)
        train, evals = run.train(), run.evals()
    except UserError:
        return None
    progress = Progress(stream, phase="finished" if run.status == "finished" else "training")
    if len(train["env_step"]):
        progress.env_step = int(train["env_step"][-1])
        progress.task = int(train["train_task"][-1])
        progress.wall_s = float(train["wall_s"][-1])
        progress.train_success = float(train["success_once"][-10:].mean())
    if len(evals["env_step"]):
        progress.wall_s = max(progress.wall_s, float(evals["wall_s"][-1]))
        episodes = run.config["train"]["eval_episodes"]
        newest = [evals["success_once"][evals["eval_task"] == i][-episodes:]
                  for i in range(len(stream))]
        progress.eval_success = [float(n.mean()) if len(n) else float("nan") for n in newest]
    return progress


def _start(
    folder: Path, options: list[str], seed: int, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "crl"]
    if folder.exists():
        command += ["resume", str(folder)]
    else:
        command += ["train", "--stream", _STREAM, *options, "--seed", str(seed), "--out",
                    str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors,
                            stdin=subprocess.DEVNULL)
