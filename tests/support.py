"""Runs to stop, kill and compare: a driver of ``crl`` processes, and readers of what they leave.

The driver is a process of its own that imports everything once and forks a child per command, so
that a command costs what it does and not what importing torch costs. A child can be told to kill
itself with SIGKILL at an exact instant: before, in the middle of or after the n-th call of a
function, or at the n-th executed line of the functions that write.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.numpy import load_file

TESTS = Path(__file__).parent
TASKS, STEPS_PER_TASK = 3, 100
SMALL = [
    "stream.horizon=25", f"stream.steps_per_task={STEPS_PER_TASK}",
    "agent.hidden=[16,16]", "agent.start_steps=40", "agent.update_after=20",
    "agent.batch_size=16", "agent.replay_size=100", "agent.n_step=2",
    "agent.update_to_data=1",
    "agent.explore=best_return",
    "train.eval_every=50", "train.eval_episodes=1", "train.checkpoint_every=25",
]
METHODS = {
    "packnet": ["--method", "packnet", "--set", "packnet.retrain_share=0.2"],
    "ewc": ["--diagnose", "--method", "ewc", "--set", "ewc.batches=1",
            "--set", "ewc.batch_size=32"],
    "clonex": ["--method", "clonex", "--set", "clonex.samples_per_task=32",
               "--set", "clonex.batch_size=16", "--set", "agent.reset=[replay,critic,actor]"],
    "fine-tuning": ["--set", "agent.multi_head=false", "--set", "agent.reset=[optimizer]"],
}
ONCE_TIMED = ("wall_s", "cpu_s")  # what may differ between two equal runs
LINES_OF = {
    "training.py": ("create", "open", "_save", "run", "_train_task", "_write", "__exit__"),
    "recorder.py": ("create", "open", "_open_rows", "write", "save", "set_status", "close"),
    "checkpoint.py": ("save", "save_tree", "replace_file", "write_synced", "latest"),
    "rows.py": ("__init__", "cut", "write", "sync"),
    "run.py": ("__init__", "write_info", "claim"),
}


def train_arguments(method: str, out: str = "run", seed: int = 3) -> list[str]:
    """``crl train`` on a tiny stream: three visits to a pendulum, a second or so."""
    stream = ",".join(["Pendulum-v1"] * TASKS)
    settings = [word for assignment in SMALL for word in ("--set", assignment)]
    return ["train", "--stream", stream, *settings, *METHODS[method], "--seed", str(seed),
            "--out", out]


# ---- what a run leaves behind, read without crl ----


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV, without the columns that are times."""
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k not in ONCE_TIMED}
                for row in csv.DictReader(file)]


def read_state(folder: Path) -> dict[str, Any]:
    """Everything about a run that must be equal in two equal runs, arrays as bytes."""
    checkpoints = folder / "checkpoints"
    latest = checkpoints / (checkpoints / "latest").read_text()
    tree = json.loads((latest / "tree.json").read_text())
    del tree["rows"]  # the sizes of the files: times have more or fewer digits
    for name in ONCE_TIMED:
        del tree["loop"][name]
    arrays = {name: (str(a.dtype), a.shape, a.tobytes())
              for name, a in load_file(latest / "arrays.safetensors").items()}
    info = json.loads((folder / "run.json").read_text())
    return {
        "tree": json.dumps(tree), "arrays": arrays,
        "checkpoints": sorted(p.name for p in checkpoints.iterdir()),
        **{p.stem: read_rows(p) for p in folder.glob("*.csv")},
        "info": {k: info[k] for k in ("status", "seed", "protocol", "tasks", "config", "schema")},
        "files": sorted(p.name for p in folder.iterdir()),
    }


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of what differs between two states; empty for bit-identical ones."""
    different = [key for key in a if key != "arrays" and a[key] != b[key]]
    names = a["arrays"].keys() | b["arrays"].keys()
    return different + [n for n in sorted(names) if a["arrays"].get(n) != b["arrays"].get(n)]


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path under a folder, and the content of the files."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
            for p in sorted(folder.rglob("*"))}


# ---- the driver ----


class Result(NamedTuple):
    """How a command ended: the exit status, negative for a signal, and what it printed."""

    status: int
    out: str
    err: str
    counts: dict[str, int]

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Driver:
    """Runs ``crl`` commands in forked children of one prepared process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True, env=environment)

    def __call__(self, *arguments: str, kill: dict[str, Any] | None = None,
                 after_s: float | None = None, count: Sequence[str] = ()) -> Result:
        """Runs one command in ``folder``.

        Args:
            kill: Where the child kills itself; see :func:`arm`.
            after_s: Kill the child from outside after so many seconds.
            count: Targets whose calls are counted.
        """
        job = {"arguments": list(arguments), "folder": str(self.folder), "kill": kill,
               "after_s": after_s, "count": list(count)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Result(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def serve() -> None:
    """The driver's process: a job a line on standard input, a result a line on standard output."""
    crl = ("cli", "launch", "progress", "training", "tables", "envs.catalog", "envs.metaworld",
           "agents.sac", "methods.packnet", "methods.ewc", "methods.clonex")
    for name in (*(f"crl.{n}" for n in crl), "torch._dynamo", "torch._functorch.vmap",
                 "gymnasium.envs.classic_control.pendulum"):
        importlib.import_module(name)
    files = {name: Path(f"/tmp/crl-driver-{os.getpid()}-{name}") for name in ("out", "err", "n")}
    for line in sys.stdin:
        job = json.loads(line)
        for path in files.values():
            path.write_bytes(b"")
        child = os.fork()
        if child == 0:
            run_child(job, files)
        status = os.waitstatus_to_exitcode(wait(child, job["after_s"]))
        counts = json.loads(files["n"].read_text() or "{}")
        print(json.dumps({"status": status, "out": files["out"].read_text(),
                          "err": files["err"].read_text(), "counts": counts}), flush=True)
    for path in files.values():
        path.unlink()


def wait(child: int, after_s: float | None) -> int:
    """The wait status of a child, which is killed if it takes longer than ``after_s``."""
    end = math.inf if after_s is None else time.monotonic() + after_s
    while time.monotonic() < end:
        ended, status = os.waitpid(child, 0 if after_s is None else os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def run_child(job: dict[str, Any], files: dict[str, Path]) -> None:
    """Runs one command and leaves the process; never returns."""
    from crl.cli import main

    os.chdir(job["folder"])
    for number, path in ((0, Path(os.devnull)), (1, files["out"]), (2, files["err"])):
        os.dup2(os.open(path, os.O_RDWR), number)
    counts: Counter[str] = Counter()
    for target in job["count"]:
        count_calls(target, counts)
    if job["kill"]:
        arm(job["kill"])
    status = 1
    try:
        main(job["arguments"])
    except SystemExit as ending:
        status = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
    files["n"].write_text(json.dumps(counts))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def die(name: str = "KILL") -> None:
    os.kill(os.getpid(), getattr(signal, f"SIG{name}"))
    time.sleep(60)  # a signal that Python handles interrupts this


def arm(kill: dict[str, Any]) -> None:
    """Prepares this process to kill itself.

    ``{"target": "module:Class.function", "when": "before" | "half" | "after", "call": n}``, where
    ``"half"`` does half of what the call would do, and ``"fill"`` fills the disk under ``"file"``
    before the call instead of killing; or ``{"line": n}``, the n-th line executed
    in the functions of ``LINES_OF``. ``"signal"`` chooses another signal than KILL.
    """
    name = kill.get("signal", "KILL")
    if "line" in kill:
        trace_lines(lambda n: die(name) if n == kill["line"] else None)
        return
    calls = 0

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != kill["call"]:
                return original(*arguments, **options)
            if kill["when"] == "fill":
                fill_disk(Path(kill["file"]))
                return original(*arguments, **options)
            if kill["when"] == "half":
                do_half(kill["target"], original, *arguments)
            if kill["when"] == "after":
                original(*arguments, **options)
            die(name)
            raise AssertionError("survived")
        return wrapped

    patch(kill["target"], wrap)


def do_half(target: str, original: Callable[..., Any], *arguments: Any) -> None:
    """What is done when a call is cut short: half of a file or a row, half of the retraining."""
    if target.endswith("write_synced"):
        path, content = arguments
        Path(path).write_bytes(content[: len(content) // 2])
    elif target.endswith("Rows.write"):
        rows, row = arguments
        rows._file.write(f"{row['env_step']},{row['grad_step']},0.")
        rows._file.flush()
    elif target.endswith("SAC.learn"):
        agent, steps = arguments
        original(agent, steps // 2)
    else:
        raise ValueError(f"half of {target}")


def fill_disk(path: Path) -> None:
    """Writes a file until there is no room left."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def count_calls(target: str, counts: Counter[str]) -> None:
    """Counts the calls of a target, or the executed lines for ``"lines"``."""
    if target == "lines":
        trace_lines(lambda n: counts.update(lines=1))
        return

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            counts[target] += 1
            return original(*arguments, **options)
        return wrapped

    patch(target, wrap)


def patch(target: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replaces ``"module:name"`` or ``"module:Class.name"`` in this process."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, wrap(getattr(owner, name)))


def trace_lines(reached: Callable[[int], object]) -> None:
    """Calls ``reached(n)`` before the n-th line executed in the functions of ``LINES_OF``."""
    lines = 0

    def local(frame: Any, event: str, argument: object) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            reached(lines)
        return local

    @functools.cache  # called for every function that anything calls
    def watched(code: Any) -> bool:
        path = Path(code.co_filename)
        return path.parent.name == "crl" and code.co_name in LINES_OF.get(path.name, ())

    def enter(frame: Any, event: str, argument: object) -> Any:
        return local if watched(frame.f_code) else None

    sys.settrace(enter)


def finish(driver: Driver, method: str, folder: str = "run", **options: Any) -> Result:
    """Goes on with a run, or begins it if it was killed before its folder was there."""
    if (driver.folder / folder).exists():
        return driver("resume", folder, **options)
    return driver(*train_arguments(method, folder), **options)


def copy_run(source: Path, target: Path) -> Path:
    """A copy of a run folder."""
    shutil.copytree(source, target)
    return target


if __name__ == "__main__":
    serve()
