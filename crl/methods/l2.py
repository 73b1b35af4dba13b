"""L2: weights are held near what they were at the end of each task, all alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crl.config import require
from crl.methods.anchors import Anchored
from crl.stream import Task


class L2(Anchored):
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

        parts: tuple[str, ...] = ("policy",)
        coefficient: float = 1e5

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")

    config: Config

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            ones = {n: torch.ones_like(p) for n, p in part.shared_parameters().items()}
            self._anchors.add(part, ones)
