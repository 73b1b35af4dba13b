"""Replay scheduling: only tasks that are being forgotten are rehearsed.

The heuristic "global drop" of Klasson, Kjellström & Zhang 2023, "Learn the Time to Learn: Replay
Scheduling in Continual Learning"; their learned schedules are compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner
from crl.methods.rehearsal import TaskRehearsal
from crl.stream import Task, TaskStream


class ReplayScheduling(TaskRehearsal):
    """Rehearses finished tasks whose newest success is at most τ times their best, all alike.

    A task that never succeeded is among them: 0 is at most τ · 0. Success is that of the run's
    evaluations, so old tasks must be evaluated (``train.eval_tasks`` "all" or "seen"), and a
    schedule holds until the next evaluation. A task that was never evaluated is not rehearsed.
    """

    name = "replay-scheduling"
    paper = "Klasson et al. 2023"

    @dataclass(frozen=True)
    class Config(TaskRehearsal.Config):
        """Settings of :class:`ReplayScheduling`.

        Attributes:
            share: How likely each transition of a batch is replaced by one of a forgotten task.
            samples_per_task: Transitions stored per finished task.
            threshold: τ.
        """

        threshold: float = 0.96

        def __post_init__(self) -> None:
            super().__post_init__()
            require(0 <= self.threshold <= 1, "threshold must be between 0 and 1")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._finished: list[str] = []  # names, in the order of the memory
        self._best: dict[str, float] = {}
        self._newest: dict[str, float] = {}

    def task_weights(self) -> NDArray[np.float64]:
        return np.array([
            name in self._newest
            and self._newest[name] <= self.config.threshold * self._best[name]
            for name in self._finished], np.float64)

    def evaluated(self, task: Task, success: float) -> None:
        self._newest[task.name] = success
        self._best[task.name] = max(success, self._best.get(task.name, 0.0))

    def end_task(self, task: Task) -> None:
        super().end_task(task)
        self._finished.append(task.name)

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "finished": self._finished, "best": self._best,
                "newest": self._newest}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._finished = list(tree["finished"])
        self._best, self._newest = dict(tree["best"]), dict(tree["newest"])
