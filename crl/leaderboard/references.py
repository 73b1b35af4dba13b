"""Single-task learning curves, shipped with a protocol: what forward transfer is measured against.

A file is ``references/PROTOCOL.csv``: a row a task, seed and evaluation, with the score there. They
are those of crl's own agent for the protocol, trained on each task alone for as many steps as in
the stream.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import numpy as np

from crl.checkpoint import replace_file
from crl.errors import UserError
from crl.leaderboard.protocols import Protocol, require_schedule
from crl.metrics import Scores
from crl.run import Run

COLUMNS = ("task", "seed", "env_step", "score")


def read_references(protocol: Protocol, tasks: Iterable[str]) -> list[list[Scores]] | None:
    """For each of the tasks, its single-task curves; None if the protocol has none.

    A task's second visit (``push-v3@2``) has those of the first.
    """
    file = files("crl.leaderboard") / "references" / f"{protocol.name}.csv"
    if not file.is_file():
        return None
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
        points = curves.setdefault(row["task"], {}).setdefault(row["seed"], [])
        points.append((int(row["env_step"]), float(row["score"])))
    return [[_scores(points, protocol) for points in curves[task.partition("@")[0]].values()]
            for task in tasks]


def write_references(protocol: Protocol, runs: Iterable[Run], path: Path) -> None:
    """Writes the curves of finished single-task runs as the file of a protocol.

    Args:
        protocol: Whose tasks they are of.
        runs: Each of one task, evaluated as the protocol says.
        path: The file.

    Raises:
        UserError: A run is unfinished, of several tasks, or evaluated otherwise; or success is not
            what the protocol's score is.
    """
    if protocol.scale:
        raise UserError(f"protocol {protocol.name!r} scores returns, and forward transfer is of "
                        "success")
    rows = [",".join(COLUMNS)]
    for run in runs:
        if run.status != "finished" or len(run.tasks) != 1:
            raise UserError(f"{run.folder} is no finished run of a single task")
        require_schedule(run.info, protocol)
        scores = run.scores()
        rows += [f"{run.tasks[0]},{run.info['seed']},{step},{value:.6g}" for step, value in
                 zip(scores.env_step.tolist(), scores.values[:, 0].tolist(), strict=True)]
    replace_file(path, ("\n".join(rows) + "\n").encode())


def _scores(points: list[tuple[int, float]], protocol: Protocol) -> Scores:
    steps, values = (np.array(column) for column in zip(*points, strict=True))
    return Scores(values[:, None], np.zeros(len(steps), np.int64), steps,
                  protocol.train["eval_episodes"])
