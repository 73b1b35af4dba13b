"""A folder of runs → the entries of one protocol; or one line about why they are none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crl import seeding
from crl.errors import UserError
from crl.leaderboard.protocols import Protocol, protocol_of
from crl.metrics import Scores
from crl.report.load import Group, Loaded, Section, load, sections
from crl.rows import digest
from crl.run import Run


class Entries(NamedTuple):
    """What a folder holds.

    Attributes:
        protocol: The one that all runs follow.
        section: Its groups are the entries, the best first; their scores are the protocol's.
        unchecked: Runs of a crl that did not record what its files were.
    """

    protocol: Protocol
    section: Section
    unchecked: list[Run]


def read_entries(folder: Path) -> Entries:
    """The entries of all run folders in ``folder``, and in folders of it.

    Raises:
        UserError: A run that is unfinished, edited or incomplete, or follows no protocol; runs of
            several protocols; an entry with a seed twice, or without one that it should have.
    """
    runs = find_runs(folder)
    protocol = _only_protocol(folder, runs)
    for run in runs:
        check_run(run, protocol)
    loaded = load(runs)
    _check_copies(loaded)
    found = sections([dataclasses.replace(run, scores=scores_of(run.run, protocol))
                      for run in loaded])
    if len(found) > 1:
        raise UserError(f"runs in {folder} say they are of one protocol, {protocol.name!r}, but "
                        "their tasks differ; restore their run.json from copies")
    for group in found[0].groups:
        _check_seeds(group, protocol)
    return Entries(protocol, found[0], [run for run in runs if "sha256" not in run.info])


def find_runs(folder: Path) -> list[Run]:
    """All runs in a folder and in folders of it."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one that holds run folders")
    found = sorted(path.parent for path in folder.rglob("run.json")
                   if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    if not found:
        raise UserError(f"{folder} holds no run folder; make runs with 'crl train --protocol "
                        "laptop-3 --out FOLDER/…'")
    return [Run(path) for path in found]


def check_run(run: Run, protocol: Protocol) -> None:
    """Raises ``UserError`` unless a run is finished, whole, unedited and of the protocol."""
    if run.status != "finished":
        raise UserError(f"{run.folder} is {run.status}; type 'crl resume {run.folder}', or take it "
                        "out of the folder")
    recorded = run.info.get("sha256", {})
    for name in recorded:
        path = run.folder / name
        if path.exists() and digest(path) != recorded[name]:
            raise UserError(f"{path} was edited: its SHA-256 is not what the finished run wrote "
                            "into run.json; restore it from a copy, or train that seed again")
    reason = _wrong_rows(run, run.evals(), protocol)
    if reason:
        raise UserError(f"{run.folder / 'evals.csv'} does not hold the evaluations of protocol "
                        f"{protocol.name!r}: {reason}; restore it from a copy, or train that seed "
                        "again")


def scores_of(run: Run, protocol: Protocol) -> Scores:
    """The scores of a run as its protocol wants them: success, or returns on its scale."""
    if not protocol.scale:
        return run.scores()
    rows = run.evals()
    low, high = np.array(protocol.scale).T[:, rows["eval_task"]]
    return Scores.from_episodes(rows["env_step"], rows["train_task"], rows["eval_task"],
                                (rows["return"] - low) / (high - low), tasks=len(run.tasks))


def bytes_kept(run: Run) -> float:
    """Bytes of networks, and of what methods hold, at a run's end; NaN if nobody wrote it down."""
    kept = run.info.get("kept")
    return float(sum(kept.values())) if kept else float("nan")


def _only_protocol(folder: Path, runs: Sequence[Run]) -> Protocol:
    count: dict[str, int] = {}
    for run in runs:
        try:
            protocol = protocol_of(run.info)
        except UserError as error:
            raise UserError(f"{run.folder} follows no protocol: {error}") from None
        count[protocol.name] = count.get(protocol.name, 0) + 1
    if len(count) > 1:
        named = " and ".join(f"{name} ({number})" for name, number in count.items())
        raise UserError(f"{folder} holds runs of different protocols, which must not stand in one "
                        f"table: {named}; give each a folder of its own")
    return protocol


def _wrong_rows(run: Run, rows: dict[str, NDArray[Any]], protocol: Protocol) -> str:
    """What is wrong with the rows of evals.csv; nothing if they are those of this run's seed.

    The seed of every evaluation episode follows from the run's seed, the evaluation's number and
    the task. So rows that are missing or another seed's are found, with or without a hash.
    """
    episodes, tasks = protocol.train["eval_episodes"], len(run.tasks)
    count = len(rows["episode"])
    if count == 0 or count % episodes:
        return f"{count} rows are no evaluations of {episodes} episodes each"
    blocks = {name: column.reshape(-1, episodes) for name, column in rows.items()}
    task, train_task = blocks["eval_task"][:, 0], blocks["train_task"][:, 0]
    if (blocks["episode"] != np.arange(episodes)).any() or any(
            (blocks[name] != blocks[name][:, :1]).any()
            for name in ("eval_task", "train_task", "env_step")):
        return "its rows are out of order"
    seen = protocol.train["eval_tasks"] == "seen"
    expected: list[tuple[int, int]] = []  # number of an evaluation, position of a task
    number = 0
    while len(expected) < len(task):
        width = train_task[len(expected)] + 1 if seen else tasks
        expected += [(number, position) for position in range(width)]
        number += 1
    if task.tolist() != [position for _, position in expected]:
        return "an evaluation is not of all its tasks"
    ends = int(rows["env_step"][0]), int(rows["env_step"][-1])
    if ends != (0, run.boundaries[-1]):
        return f"it goes from step {ends[0]:,} to {ends[1]:,}, not from 0 to {run.boundaries[-1]:,}"
    for (number, position), seed in zip(expected, blocks["seed"][:, 0].tolist(), strict=True):
        if seeding.integer(run.info["seed"], "evaluate", number, position, 0) != seed:
            return f"evaluation {number} is not of seed {run.info['seed']}"
    return ""


def _check_copies(loaded: Sequence[Loaded]) -> None:
    """No two runs may have the same rows: their times differ even where all else is equal."""
    seen: dict[str, Path] = {}
    for run in loaded:
        folder = run.run.folder
        twin = seen.setdefault(digest(folder / "evals.csv"), folder)
        if twin != folder:
            raise UserError(f"{folder} and {twin} are the same run twice; take one out")


def _check_seeds(group: Group, protocol: Protocol) -> None:
    folders: dict[int, Path] = {}
    for run in group.runs:
        twin = folders.setdefault(run.seed, run.run.folder)
        if twin != run.run.folder:
            raise UserError(f"{run.run.folder} and {twin} are both seed {run.seed} of "
                            f"{group.name!r}; take one out")
    wanted = range(max(protocol.seeds, max(folders) + 1))
    missing = [seed for seed in wanted if seed not in folders]
    if missing:
        example = group.runs[0].run.folder / "run.json"
        raise UserError(f"{group.name!r} lacks seed{'s' * (len(missing) > 1)} "
                        f"{', '.join(map(str, missing))} of 0 to {wanted[-1]}; type 'crl train "
                        f"--config {example} --seed {missing[0]} --out FOLDER'")
