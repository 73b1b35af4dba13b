"""Run folders → sections of runs that may be compared → groups of runs that differ in seed only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl.bootstrap import bootstrap_interval
from crl.errors import UserError
from crl.metrics import Scores, Summary, summarize
from crl.rows import COLUMNS
from crl.run import Run

# Settings that change how a run is carried out, not what is tried: runs may differ in them and
# still be seeds of one experiment.
EXECUTION = frozenset({"seed", "out", "device", "threads", "workers", "checkpoint_every",
                       "episode_limit_s", "diagnose"})
LONGEST_SUFFIX = 60


@dataclass(frozen=True, eq=False)
class Loaded:
    """One run folder, read once.

    Attributes:
        settings: Flat configuration, ``"agent.learning_rate"`` → its value as text.
        facts: Flat versions, commit and hardware, the same way.
        scores: Success; None before the first evaluation.
        returns: Returns of the same evaluations.
        train: Columns of train.csv.
        measures: (measure, part) → steps and values of diagnostics.csv; empty without one.
        env_steps, cpu_s, wall_s: How far the run is and what it has cost.
    """

    run: Run
    settings: dict[str, str]
    facts: dict[str, str]
    scores: Scores | None
    returns: Scores | None
    train: dict[str, NDArray[Any]]
    measures: dict[tuple[str, str], tuple[NDArray[Any], NDArray[Any]]]
    env_steps: int
    cpu_s: float
    wall_s: float

    @property
    def finished(self) -> bool:
        return self.run.status == "finished"

    @property
    def seed(self) -> int:
        return int(self.run.info["seed"])


@dataclass(eq=False)
class Group:
    """Runs of one configuration, all finished or none; its figures share a colour and a name.

    Attributes:
        name: Agent, methods and whatever else sets the group apart in its section.
        colour: Which colour of the palette; a finished group and its unfinished runs share it.
    """

    name: str
    runs: list[Loaded]
    finished: bool
    colour: int = 0

    @cached_property
    def scores(self) -> list[Scores]:
        return [run.scores for run in self.runs if run.scores is not None]

    @cached_property
    def returns(self) -> list[Scores]:
        return [run.returns for run in self.runs if run.returns is not None]

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """The metrics of ``crl.metrics.summarize``, then what the runs have cost."""
        costs = {"env_steps": [float(run.env_steps) for run in self.runs],
                 "cpu_s": [run.cpu_s for run in self.runs],
                 "wall_s": [run.wall_s for run in self.runs]}
        summaries = summarize(self.scores)
        for name, values in costs.items():
            low, high = bootstrap_interval(values)
            summaries[name] = Summary(float(np.mean(values)), low, high, np.array(values))
        return summaries

    @property
    def performance(self) -> float:
        return self.summaries["performance"].mean

    @property
    def repeated_seeds(self) -> list[int]:
        seeds = [run.seed for run in self.runs]
        return sorted({seed for seed in seeds if seeds.count(seed) > 1})


@dataclass(eq=False)
class Section:
    """Groups under one protocol, the best first: only these may be compared."""

    protocol: str
    tasks: list[str]
    boundaries: list[int]
    groups: list[Group] = field(default_factory=list)

    @property
    def runs(self) -> list[Loaded]:
        return [run for group in self.groups for run in group.runs]

    @property
    def stream(self) -> str:
        """The stream's name, or the protocol where the runs do not agree on one."""
        names = {str(run.run.config["stream"]["name"]) for run in self.runs}
        return names.pop() if len(names) == 1 else self.protocol

    @property
    def starts(self) -> list[int]:
        return [0, *self.boundaries[:-1]]


def load(runs: Iterable[str | Path | Run]) -> list[Loaded]:
    """Reads the runs, each folder once.

    Raises:
        UserError: Not a run folder, or a damaged one; no runs; none with an evaluation.
    """
    unique: dict[Path, Run] = {}
    for item in runs:
        run = item if isinstance(item, Run) else Run(item)
        unique.setdefault(run.folder.resolve(), run)
    if not unique:
        raise UserError("there is no run to report on; give one or more run folders, "
                        "such as 'crl report runs/* --out report'")
    loaded = [_read(run) for run in unique.values()]
    if all(run.scores is None for run in loaded):
        raise UserError(f"no evaluation yet in {_some([str(r.run.folder) for r in loaded])}; "
                        "a run's first evaluation precedes its first training step: try again soon")
    return loaded


def sections(loaded: Sequence[Loaded]) -> list[Section]:
    """The runs that have evaluations, by protocol; the section with most runs first."""
    found: dict[tuple[Any, ...], list[Loaded]] = {}
    for run in loaded:
        if run.scores is not None:
            # A protocol made by a user's code may be careless; the tasks and their lengths must
            # agree whatever it says, or curves could not share an axis.
            key = (run.run.info["protocol"], *run.run.tasks, *run.run.boundaries)
            found.setdefault(key, []).append(run)
    made = [
        Section(str(key[0]), runs[0].run.tasks, runs[0].run.boundaries, _group(runs))
        for key, runs in found.items()
    ]
    made.sort(key=lambda section: -len(section.runs))
    # One name, one colour on the whole page.
    colours: dict[str, int] = {}
    for section in made:
        for group in section.groups:
            group.colour = colours.setdefault(group.name, len(colours))
    return made


def split_common(
    rows: Sequence[Mapping[str, str]],
) -> tuple[dict[str, str], list[str]]:
    """What all rows share, and the keys in which they differ."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    common = {key: rows[0][key] for key in keys
              if all(key in row and row[key] == rows[0].get(key) for row in rows)}
    return common, [key for key in keys if key not in common]


def _read(run: Run) -> Loaded:
    evals, train = (_columns(run, name) for name in ("evals", "train"))
    scores = returns = None
    if len(evals["env_step"]):
        try:
            scores, returns = (Scores.from_episodes(evals["env_step"], evals["train_task"],
                                                    evals["eval_task"], evals[column],
                                                    tasks=len(run.tasks))
                               for column in ("success_once", "return"))
        except ValueError as error:
            raise UserError(f"{run.folder / 'evals.csv'} is damaged: {error}") from None

    def last(column: str) -> float:
        return max((float(rows[column][-1]) for rows in (evals, train) if len(rows[column])),
                   default=0.0)

    facts = {key: run.info[key] for key in ("versions", "commit", "hardware") if key in run.info}
    return Loaded(run, _flatten(run.config), _flatten(facts), scores, returns, train,
                  _measures(run), int(last("env_step")), last("cpu_s"), last("wall_s"))


def _columns(run: Run, name: str) -> dict[str, NDArray[Any]]:
    """evals.csv or train.csv; no rows if a run was copied before it was written."""
    if not (run.folder / f"{name}.csv").exists():
        return {column: np.array([], kind) for column, kind in COLUMNS.items()}
    return run.evals() if name == "evals" else run.train()


def _measures(run: Run) -> dict[tuple[str, str], tuple[NDArray[Any], NDArray[Any]]]:
    rows = run.diagnostics()
    if rows is None:
        return {}
    kinds = dict.fromkeys(zip(rows["measure"].tolist(), rows["part"].tolist(), strict=True))
    chosen = {kind: (rows["measure"] == kind[0]) & (rows["part"] == kind[1]) for kind in kinds}
    return {kind: (rows["env_step"][mask], rows["value"][mask]) for kind, mask in chosen.items()}


def _flatten(node: Any, path: str = "") -> dict[str, str]:
    if isinstance(node, Mapping):
        items = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and all(isinstance(m, Mapping) for m in node):
        # Methods: by name, so that their order in two runs does not shift the keys.
        items = [(str(m.get("name", i)), {k: v for k, v in m.items() if k != "name"})
                 for i, m in enumerate(node)]
    else:
        # Ten digits: 0.0096, where arithmetic made it 0.009600000000000001.
        return {path: node if isinstance(node, str) else
                f"{node:.10g}" if isinstance(node, float) else json.dumps(node)}
    flat: dict[str, str] = {}
    for key, value in items:
        flat |= _flatten(value, f"{path}.{key}" if path else key)
    return flat


def _group(runs: Sequence[Loaded]) -> list[Group]:
    """Groups of equal configuration and progress, with names unique to a configuration."""
    by_settings: dict[tuple[str, ...], list[Loaded]] = {}
    experiments: dict[tuple[str, ...], dict[str, str]] = {}
    for run in runs:
        settings = {key: value for key, value in run.settings.items()
                    if key.rpartition(".")[2] not in EXECUTION}
        identity = (run.run.label, *(f"{key}={settings[key]}" for key in sorted(settings)))
        by_settings.setdefault(identity, []).append(run)
        experiments[identity] = settings
    names = _names(experiments)
    groups = []
    for identity, members in by_settings.items():
        for finished in (True, False):
            some = [run for run in members if run.finished == finished]
            if some:
                groups.append(Group(names[identity], some, finished))
    # NaN sorts last: a group that cannot say yet is not the best one.
    groups.sort(key=lambda g: (not g.finished, -np.nan_to_num(g.performance, nan=-np.inf), g.name))
    return groups


def _names(experiments: Mapping[tuple[str, ...], dict[str, str]]) -> dict[tuple[str, ...], str]:
    """Label, and the settings that differ among the configurations of that label."""
    names: dict[tuple[str, ...], str] = {}
    for label in dict.fromkeys(identity[0] for identity in experiments):
        same = [identity for identity in experiments if identity[0] == label]
        _, different = split_common([experiments[identity] for identity in same])
        for number, identity in enumerate(same, 1):
            values = experiments[identity]
            suffix = ", ".join(f"{_short(key, different)}={values.get(key, '–')}"
                               for key in different)
            if len(suffix) > LONGEST_SUFFIX:
                suffix = f"{suffix[:LONGEST_SUFFIX]}… #{number}"
            names[identity] = f"{label} ({suffix})" if suffix else label
    return names


def _short(key: str, among: Sequence[str]) -> str:
    """The last part of a dotted key, unless another key ends the same."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in among) == 1 else key


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
