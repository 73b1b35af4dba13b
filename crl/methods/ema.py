"""Temporal ensemble: what is evaluated is an average of the weights over the latest steps.

Soutif-Cormerais et al. 2023, "Improving Online Continual Learning Performance and Stability with
Temporal Ensembles".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.parts import Parameters, Part
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream


class EMA(Method):
    """Deploys θ̄ ← dθ̄ + (1−d)θ, taken after every gradient step; learning never sees it.

    Exploring uses θ as ever. The average goes on across task boundaries: right after one, when
    learning is at its most violent, most of it is still the policy of before. The decay d rises
    from ``start`` to ``decay``, so that the random weights of the beginning are soon forgotten.
    """

    name = "ema"
    paper = "Soutif-Cormerais et al. 2023"
    claims = ("policy",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`EMA`.

        Attributes:
            part: The part to average.
            decay: d, once it has risen. Published: 0.99.
            start: d at the first step. Published: 0.9.
            ramp: Gradient steps from the one to the other, in a straight line. In the published
                code d is ``start`` for as long as the first task, then ``decay`` at once.
        """

        part: str = "actor"
        decay: float = 0.99
        start: float = 0.9
        ramp: int = 1000

        def __post_init__(self) -> None:
            require(0 <= self.start <= self.decay < 1,
                    "start and decay must be from 0 to below 1, start no larger than decay")
            require(self.ramp >= 0, "ramp must not be negative")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._device = next(self.parts[0].module.parameters()).device
        self._average: Parameters = {}
        self._steps = 0

    def updated(self, batch: Samples) -> None:
        now = {name: p.detach() for name, p in self.parts[0].parameters().items()}
        if self._steps == 0:
            self._average = {name: p.clone() for name, p in now.items()}
        else:
            torch._foreach_lerp_([self._average[name] for name in now], list(now.values()),
                                 1 - self.decay(self._steps))
        self._steps += 1

    def decay(self, step: int) -> float:
        """d at a gradient step, counted from 0."""
        left = max(0.0, 1 - step / self.config.ramp) if self.config.ramp else 0.0
        return self.config.decay - left * (self.config.decay - self.config.start)

    def deployed(self, part: Part, task: Task, parameters: Parameters) -> Parameters:
        if part.name != self.config.part:
            return parameters
        return {**parameters, **{name: p.clone() for name, p in self._average.items()}}

    def state_dict(self) -> Tree:
        return {"average": tensors_to_tree(self._average), "steps": self._steps}

    def load_state_dict(self, tree: Tree) -> None:
        self._average = tree_to_tensors(tree["average"], self._device)
        self._steps = tree["steps"]
