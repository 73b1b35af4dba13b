"""L2: weights are held near what they were at the end of each task, all alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.config import require
from crl.methods.anchors import Anchors
from crl.methods.base import Learner, Method
from crl.methods.parts import Part
from crl.replay import Batch
from crl.stream import Task, TaskStream


class L2(Method):
    """Adds λ Σₖ ‖θ − θₖ‖² over the finished tasks k, on the shared parameters.

    The control of every method that weighs parameters by importance: here all weigh 1 a task.
    """

    name = "l2"
    paper = "Kirkpatrick et al. 2017"
    needs = ("boundaries",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`L2`.

        Attributes:
            parts: Which parts to protect.
            coefficient: λ. Published for Continual World: 1e5.
        """

        parts: tuple[str, ...] = ("actor",)
        coefficient: float = 1e5

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._anchors = Anchors(self.parts)

    def loss(self, part: Part, batch: Batch) -> Tensor | None:
        penalty = self._anchors.penalty(part)
        return None if penalty is None else self.config.coefficient * penalty

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            ones = {n: torch.ones_like(p) for n, p in part.shared_parameters().items()}
            self._anchors.add(part, ones)

    def state_dict(self) -> Tree:
        return self._anchors.state_dict()

    def load_state_dict(self, tree: Tree) -> None:
        self._anchors.load_state_dict(tree)
