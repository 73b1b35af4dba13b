"""The run folder: what a training run leaves behind, written and read in one place.

::

    run.json       schema, configuration, seed, protocol, versions, commit, hardware, status
    train.csv      a row a training episode
    evals.csv      a row an evaluation episode
    checkpoints/   see ``crl.checkpoint``
    tensorboard/   the same scalars for TensorBoard
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crl import checkpoint
from crl.errors import UserError

if TYPE_CHECKING:
    from crl.agent import Policy
    from crl.metrics import Scores
    from crl.stream import TaskStream

SCHEMA = 1
COLUMNS: dict[str, type] = {
    "env_step": int,      # training steps of the whole stream when the row was written
    "grad_step": int,
    "wall_s": float,      # since the start of the run, time between stop and resume left out
    "cpu_s": float,
    "train_task": int,    # position in the stream of the task being trained
    "eval_task": int,     # position of the task that the episode is of
    "episode": int,       # counts per file from 0 (train) or per evaluation and task (evals)
    "seed": int,          # env.reset(seed=…) sets the episode up again
    "return": float,
    "success_once": int,  # info["success"] was true at any step
    "success_end": int,   # … at the last step
    "length": int,
}


class Run:
    """A run folder, finished or not, for reading.

    Args:
        folder: A folder that ``crl.train`` or ``crl train`` made.
        stream: The stream of the run; needed for policies, and only if the caller's own code made
            it. A run that ``crl.train`` returned knows its stream.

    Raises:
        UserError: No run folder, or one of another schema, or a damaged ``run.json``.
    """

    def __init__(self, folder: str | Path, stream: TaskStream | None = None) -> None:
        self.folder = Path(folder)
        self._stream = stream
        self.info = read_info(self.folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration: stream, agent, methods, train."""
        config: dict[str, Any] = self.info["config"]
        return config

    @property
    def tasks(self) -> list[str]:
        """Task names in the order of the stream."""
        return [task["name"] for task in self.info["tasks"]]

    @property
    def boundaries(self) -> list[int]:
        """The environment step at which each task ends."""
        return [int(s) for s in np.cumsum([task["steps"] for task in self.info["tasks"]])]

    @property
    def label(self) -> str:
        """Agent and methods in a few words, such as ``"sac + packnet"``."""
        methods = [m["name"] for m in self.config["methods"]]
        return " + ".join([self.config["agent"]["name"], *(methods or ["fine-tuning"])])

    @property
    def status(self) -> str:
        """``"running"``, ``"interrupted"``, ``"failed"`` or ``"finished"``."""
        status: str = self.info["status"]
        return status

    def train(self) -> dict[str, NDArray[Any]]:
        """Columns of train.csv; [episodes] each."""
        return read_columns(self.folder / "train.csv")

    def evals(self) -> dict[str, NDArray[Any]]:
        """Columns of evals.csv; [evaluation episodes] each."""
        return read_columns(self.folder / "evals.csv")

    def scores(self, column: str = "success_once") -> Scores:
        """Evaluation scores as ``crl.metrics`` wants them."""
        from crl.metrics import Scores

        rows = self.evals()
        return Scores.from_episodes(rows["env_step"], rows["train_task"], rows["eval_task"],
                                    rows[column], tasks=len(self.tasks))

    def metrics(self) -> dict[str, float]:
        """Continual-learning metrics of this run; see ``crl.metrics.summarize``."""
        from crl.metrics import summarize

        return {name: s.mean for name, s in summarize([self.scores()]).items()}

    @property
    def stream(self) -> TaskStream:
        """The stream of the run."""
        from crl.stream import make_stream

        if self._stream is None:
            options = dict(self.config["stream"])
            if options.pop("custom", False):
                raise UserError(f"{self.folder} was trained on a stream made in code; pass it: "
                                "crl.Run(folder, stream=...) or crl.resume(folder, stream=...)")
            self._stream = make_stream(**options)
        if self._stream.protocol != self.info["protocol"]:
            raise UserError(f"{self.folder} was trained under protocol {self.info['protocol']!r}, "
                            f"not {self._stream.protocol!r}; pass the stream of the run")
        return self._stream

    def policy(self, task: str | int) -> Policy:
        """The frozen policy for a task (its name or position), from the newest checkpoint."""
        from crl.training import restore

        return restore(self).policy(self.stream[task])

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.label}, {self.status})"


class Rows:
    """A CSV file of :data:`COLUMNS` that only grows, and can be cut back to a known length."""

    def __init__(self, path: Path, keep: int | None = None) -> None:
        """Opens ``path``; ``keep`` bytes of it stay once it is :meth:`cut` (None: a new file)."""
        self._keep = keep
        if keep is None:
            self._file: IO[str] = open(path, "x", newline="")  # noqa: SIM115
            csv.writer(self._file).writerow(COLUMNS)
            self._file.flush()
        else:
            if not path.exists() or path.stat().st_size < keep:
                raise UserError(f"{path} is shorter than when the checkpoint was written; "
                                "restore it from a copy, or start the run again in a new folder")
            self._file = open(path, "r+", newline="")  # noqa: SIM115

    def cut(self) -> None:
        """Drops what is beyond ``keep``; new rows follow what is left."""
        if self._keep is not None:
            self._file.truncate(self._keep)
            self._file.seek(self._keep)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row; it is in the file when this returns."""
        text = [f"{row[c]:.6g}" if kind is float else str(int(row[c]))
                for c, kind in COLUMNS.items()]
        csv.writer(self._file).writerow(text)
        self._file.flush()

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a row that could not be written cannot be now
            self._file.close()


def read_columns(path: Path) -> dict[str, NDArray[Any]]:
    """Reads a CSV of :data:`COLUMNS`. An unfinished last line, as a kill can leave, is left out."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged: it is not text") from None
    lines = text[: text.rfind("\n") + 1].splitlines()
    if not lines or lines[0].split(",") != list(COLUMNS):
        raise UserError(f"{path} does not have the columns of schema {SCHEMA}: "
                        + ",".join(COLUMNS))
    try:
        rows = list(csv.reader(lines[1:]))
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
        return {name: np.array([kind(v) for v in column], kind)
                for (name, kind), column in zip(COLUMNS.items(), columns, strict=True)}
    except (ValueError, OverflowError, csv.Error):
        raise UserError(f"{path} has a row that is not {len(COLUMNS)} numbers") from None


def read_info(folder: Path) -> dict[str, Any]:
    """``run.json`` of a run folder, checked."""
    path = folder / "run.json"
    try:
        info = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} is not a run folder: it has no run.json; "
                        "make one with 'crl train --out FOLDER'") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(info, dict) or "schema" not in info:
        raise UserError(f"{path} was not written by crl: it has no schema version")
    if info["schema"] != SCHEMA:
        raise UserError(f"{folder} has run schema {info['schema']!r}, this crl reads {SCHEMA}; "
                        "use the crl version named in its run.json")
    for name in _VALID:
        if not _is_valid(info, name):
            raise UserError(f"{path} is damaged: {name!r} is missing or of the wrong kind; restore "
                            "the file from a copy")
    return info


def _is_valid(info: dict[str, Any], name: str) -> bool:
    try:
        return bool(_VALID[name](info[name]))
    except (LookupError, TypeError):
        return False


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


_VALID: dict[str, Callable[[Any], bool]] = {
    "status": lambda v: v in ("running", "interrupted", "failed", "finished"),
    "seed": lambda v: _is(v, int) and v >= 0,
    "protocol": lambda v: _is(v, str),
    "tasks": lambda v: _is(v, list) and len(v) > 0 and all(
        _is(t["name"], str) and _is(t["steps"], int) and t["steps"] > 0 for t in v),
    "config": lambda v: (
        all(_is(v[s]["name"], str) for s in ("stream", "agent")) and _is(v["train"], dict)
        and _is(v["methods"], list) and all(_is(m["name"], str) for m in v["methods"])),
    "hardware": lambda v: _is(v["device"], str),
}
"""What a reader counts on in run.json, and how to tell."""


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in ``folder`` meanwhile, or until this process ends.

    Raises:
        UserError: Another one does so now.
    """
    if sys.platform == "win32":  # has no lock that a killed process gives back with certainty
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder} is being trained by another process; stop that first, "
                                "or wait until it is finished") from None
        yield
    finally:
        os.close(handle)


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Replaces ``run.json`` in one step."""
    checkpoint.replace_file(folder / "run.json", (json.dumps(info, indent=2) + "\n").encode())


def describe_machine(threads: int, device: str) -> dict[str, Any]:
    """Versions, commit and hardware: what a result depends on besides its configuration."""
    packages = ("crl", "torch", "numpy", "gymnasium", "mujoco", "metaworld")
    return {
        "versions": {"python": platform.python_version(),
                     **{p: importlib.metadata.version(p) for p in packages}},
        "commit": _commit(),
        "hardware": {"cpu": _cpu_model(), "cores": os.cpu_count(), "machine": platform.machine(),
                     "system": platform.system(), "device": device, "threads": threads},
    }


def _commit() -> str | None:
    """The commit of this checkout, with ``+dirty`` if it has changes; None outside one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True,
                                check=True, timeout=10).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True,
                                 text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+dirty" if changes.strip() else "")


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
