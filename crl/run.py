"""The run folder: what a training run leaves behind, written and read in one place.

::

    run.json       schema, configuration, seed, protocol, versions, commit, hardware, status
    train.csv      a row a training episode
    evals.csv      a row an evaluation episode
    diagnostics.csv     with --diagnose: a row a measure of the networks at an evaluation
    checkpoints/   see ``crl.checkpoint``
    tensorboard/   the same scalars for TensorBoard
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crl import checkpoint
from crl.checkpoint import Tree
from crl.envs.catalog import make_stream
from crl.errors import UserError
from crl.rows import MEASURES, SCHEMA, read_columns
from crl.stream import TaskStream

if TYPE_CHECKING:
    from crl.agent import Agent, Policy
    from crl.metrics import Scores


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
        agent, methods = self.config["agent"], [m["name"] for m in self.config["methods"]]
        # A hypernetwork holds on to its tasks by itself.
        none = [] if agent.get("trunk") == "hypernetwork" else ["fine-tuning"]
        return " + ".join([agent["name"], *(methods or none)])

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

    def diagnostics(self) -> dict[str, NDArray[Any]] | None:
        """Columns of diagnostics.csv, [measures] each; None for a run without ``diagnose``."""
        path = self.folder / "diagnostics.csv"
        return read_columns(path, MEASURES) if path.exists() else None

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

    def checkpoint(self) -> Tree:
        """The newest checkpoint: the ``agent``, the ``loop`` and the sizes of the ``rows``."""
        store = checkpoint.CheckpointStore(self.folder / "checkpoints")
        while True:
            latest = store.latest()
            if latest is None:
                raise UserError(f"{self.folder} has no checkpoint: its checkpoints/latest is "
                                "missing")
            try:
                return checkpoint.load_tree(latest)
            except UserError:
                if store.latest() == latest:
                    raise  # else the run goes on meanwhile, and has replaced it

    def agent(self, device: str = "cpu") -> Agent:
        """The agent as of the newest checkpoint, with its methods attached, on ``device``."""
        from crl.agent import make_agent
        from crl.methods.base import make_method

        agent = make_agent(stream=self.stream, device=device, **self.config["agent"])
        agent.attach([make_method(**entry) for entry in self.config["methods"]])
        tree = self.checkpoint()
        try:
            agent.load_state_dict(tree["agent"])
            if not checkpoint.same_structure(agent.state_dict(), tree["agent"]):
                raise ValueError("the checkpoint holds more than this agent")
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"the checkpoint of {self.folder} does not fit the configuration in "
                            "its run.json; restore run.json from a copy") from error
        return agent

    def policy(self, task: str | int) -> Policy:
        """The frozen policy for a task (its name or position), from the newest checkpoint."""
        return self.agent().policy(self.stream[task])

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.label}, {self.status})"


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
