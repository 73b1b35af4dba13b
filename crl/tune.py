"""Ray Tune: one trial is one run of ``crl``.

:func:`trainable` is all that Tune needs, ``ray.tune.Tuner(trainable, param_space=...)``;
:func:`fit` adds what makes a search safe to kill. See docs/ray.md.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crl.config import require
from crl.errors import UserError
from crl.run import Run, read_info, write_info

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory, ResultGrid, TuneConfig

    from crl.launch import Launch
    from crl.loop import Progress  # which imports torch; 'crl report' does without it

_CHECKPOINTS = "checkpoint_*"  # folders of a trial's folder
_KEPT = 2  # of them: the newest, and the one that Tune still remembers if it is killed now
_RESTARTS = 3  # of a trial whose process dies
_ENVIRONMENT = {
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # else Tune would remember one that is two behind
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # which would speak however quiet it is told to be
}


def trainable(config: dict[str, Any]) -> None:
    """A trial: trains what a launch says (see :mod:`crl.launch`), as ``crl train --config`` would.

    It reports every evaluation but the one that precedes training: ``env_step``, ``train_task``,
    ``wall_s``, ``success/<task>`` and the metrics of ``crl.metrics``, such as ``performance``. Each
    report comes with the whole run folder as a checkpoint, so a trial that is restarted or restored
    goes on as if it had never stopped. One that takes over another's checkpoint, as in
    population-based training, goes on from there with its own settings.

    Settings that name files do so relative to where the search was started.

    Args:
        config: A launch: nested dictionaries ``stream``, ``agent``, ``train``, a list ``methods``,
            and ``seed``; what is missing is as on the command line.

    Raises:
        UserError: As on the command line; :func:`check` raises it again where the search is.
    """
    from ray import tune

    from crl.launch import run_launch
    from crl.training import resume

    launch = _launch_of(config)
    folder = Path.cwd() / f"run-{tune.get_context().get_trial_id()}"  # in the trial's own folder
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
    with contextlib.suppress(OSError):  # on another machine
        os.chdir(os.environ.get("TUNE_ORIG_WORKING_DIR", "."))
    checkpoint, report = tune.get_checkpoint(), _Report(folder)
    if checkpoint is None:
        run_launch(launch, folder, watch=report)
    else:
        checkpoint.to_directory(folder)
        _configure(folder, launch)
        resume(folder, watch=report)
    shutil.rmtree(folder, ignore_errors=True)


def fit(space: dict[str, Any], out: Path, tune_config: TuneConfig | None = None, *,
        trial: Callable[[dict[str, Any]], None] = trainable, **run_config: Any) -> ResultGrid:
    """Runs a search in a folder, or goes on with the one that was stopped there.

    Within :func:`crl.ray_session.session`. A trial takes a CPU, and its share of the GPUs if its
    ``device`` is one; if its process dies, it is restarted.

    Args:
        space: A launch with Tune's ``grid_search``, ``loguniform`` … in the place of values.
        out: The folder.
        tune_config: ``ray.tune.TuneConfig``: samples, scheduler, searcher.
        trial: What is trained: a function of yours if it has something to do before it calls
            :func:`trainable`, such as to import what adds names to ``crl.registry``.
        **run_config: Further arguments of ``ray.tune.RunConfig``, such as callbacks.

    Returns:
        Ray Tune's results; some may have failed (:func:`check`).
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray import tune

    path, trial = out.resolve(), tune.with_resources(trial, _resources)
    if tune.Tuner.can_restore(str(path)):
        return tune.Tuner.restore(str(path), trial, resume_errored=True).fit()
    return tune.Tuner(
        trial, param_space=space, tune_config=tune_config, run_config=tune.RunConfig(
            name=path.name, storage_path=str(path.parent),
            failure_config=tune.FailureConfig(max_failures=_RESTARTS),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=_KEPT), **run_config)).fit()


def check(results: ResultGrid) -> None:
    """Raises ``UserError`` with what the first trial that failed said, if any did."""
    failed = [(Path(result.path).name, result.error) for result in results if result.error]
    if failed:
        trial, error = failed[0]
        cause = getattr(error, "cause", None) or error
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        reason = lines[0] if isinstance(cause, UserError) else lines[-1]
        raise UserError(f"{len(failed)} of {len(results)} trials failed; trial {trial}: {reason}")


def trial_runs(folder: Path) -> list[Path]:
    """The run folders in a folder of Tune's, the newest checkpoints of trials; none elsewhere."""
    newest: dict[Path, Path] = {}
    for run in sorted(folder.glob(f"*/{_CHECKPOINTS}/run.json")):
        newest[run.parents[1]] = run.parent
    return list(newest.values())


def _resources(config: Mapping[str, Any]) -> PlacementGroupFactory:
    import ray
    from ray.tune import PlacementGroupFactory

    there_are = ray.cluster_resources()
    gpu = min(1.0, there_are.get("GPU", 0) / there_are["CPU"])
    return PlacementGroupFactory([{"CPU": 1, "GPU": gpu if config.get("device", "cpu") != "cpu"
                                   else 0}])


def _launch_of(config: Mapping[str, Any]) -> Launch:
    from crl.launch import check_launch, default_launch

    check_launch(config, "the configuration of a trial")
    launch = {**default_launch(), "methods": [], **config}
    launch["methods"] = [{"name": m} if isinstance(m, str) else m for m in launch["methods"]]
    require(not launch["train"].get("workers"),
            "trials are workers themselves; leave train.workers out")
    launch["train"] = {**launch["train"], "checkpoint_every": "evaluation"}
    return launch


def _configure(folder: Path, launch: Launch) -> None:
    """Gives a run that is to go on the settings of a launch."""
    info = read_info(folder)
    config = info["config"]
    methods = {method["name"]: method for method in config["methods"]}
    info["config"] = {
        **{name: {**config[name], **launch[name]} for name in ("stream", "agent", "train")},
        "methods": [{**methods.get(m["name"], {}), **m} for m in launch["methods"]]}
    write_info(folder, {**info, "seed": launch["seed"]})


class _Report:
    """Tells Tune of every evaluation of a run, once the run goes on or is finished: then there is a
    checkpoint that goes on behind the evaluation.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._due = False

    def __call__(self, progress: Progress) -> None:
        from ray import tune

        if progress.phase == "evaluating":
            self._due = progress.env_step > 0
        if not self._due or progress.phase not in ("training", "finished"):
            return
        self._due = False
        run = Run(self._folder)
        newest = {name: int(run.evals()[name][-1]) for name in ("env_step", "train_task")}
        success = {task.name: value for task, value in
                   zip(progress.stream, progress.eval_success, strict=True)}
        tune.report({**newest, "wall_s": progress.wall_s, "success": success, **run.metrics()},
                    checkpoint=tune.Checkpoint.from_directory(self._folder))
