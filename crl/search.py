"""``crl tune``: runs of one launch whose settings are drawn from a space, by Ray Tune."""

from __future__ import annotations

import copy
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.table import Table

from crl import tune
from crl.checkpoint import replace_file
from crl.config import convert, parse_value, require, require_whole
from crl.errors import UserError
from crl.launch import Launch, apply_settings, check_settings
from crl.loop import Progress
from crl.ray_session import session
from crl.run import Run, claim
from crl.tables import plain_table

if TYPE_CHECKING:
    from ray.tune import ResultGrid

_RANGES = {"uniform": float, "loguniform": float, "randint": int, "lograndint": int}
_KINDS = (*_RANGES, "choice", "grid")
_FORM = re.compile(r"(\w+)\((.*)\)")
_FILE = "search.json"


class Axis(NamedTuple):
    """A setting that is searched: ``"agent.learning_rate"`` or ``"seed"``, and what it may be.

    ``kind`` is one of Ray Tune's ranges, whose two ``values`` are the lowest and the one that is
    not reached; ``"choice"``, drawn from the values, or ``"grid"``, each of them once a sample.
    """

    setting: str
    kind: str
    values: list[Any]


def search(launch: Launch, axes: Sequence[Axis], out: Path, *, samples: int = 1, workers: int = 1,
           watch: Callable[[str, Progress], None] = lambda label, progress: None) -> ResultGrid:
    """Trains a launch with settings drawn from a space, side by side; goes on where it stopped.

    Args:
        launch: What all trials share; its seed is that of the draws as well.
        axes: What differs.
        out: The folder, of Ray Tune's form; each trial's newest run folder is in a folder of its
            own there.
        samples: Draws of the space; grids are repeated that many times.
        workers: Trials at once.
        watch: Called with a trial's number and where it stands.

    Returns:
        Ray Tune's results; some may have failed (:func:`crl.tune.check`).

    Raises:
        UserError: A setting is wrong, or ``out`` is of another search. Nothing is left behind.
        KeyboardInterrupt: It was stopped.
    """
    require_whole("samples", samples, least=1)
    require_whole("workers", workers, least=1)
    check_axes(launch, axes)
    asked = json.dumps({"launch": launch, "axes": axes, "samples": samples}, indent=2) + "\n"
    _check_folder(out, asked)
    with session(workers):
        for name in ("ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is told at the end
        from ray.tune import TuneConfig
        from ray.tune.search import BasicVariantGenerator

        from crl.tune_callbacks import Follow, trackers, trial_number

        Follow.watch = staticmethod(watch)
        try:
            out.mkdir(parents=True, exist_ok=True)
            replace_file(out / _FILE, asked.encode())
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}") from None
        draws = BasicVariantGenerator(max_concurrent=workers, random_state=launch["seed"])
        with claim(out):
            results = tune.fit(_space(launch, axes), out, TuneConfig(
                num_samples=samples, search_alg=draws, trial_dirname_creator=trial_number),
                verbose=0, callbacks=[Follow(), *trackers(out.resolve())])
    total = samples * math.prod(len(axis.values) for axis in axes if axis.kind == "grid")
    finished = [run for run in tune.trial_runs(out) if Run(run).status == "finished"]
    if len(finished) + len(results.errors) < total:
        raise KeyboardInterrupt  # which Tune keeps to itself
    return results


def parse_axis(text: str) -> Axis:
    """Reads ``agent.learning_rate=loguniform(1e-4,1e-2)``."""
    setting, _, domain = (part.strip() for part in text.partition("="))
    found = _FORM.fullmatch(domain)
    if not setting or not found or found[1] not in _KINDS:
        raise UserError("--search takes section.name=kind(values), such as "
                        "'agent.learning_rate=loguniform(1e-4,1e-2)' or 'seed=grid(0,1,2)', where "
                        f"kind is {', '.join(_KINDS)}; got {text!r}")
    kind, values = found[1], parse_value(f"[{found[2]}]")
    require(len(values) > 0, f"--search {text}: {kind} takes one value or more")
    if kind in _RANGES:
        values = [convert(value, _RANGES[kind], f"--search {text}: an end") for value in values]
        least = 0 if kind.startswith("log") else -math.inf
        require(len(values) == 2 and least < values[0] < values[1],
                f"--search {text}: {kind} takes its two ends, the lower one first"
                + (" and above 0" if least == 0 else ""))
    return Axis(setting, kind, values)


def check_axes(launch: Launch, axes: Sequence[Axis]) -> None:
    """Raises ``UserError``, as the command line does, for a setting that a trial would refuse."""
    check_settings(launch)
    settings = [axis.setting for axis in axes]
    for axis in axes:
        require(settings.count(axis.setting) == 1, f"--search has {axis.setting} more than once")
        *others, last = axis.values
        whole = _RANGES.get(axis.kind) is int
        for value in (*others, last - 1 if whole else last):
            trial = copy.deepcopy(launch)
            _place(trial, axis.setting, value)
            require_whole("seed", trial["seed"], least=0)
            check_settings(trial)


def results_table(results: ResultGrid, axes: Sequence[Axis]) -> Table:
    """A row a trial, the best first: its number, its settings and how it did."""
    columns = ("performance", "forgetting", "env_step")
    table = plain_table()
    for name in ("trial", *(axis.setting for axis in axes), *columns):
        table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
    rows = [(Path(r.path).name, r.config or {}, r.metrics or {}) for r in results]
    rows.sort(key=lambda row: (-np.nan_to_num(row[2].get("performance", np.nan), nan=-1), row[0]))
    for number, config, metrics in rows:
        settings = [config["seed"] if axis.setting == "seed" else
                    _section(config, axis.setting)[axis.setting.partition(".")[2]] for axis in axes]
        table.add_row(number, *map(_shown, [*settings, *(metrics.get(c) for c in columns)]))
    return table


def _space(launch: Launch, axes: Sequence[Axis]) -> Launch:
    """The launch with what Tune draws from where there is something to draw."""
    from ray import tune as ray_tune

    space = copy.deepcopy(launch)
    for setting, kind, values in axes:
        draw = getattr(ray_tune, "grid_search" if kind == "grid" else kind)
        _place(space, setting, draw(*values) if kind in _RANGES else draw(values))
    return space


def _place(launch: Launch, setting: str, value: Any) -> None:
    """Puts a value, or what Tune draws it from, where ``--set`` would."""
    if setting == "seed":
        launch["seed"] = value
        return
    try:
        apply_settings(launch, [f"{setting}=null"])
    except UserError as error:
        reason = str(error).replace("--set", "--search").replace("=null", "")
        raise UserError(reason) from None
    _section(launch, setting)[setting.partition(".")[2]] = value


def _section(launch: Launch, setting: str) -> dict[str, Any]:
    """The dictionary that holds a setting."""
    methods = {method["name"]: method for method in launch["methods"]}
    section: dict[str, Any] = {**launch, **methods}[setting.partition(".")[0]]
    return section


def _check_folder(out: Path, asked: str) -> None:
    try:
        known = not out.exists() or (out / _FILE).read_text() == asked
    except OSError:
        known = False
    require(known, f"{out} exists already, and not from this command; choose another --out")


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
