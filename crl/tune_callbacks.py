"""What follows a search by Ray Tune: a display, and Weights & Biases where it is installed.

Imports Ray, so only within :func:`crl.ray_session.session`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from crl.envs.catalog import make_stream
from crl.loop import Progress
from crl.stream import TaskStream


class Follow(tune.Callback):  # type: ignore[misc]
    """Calls :attr:`watch` with a trial's number and a :class:`Progress` after each report.

    Tune keeps callbacks among its files, so that the watcher stands in the class.
    """

    watch: ClassVar[Callable[[str, Progress], None]]

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any,
                        result: dict[str, Any], **info: Any) -> None:
        type(self).watch(trial_number(trial), _progress(trial, result, "training"))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        type(self).watch(trial_number(trial), _progress(trial, trial.last_result, "finished"))


def trial_number(trial: Any) -> str:
    """Of a trial in its search, five digits; the name of its folder."""
    number: str = trial.trial_id.rpartition("_")[2]
    return number


def trackers(folder: Path) -> list[Any]:
    """Weights & Biases, if it is installed: its files in ``folder``, offline unless ``WANDB_MODE``
    says otherwise.
    """
    try:
        importlib.import_module("wandb")
    except ImportError:
        return []
    from ray.air.integrations.wandb import WandbLoggerCallback

    mode = os.environ.setdefault("WANDB_MODE", "offline")
    return [WandbLoggerCallback(project="crl", dir=str(folder), mode=mode)]


def _progress(trial: Any, result: dict[str, Any], phase: str) -> Progress:
    stream: TaskStream = make_stream(**trial.config["stream"])
    progress = Progress(stream, phase)
    if "env_step" in result:
        progress.env_step, progress.task = result["env_step"], result["train_task"]
        progress.wall_s = result["wall_s"]
        progress.eval_success = list(result["success"].values())
    return progress
